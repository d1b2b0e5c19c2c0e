//! A result in a form that is the same for every host: everything but times and identities.

use std::collections::BTreeMap;

use flujo_core::machine::{
    Domain, ExitReason, Failure, Finish, HookPoint, LanePlace, NoticeKind, Outcome, Record, Role, Status,
    Stop,
};
use flujo_core::plan::{Kind, Plan, Work};
use flujo_core::usage::Usage;
use serde::{Deserialize, Serialize};

use crate::{Callable, Context, Object, Ran, Simulated};

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Its end.
    pub end: EndView,
    /// What user code was called, in order, by lane. A lane is named `parallel1[a]/map2[3]`, the run itself "".
    pub calls: BTreeMap<String, Vec<CallView>>,
    /// What was told of it, in order, by lane: `attempt_failed step1 2`.
    pub events: BTreeMap<String, Vec<String>>,
}

/// How a run or lane ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndView {
    /// `completed`, `failed`, `cancelled`, `limit_exceeded` or `fatal`.
    pub status: String,
    /// Its output.
    pub output: Option<Object>,
    /// Why it failed.
    pub failure: Option<FailureView>,
    /// Its final context.
    pub context: Context,
    /// What it used.
    pub usage: Usage,
    /// Its steps, parents first.
    pub steps: Vec<StepView>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// Its name.
    pub name: String,
    /// `step`, `body` (a step whose work is a part of the pipeline), `conditional`, `parallel`, `router`, `map`, `group`,
    /// `loop`, `states` or `human`.
    pub construct: String,
    /// The step around it.
    pub parent: Option<u32>,
    /// How it stands.
    pub status: Status,
    /// Attempts made.
    pub attempts: u32,
    /// What it used.
    pub usage: Usage,
    /// Its output.
    pub output: Option<Object>,
    /// Why it failed.
    pub failure: Option<FailureView>,
    /// Why attempts failed.
    pub attempt_failures: Vec<FailureView>,
    /// The fallback that ran, and why.
    pub fallback: Option<(u32, FailureView)>,
    /// The branch taken, or the last state.
    pub branch: Option<String>,
    /// Why a loop ended.
    #[serde(default)]
    pub exit: Option<ExitReason>,
    /// Its lanes, in declared order.
    pub lanes: Vec<LaneView>,
}

/// One lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaneView {
    /// Its name.
    pub name: String,
    /// How it ended; `None` when it never began.
    pub end: Option<EndView>,
}

/// One failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureView {
    /// The stage.
    pub kind: flujo_core::machine::FailureKind,
    /// What is said of it.
    pub text: String,
    /// The error's type.
    pub error_type: String,
    /// The step.
    pub step: String,
    /// The attempt.
    pub attempt: u32,
    /// What led to it.
    pub causes: Vec<FailureView>,
}

/// One call of user code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallView {
    /// What for: `agent`, `pre_step`.
    pub role: String,
    /// By which step.
    pub step: String,
    /// Which of its callables of that role.
    pub index: u32,
    /// On which attempt.
    pub attempt: u32,
}

/// What a host says where the others have words of their own, from its first word to its last: a conflict of branches.
const CONFLICTS: [(&str, &str); 2] = [
    ("branches '", " cannot both be kept"),
    ("branches cannot be merged at `", "or let one branch write it"),
];
/// What all of them say instead.
const CONFLICT: &str = "conflicting writes";

/// A text as every host would say it.
pub fn plain(text: &str) -> String {
    let mut plain = text.to_owned();
    for (begin, end) in CONFLICTS {
        while let Some(start) = plain.find(begin)
            && let Some(length) = plain[start..].find(end)
        {
            plain.replace_range(start..start + length + end.len(), CONFLICT);
        }
    }
    plain
}

