//! tower middleware for the Model Context Protocol.
