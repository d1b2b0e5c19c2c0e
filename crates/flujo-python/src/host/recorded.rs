//! A stored run that can be played again, as Python sees it.

use std::sync::Arc;

use flujo_core::usage::Usage;
use flujo_durable::RawValue;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::context::ContextCell;
use super::player::{self, Answers, Played, Player, Told, Unplayable};
use super::{names, usage};
use crate::cache::{Purpose, write};
use crate::store::errors::durable_error;

/// A stored run, read to be played again once.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct RecordedRun {
    pub(super) player: Arc<Player>,
    answers: Answers,
    stops: Vec<(bool, usize)>,
    status: &'static str,
    output: Option<RawValue>,
    context: Arc<ContextCell>,
    usage: Usage,
}

impl RecordedRun {
    pub(super) fn new(played: Played) -> Self {
        Self {
            player: Arc::new(played.player),
            answers: played.answers,
            stops: played.stops,
            status: played.status,
            output: played.output,
            context: played.context,
            usage: played.usage,
        }
    }
}

/// The exception for a run that can't be played again.
pub(super) fn unplayable(py: Python<'_>, run: &str, why: &Unplayable) -> PyErr {
    let made = match why {
        Unplayable::Durable(error) => return durable_error(py, error, None),
        Unplayable::Reason(reason) => names::replay_error(py).and_then(|class| {
            class.call1((format!(
                "run `{run}` can't be replayed: {reason}. A run that has ended can, whose log is short enough to be kept"
            ),))
        }),
    };
    made.map_or_else(|error| error, PyErr::from_value)
}

#[pymethods]
impl RecordedRun {
    /// How the run ended.
    #[getter]
    fn status(&self) -> &'static str {
        self.status
    }

    /// The times it stopped, its end included: whether it was cancelled, and how many calls had been cancelled by then.
    #[getter]
    fn stops(&self) -> Vec<(bool, usize)> {
        self.stops.clone()
    }

    /// The answers that were given, in order: the question, its step's path, and the answer; None where none came in time.
    #[getter]
    fn answers(&self, py: Python<'_>) -> Vec<(String, String, Option<Py<PyAny>>)> {
        let answers = self.answers.iter().map(|(question, path, answer)| {
            let answer = answer.as_ref().map(|answer| answer.clone_ref(py));
            (question.clone(), path.clone(), answer)
        });
        answers.collect()
    }

    /// What the run gave; None of one that didn't complete.
    #[getter]
    fn output<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match &self.output {
            Some(RawValue::Bytes(bytes)) => player::value(py, bytes),
            _ => None,
        }
    }

    /// The context that it ended with.
    #[getter]
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.context.plain(py)
    }

    /// What it used.
    #[getter]
    fn usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        usage::to_dict(py, self.usage)
    }

    /// Whether two values are the same, types and all.
    #[staticmethod]
    fn same(recorded: &Bound<'_, PyAny>, now: &Bound<'_, PyAny>) -> PyResult<bool> {
        match (write(recorded, Purpose::Key), write(now, Purpose::Key)) {
            (Ok(recorded), Ok(now)) => Ok(recorded.bytes == now.bytes),
            _ => Ok(recorded.get_type().is(now.get_type()) && recorded.eq(now)?),
        }
    }

    /// Whether it gave this.
    fn gave(&self, py: Python<'_>, output: &Bound<'_, PyAny>) -> bool {
        match &self.output {
            Some(RawValue::Bytes(bytes)) => player::differing(py, bytes, output).is_none(),
            Some(RawValue::Other(_)) | None => output.is_none(),
        }
    }

    /// What was asked otherwise than it had been, and what wasn't asked any more.
    fn differences(&self, py: Python<'_>) -> Vec<Told> {
        self.player.differences(py)
    }
}
