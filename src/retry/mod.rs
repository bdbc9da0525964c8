//! Repeats what is safe to repeat, and stops calling what is down.
