//! What is read from YAML, and what is said of it.

mod explanations;
mod mutated;
mod problems;
mod runs;
