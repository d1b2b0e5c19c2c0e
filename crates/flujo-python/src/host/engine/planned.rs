//! The plan of a runner's pipeline: made when it is needed, and kept as long as the definition stays what it was.

use std::sync::Arc;

use flujo_core::config::{Part, Twin, Twins};
use flujo_core::stats::{Statistics, StepSlot};
use pyo3::prelude::*;

use super::{EngineInner, Planned};
use crate::host::planning::{CompiledPlan, PlanWithSteps, definition_epoch};
use crate::host::rates;

impl EngineInner {
    /// What a run uses that starts now.
    pub(super) fn twins_for(&self, plan: &PlanWithSteps) -> Twins {
        let config = plan.plan.optimization().unwrap_or(&self.config);
        self.drills.of(Twins::decide(self.switch(), config))
    }

    /// The plan and the twin of each part, for a run that starts now.
    pub(in crate::host) fn plan_for_run(&self, py: Python<'_>) -> PyResult<(Planned, Twins)> {
        let planned = self.current_plan(py)?;
        let mut twins = self.twins_for(&planned.plan);
        if self.watch.has_failed(Part::Analysis) {
            twins = twins.with(Part::Analysis, Twin::Plain); // as this run had it
        }
        Ok((planned, twins))
    }

    /// The plan and the twin of each part, for a run of another version of the pipeline that goes on now.
    pub(in crate::host) fn plan_of_version(
        &self,
        py: Python<'_>,
        plan: Arc<PlanWithSteps>,
    ) -> PyResult<(Planned, Twins)> {
        let twins = self.twins_for(&plan);
        let planned = Planned {
            slots: self.slots_of(&plan),
            rates: rates::of_plan(py, &plan, &self.rates)?,
            plan,
        };
        Ok((planned, twins))
    }

    /// The plan, made anew when a definition has changed since the last look, or when nothing is kept between runs.
    pub(in crate::host) fn current_plan(&self, py: Python<'_>) -> PyResult<Planned> {
        let known = self.analyses.known();
        let twins = match &known {
            Some(planned) => self.twins_for(&planned.plan),
            None => self.drills.of(Twins::decide(self.switch(), &self.config)),
        };
        let twin = twins.of(Part::Analysis);
        if twin == Twin::Plain {
            return self
                .analyses
                .of(twin, definition_epoch(), || self.analyse(py, true));
        }
        let analyse = || self.analyse(py, false);
        let analysed = twins.attempt(Part::Analysis, || {
            self.analyses.of(twin, definition_epoch(), analyse)
        });
        match analysed {
            Ok(Ok(planned)) => {
                self.watch.works(Part::Analysis);
                Ok(planned)
            }
            // What was kept may be no good; if it is the definition that is wrong, it is so again.
            Ok(Err(error)) => {
                let planned = self.analyse(py, true)?;
                self.degraded(py, Part::Analysis, &error.to_string())?;
                Ok(planned)
            }
            Err(reason) => {
                let planned = self
                    .analyses
                    .of(Twin::Plain, definition_epoch(), || self.analyse(py, true))?;
                self.gave_way(py, Part::Analysis, &reason)?;
                Ok(planned)
            }
        }
    }

    /// What the compiler makes of the definition: the same plan again when it was another definition that changed.
    fn analyse(&self, py: Python<'_>, fresh: bool) -> PyResult<Planned> {
        let compiled = self.compile.bind(py).call1((fresh,))?;
        let plan = Arc::clone(&compiled.cast_into::<CompiledPlan>()?.get().inner);
        Ok(Planned {
            slots: self.slots_of(&plan),
            rates: rates::of_plan(py, &plan, &self.rates)?,
            plan,
        })
    }

    /// Where the steps of a plan are counted, by node.
    pub(in crate::host) fn slots_of(&self, plan: &PlanWithSteps) -> Arc<[StepSlot]> {
        slots_in(&self.statistics, plan)
    }
}

pub(super) fn slots_in(statistics: &Statistics, plan: &PlanWithSteps) -> Arc<[StepSlot]> {
    let names = plan.plan.nodes().map(|(_, node)| Arc::clone(&node.name));
    let names: Vec<Arc<str>> = names.collect();
    Arc::from(statistics.slots(&names))
}
