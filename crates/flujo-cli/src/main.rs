//! The `flujo` command.
fn main() {}
