//! Claims about the optimisations: the rows measured in Rust, and the verdict on those measured in Python.

use flujo_claims::{Claim, Claims, Comparison, Effort, Host, NotMeasured, Promise, ROWS, Row};
use flujo_core::config::Twin;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// A table of claims that grows row by row.
#[pyclass(frozen, name = "Claims", module = "flujo._native")]
struct PyClaims(std::sync::Mutex<Vec<Claim>>);

#[pymethods]
impl PyClaims {
    #[new]
    fn new() -> Self {
        Self(std::sync::Mutex::default())
    }

    /// The names of the rows that are measured in Rust.
    #[staticmethod]
    fn rows() -> Vec<&'static str> {
        ROWS.iter().map(|row| row.name).collect()
    }

    /// Measures a row in Rust and adds it. `apart` is called with a twin's name and a number of samples where memory is
    /// measured, and gives what a process of its own said.
    fn measure(&self, py: Python<'_>, row: &str, pairs: usize, apart: Py<PyAny>) -> PyResult<()> {
        let found = ROWS.iter().find(|known| known.name == row);
        let row: &Row = found.ok_or_else(|| PyValueError::new_err(format!("there is no row {row:?}")))?;
        let effort = Effort {
            pairs,
            ..Effort::FULL
        };
        let ask = |twin: Twin, samples: usize| {
            Python::attach(|py| apart.call1(py, (twin.name(), samples))?.extract::<Vec<f64>>(py))
                .map_err(|error| error.to_string())
        };
        let claim = py.detach(|| row.claim(effort, &ask));
        self.add(claim)
    }

    /// Judges what was measured in Python and adds it.
    #[pyo3(signature = (*, name, part, unit, promise, seed, target, plain, optimized, reference = None))]
    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)] // all that is known of a row, by name
    fn judge(
        &self,
        name: &str,
        part: &str,
        unit: &str,
        promise: &str,
        seed: f64,
        target: f64,
        plain: Vec<f64>,
        optimized: Vec<f64>,
        reference: Option<(String, Vec<f64>)>,
    ) -> PyResult<()> {
        let promise = match promise {
            "less" => Promise::Less { seed, target },
            "more" => Promise::More { seed, target },
            other => {
                return Err(PyValueError::new_err(format!(
                    "promise must be 'less' or 'more', not {other:?}"
                )));
            }
        };
        let measured = Comparison {
            plain,
            optimized,
            reference: reference.map(|(name, figures)| (name.into(), figures)),
        };
        self.add(Claim::judge(name, part, Host::Python, unit, promise, &measured))
    }

    /// The table for people.
    fn table(&self) -> String {
        flujo_claims::table(&self.lock())
    }

    /// The table as a drawing, SVG.
    fn picture(&self) -> String {
        flujo_claims::picture(&self.lock())
    }

    /// The table as JSON.
    fn json(&self) -> PyResult<String> {
        self.all()
            .json()
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    /// Whether every row holds.
    fn hold(&self) -> bool {
        self.all().hold()
    }
}

impl PyClaims {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Claim>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn all(&self) -> Claims {
        Claims {
            claims: self.lock().clone(),
        }
    }

    fn add(&self, claim: Result<Claim, NotMeasured>) -> PyResult<()> {
        let claim = claim.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        self.lock().push(claim);
        Ok(())
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyClaims>()
}
