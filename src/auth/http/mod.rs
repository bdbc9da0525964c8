//! The HTTP companion: the same guard in front of rmcp's streamable HTTP service.
