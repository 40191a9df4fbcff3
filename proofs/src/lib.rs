//! Why the tables are right.