/// What a step's role is called; `None` for what hosts do by themselves.
pub fn called_for(role: Role) -> Option<&'static str> {
    Some(match role {
        Role::PromptProcessor => "prompt",
        Role::Agent => "agent",
        Role::Redirect => "redirect",
        Role::OutputProcessor => "output",
        Role::Plugin => "plugin",
        Role::Validator => "validator",
        Role::Condition => "condition",
        Role::BranchInput => "branch_input",
        Role::BranchOutput => "branch_output",
        Role::Items => "items",
        Role::Hook(point) => match point {
            HookPoint::PreRun => "pre_run",
            HookPoint::PreStep => "pre_step",
            HookPoint::PostStep => "post_step",
            HookPoint::OnStepFailure => "on_step_failure",
            HookPoint::PauseRequested => "on_pause_requested",
            HookPoint::PostRun => "post_run",
        },
        Role::Select => "select",
        Role::LoopInput => "loop_input",
        Role::Exit => "exit",
        Role::NextInput => "next_input",
        Role::LoopOutput => "loop_output",
        Role::Transition => "transition",
        Role::Question => "question",
        Role::Accept => "accept",
        Role::DefaultAnswer => "default_answer",
        Role::Describe => "describe",
        Role::CacheKey
        | Role::NextItem
        | Role::Apply
        | Role::Persist
        | Role::Inherit
        | Role::Merge
        | Role::Collect => {
            return None;
        }
    })
}

/// The roles whose callables some hosts call without saying on which attempt, and the hooks that some do not have.
pub const PROCESSING: [&str; 3] = ["prompt", "agent", "output"];

impl View {
    pub(super) fn of(plan: &Plan<Callable>, ran: &Ran) -> Self {
        let plain_context = |context: &Context| {
            let mut copy = Context::default();
            for (field, value) in context.fields() {
                copy.write(field, &crate::Write::Set(said(value)));
            }
            copy
        };
        let mut view = Self {
            end: end(plan, &ran.finish, &said, &plain_context),
            calls: BTreeMap::new(),
            events: BTreeMap::new(),
        };
        for call in &ran.trace.calls {
            let Some(role) = called_for(call.role) else {
                continue;
            };
            let lane = lane_name(plan, call.lane.as_deref());
            view.calls.entry(lane).or_default().push(CallView {
                role: role.to_owned(),
                step: plan.node(call.node).name.to_string(),
                index: match call.role {
                    // Which branch, or whose redirect, is told by the records.
                    Role::BranchInput | Role::BranchOutput | Role::Redirect => 0,
                    _ => call.index,
                },
                attempt: call.attempt,
            });
        }
        for told in &ran.trace.notices {
            let (lane, notice) = (lane_name(plan, told.lane.as_deref()), &told.notice);
            let event = format!(
                "{} {} {}",
                event_name(&notice.kind),
                plan.node(notice.node).name,
                notice.attempt
            );
            view.events.entry(lane).or_default().push(event);
        }
        view
    }
}

/// A value whose texts are plain ones.
fn said(object: &Object) -> Object {
    match object {
        Object::Text(text) => Object::Text(plain(text).into()),
        other => other.clone(),
    }
}

fn event_name(kind: &NoticeKind<Simulated>) -> &'static str {
    match kind {
        NoticeKind::StepStarted => "step_started",
        NoticeKind::AttemptStarted => "attempt_started",
        NoticeKind::AttemptFailed(_) => "attempt_failed",
        NoticeKind::CacheHit(_) => "cache_hit",
        NoticeKind::FallbackStarted => "fallback_started",
        NoticeKind::Paused => "paused",
        NoticeKind::Resumed => "resumed",
        NoticeKind::StepFinished => "step_finished",
        NoticeKind::StepFailed(_) => "step_failed",
        NoticeKind::StepStopped { .. } => "step_stopped",
    }
}

fn lane_name<C>(plan: &Plan<C>, lane: Option<&LanePlace>) -> String {
    let mut parts = Vec::new();
    let mut next = lane;
    while let Some(place) = next {
        let node = plan.node(place.node);
        let index = match &node.kind {
            Kind::Parallel(parallel) => parallel.branches[place.index as usize].0.to_string(),
            _ => place.index.to_string(),
        };
        parts.push(format!("{}[{index}]", node.name));
        next = place.parent.as_deref();
    }
    parts.reverse();
    parts.join("/")
}

