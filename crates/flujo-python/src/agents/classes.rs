//! Classes of the Python package that agents answer with, looked up once.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

macro_rules! class {
    ($($name:ident => $module:literal . $attribute:literal;)+) => {
        $(
            pub(super) fn $name(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
                static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
                CELL.import(py, $module, $attribute)
            }
        )+
    };
}

class! {
    agent_result => "flujo.agents._outcomes"."AgentResult";
    agent_usage => "flujo.agents._outcomes"."AgentUsage";
    agent_failed => "flujo.agents._outcomes"."AgentFailed";
    agent_failed_permanently => "flujo.agents._outcomes"."AgentFailedPermanently";
    configuration_error => "flujo.exceptions"."ConfigurationError";
    base_model => "pydantic"."BaseModel";
}
