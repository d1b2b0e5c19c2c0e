//! What a runner knows of how its pipeline has changed since a run began, asked of a function of Python.

use std::sync::{Arc, Mutex, PoisonError};

use flujo_durable::{Migrate, Migration};
use pyo3::prelude::*;

/// A run that began with another pipeline, before it is decided whether it can go on.
#[pyclass(module = "flujo._native", frozen, name = "Migration")]
pub(crate) struct RunMigration {
    steps: Vec<String>,
    differences: Vec<String>,
    renamed: Mutex<Vec<(String, String)>>,
}

#[pymethods]
impl RunMigration {
    /// The paths of the steps that the pipeline had.
    #[getter]
    fn steps(&self) -> Vec<String> {
        self.steps.clone()
    }

    /// In what the pipeline differs now.
    #[getter]
    fn differences(&self) -> Vec<String> {
        self.differences.clone()
    }

    /// The step at the path `before` and all that is in it is at the path `now`.
    fn rename(&self, before: String, now: String) {
        let mut renamed = self.renamed.lock().unwrap_or_else(PoisonError::into_inner);
        renamed.push((before, now));
    }
}

/// Asks `hook`. What it raises keeps the run from going on.
pub(super) fn migrating(hook: Py<PyAny>) -> Arc<Migrate> {
    Arc::new(move |migration: &mut Migration| Python::attach(|py| ask(py, hook.bind(py), migration)))
}

fn ask(py: Python<'_>, hook: &Bound<'_, PyAny>, migration: &mut Migration) {
    let steps = migration.before().plan().map(|plan| {
        let paths = plan
            .nodes()
            .filter(|(_, node)| !node.inner && !node.path.is_empty());
        paths.map(|(_, node)| node.path.to_string()).collect()
    });
    let told = RunMigration {
        steps: steps.unwrap_or_default(),
        differences: migration.differences().to_vec(),
        renamed: Mutex::default(),
    };
    let asked = Bound::new(py, told).and_then(|told| hook.call1((&told,)).map(|_| told));
    match asked {
        Ok(told) => {
            let renamed = told.get().renamed.lock().unwrap_or_else(PoisonError::into_inner);
            for (before, now) in &*renamed {
                migration.rename(before, now);
            }
        }
        Err(error) => migration.refuse(error.to_string()),
    }
}
