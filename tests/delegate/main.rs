//! What delegation promises, over real transports.