/// The end of a run or lane of any host; `object` and `context` turn its values into those of the simulation.
pub fn end<D: Domain>(
    plan: &Plan<D::Callable>,
    finish: &Finish<D>,
    object: &impl Fn(&D::Object) -> Object,
    context: &impl Fn(&D::Context) -> Context,
) -> EndView {
    let (status, output, failure) = match &finish.outcome {
        Outcome::Completed(output) => ("completed", Some(object(output)), None),
        Outcome::Failed(failure) => ("failed", None, Some(failure)),
        Outcome::Stopped(Stop::Cancelled | Stop::Aborted(_)) => ("cancelled", None, None),
        Outcome::Stopped(Stop::Paused) => ("paused", None, None),
        Outcome::Stopped(Stop::LimitExceeded(_)) => ("limit_exceeded", None, None),
        Outcome::Stopped(Stop::Fatal(failure)) => ("fatal", None, Some(failure)),
    };
    let step = |record: &Record<D>| step(plan, record, object, context);
    EndView {
        status: status.to_owned(),
        output,
        failure: failure.map(|failure| view_of(failure)),
        context: context(&finish.context),
        usage: finish.usage,
        steps: finish.history.records.iter().map(step).collect(),
    }
}

fn step<D: Domain>(
    plan: &Plan<D::Callable>,
    record: &Record<D>,
    object: &impl Fn(&D::Object) -> Object,
    context: &impl Fn(&D::Context) -> Context,
) -> StepView {
    let node = plan.node(record.node);
    let details = record.details.as_deref();
    StepView {
        name: node.name.to_string(),
        construct: match &node.kind {
            Kind::Sequence(_) => "sequence",
            Kind::Step(step) if matches!(step.work, Work::Body(_)) => "body",
            Kind::Step(_) => "step",
            Kind::Conditional(_) => "conditional",
            Kind::Parallel(node) if node.router.is_some() => "router",
            Kind::Parallel(_) => "parallel",
            Kind::Map(_) => "map",
            Kind::Group(_) => "group",
            Kind::Loop(_) => "loop",
            Kind::States(_) => "states",
            Kind::Human(_) => "human",
            Kind::Guard(_) => "guard",
        }
        .to_owned(),
        parent: record.parent,
        status: record.status,
        attempts: record.attempts,
        usage: record.usage,
        output: record.output.as_ref().map(object),
        failure: record.failure.as_deref().map(view_of),
        attempt_failures: details.map_or_else(Vec::new, |details| {
            details
                .attempt_failures
                .iter()
                .map(|failure| view_of(failure))
                .collect()
        }),
        fallback: details
            .and_then(|details| details.fallback.as_ref())
            .map(|(place, failure)| (*place, view_of(failure))),
        branch: details.and_then(|details| Some(details.branch.as_ref()?.to_string())),
        exit: details.and_then(|details| Some(details.loop_end?.reason)),
        lanes: record
            .lanes()
            .iter()
            .map(|lane| LaneView {
                name: lane.name.to_string(),
                end: lane
                    .finish
                    .as_ref()
                    .map(|finish| end(plan, finish, object, context)),
            })
            .collect(),
    }
}

fn view_of<D: Domain>(failure: &Failure<D>) -> FailureView {
    let text = plain(&failure.to_string());
    FailureView {
        kind: failure.kind,
        // The error of a conflict has another name in every language.
        error_type: if text.contains(CONFLICT) {
            CONFLICT.to_owned()
        } else {
            failure.error_type.to_string()
        },
        text,
        step: failure.step.to_string(),
        attempt: failure.attempt,
        causes: failure.causes.iter().map(|cause| view_of(cause)).collect(),
    }
}
