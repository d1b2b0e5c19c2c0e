//! The `flujo` command inside of Python: the same program as the binary.

use std::ffi::OsString;
use std::io::Write;
use std::sync::Arc;

use flujo_agents::Prices;
use flujo_cli::Program;
use pyo3::prelude::*;

use crate::functions::PythonFunctions;

/// Does what the arguments ask, the program's own name first among them, and returns the exit code. `itself` starts this
/// program again.
#[pyfunction]
fn run_command_line(py: Python<'_>, arguments: Vec<OsString>, itself: Vec<OsString>) -> u8 {
    py.detach(|| {
        // What is wrong with the file is told by the command that reads it.
        let folder = std::env::current_dir().unwrap_or_default();
        let functions = PythonFunctions {
            prices: Arc::new(Prices::nearest(&folder).unwrap_or_default()),
        };
        let program = Program {
            functions: Some(&functions),
            itself,
        };
        let exit = flujo_cli::run_in(&program, arguments);
        // Rust flushes it at the end of its own programs only. A reader that is gone needs nothing any more.
        let _ = std::io::stdout().flush();
        exit
    })
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(run_command_line, module)?)
}
