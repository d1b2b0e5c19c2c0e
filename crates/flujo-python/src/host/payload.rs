//! What hooks are told. Payloads are dataclasses with slots, one or two for each step: they are filled slot by slot, since
//! running their `__init__` would cost more than all the rest of telling a hook.

use flujo_core::machine::HookPoint;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use super::domain::Call;
use super::record;
use super::shared::Shared;
use crate::vectorcall::SlottedClass;

/// A payload class, with the defaults of its fields.
struct PayloadClass {
    class: SlottedClass,
    defaults: Vec<Py<PyAny>>,
}

impl PayloadClass {
    fn of(py: Python<'_>, point: HookPoint) -> PyResult<&'static Self> {
        static CLASSES: [PyOnceLock<PayloadClass>; 6] = [const { PyOnceLock::new() }; 6];
        let (place, name) = match point {
            HookPoint::PreRun => (0, "PreRunPayload"),
            HookPoint::PreStep => (1, "PreStepPayload"),
            HookPoint::PostStep => (2, "PostStepPayload"),
            HookPoint::OnStepFailure => (3, "OnStepFailurePayload"),
            HookPoint::PostRun => (4, "PostRunPayload"),
            HookPoint::PauseRequested => (5, "OnPauseRequestedPayload"),
        };
        CLASSES[place].get_or_try_init(py, || Self::named(py, name))
    }

    fn named(py: Python<'_>, name: &str) -> PyResult<Self> {
        let class = py.import("flujo.domain.events")?.getattr(name)?;
        let dataclasses = py.import("dataclasses")?;
        let missing = dataclasses.getattr("MISSING")?;
        let (mut names, mut defaults) = (Vec::new(), Vec::new());
        for field in dataclasses.call_method1("fields", (&class,))?.try_iter()? {
            let field = field?;
            let default = field.getattr("default")?;
            defaults.push(if default.is(&missing) {
                py.None()
            } else {
                default.unbind()
            });
            names.push(field.getattr("name")?.cast_into::<PyString>()?);
        }
        Ok(Self {
            class: SlottedClass::new(class.cast()?, names)?,
            defaults,
        })
    }

    /// An instance whose first fields are these; the others have their defaults.
    fn with<'py, const GIVEN: usize>(
        &self,
        py: Python<'py>,
        given: [Option<Bound<'py, PyAny>>; GIVEN],
    ) -> PyResult<Bound<'py, PyAny>> {
        let defaults = self.defaults.iter().skip(GIVEN);
        let given = given
            .into_iter()
            .map(|value| value.unwrap_or_else(|| py.None().into_bound(py)));
        self.class
            .instance(py, given.chain(defaults.map(|value| value.bind(py).clone())))
    }
}

/// The payload of `point`; `input` is what a run or step is given, `result` what it gave.
pub(super) fn payload<'py>(
    py: Python<'py>,
    shared: &Shared,
    call: &Call,
    point: HookPoint,
    input: Option<Bound<'py, PyAny>>,
    result: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let class = PayloadClass::of(py, point)?;
    let (context, resources) = (Some(call.context.object(py)?), shared.resources(py));
    match point {
        HookPoint::PreRun => {
            let name = PyString::new(py, shared.plan.plan.name()).into_any();
            class.with(
                py,
                [input, context, resources, Some(shared.run_id(py)?), Some(name)],
            )
        }
        HookPoint::PreStep => {
            let step = record::definition_of(&shared.plan, call.node).map(|step| step.bind(py).clone());
            class.with(py, [step, input, context, resources])
        }
        HookPoint::PostStep | HookPoint::OnStepFailure | HookPoint::PostRun | HookPoint::PauseRequested => {
            class.with(py, [result, context, resources])
        }
    }
}
