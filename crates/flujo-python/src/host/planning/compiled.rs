//! A compiled pipeline as Python sees it.

use std::sync::Arc;

use pyo3::prelude::*;

use super::PlanWithSteps;

/// A compiled pipeline.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct CompiledPlan {
    pub(crate) inner: Arc<PlanWithSteps>,
}

#[pymethods]
impl CompiledPlan {
    #[getter]
    fn name(&self) -> &str {
        self.inner.plan.name()
    }

    /// The definition's object at a path; None where there is none.
    fn step_at(&self, py: Python<'_>, path: &str) -> Option<Py<PyAny>> {
        let mut nodes = self.inner.plan.nodes();
        let (id, _) = nodes.find(|(_, node)| &*node.path == path)?;
        let step = self.inner.steps.get(id.0 as usize)?.as_ref()?;
        Some(step.clone_ref(py))
    }

    /// A digest of structure, names and configuration, in hexadecimal.
    #[getter]
    fn fingerprint(&self) -> String {
        self.inner.plan.fingerprint().to_string()
    }

    fn __len__(&self) -> usize {
        self.inner.plan.len()
    }

    /// The path of every node that has a name, in the order of their ids.
    fn paths(&self) -> Vec<String> {
        let named = self.inner.plan.nodes().filter(|(_, node)| !node.name.is_empty());
        named.map(|(_, node)| node.path.to_string()).collect()
    }
}
