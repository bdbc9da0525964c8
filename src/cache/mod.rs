//! Answers from memory, for each caller apart.
