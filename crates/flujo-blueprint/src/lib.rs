//! YAML blueprints: a pipeline as a file, checked as a whole, with the place of every error.
//!
//! [`Blueprint::load`] reads a file and everything it imports and reports all problems at once, each with a rule, a
//! line and column, and a cure. Reading runs nothing and opens nothing but these files.

mod agents;
mod build;
mod function;
mod grammar;
mod mermaid;
mod model;
mod node;
mod permission;
mod position;
mod problem;
mod read;
mod reference;
mod rule;
mod schema;
mod structure;
mod template;

pub use function::{Function, Functions};
pub use model::{Blueprint, Requirement};
pub use node::{MAX_DEPTH, parse_value};
pub use permission::{Allowed, Grant};
pub use position::{Position, Source};
pub use problem::{Problem, Problems};
pub use reference::reference;
pub use rule::Rule;
pub use schema::json_schema;
