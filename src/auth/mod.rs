//! Who is calling, what they may do, and a record of it.
