//! A pipeline as one step with a context of its own, under construction.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::machine::Answer;
use flujo_core::plan::GroupNode;
use flujo_core::value::Value;

use super::Pipeline;
use crate::Handler;
use crate::domain::Raised;
use crate::handler::answer;

type Enter = dyn Fn(&Value, &Context, &mut Context) -> Result<(), Raised> + Send + Sync;
type Map = dyn Fn(&Value) -> Result<Value, Raised> + Send + Sync;
type Leave = dyn Fn(&Context, &mut Context) -> Result<(), Raised> + Send + Sync;

/// Runs a pipeline as one step in a context of its own, which begins empty. What goes into it and what comes back is
/// said field by field; without any [`bring_back`](Self::bring_back) every field of it is written into the context
/// around it.
#[derive(Clone)]
pub struct Import {
    name: Arc<str>,
    body: Pipeline,
    inherits: bool,
    enter: Vec<Arc<Enter>>,
    leave: Option<Vec<Arc<Leave>>>,
    input: Option<Arc<Map>>,
    output: Option<Arc<Map>>,
    deadline: Option<Duration>,
}

impl Import {
    /// Runs `body` as one step of that name.
    pub fn new(name: impl Into<Arc<str>>, body: impl Into<Pipeline>) -> Self {
        Self {
            name: name.into(),
            body: body.into(),
            inherits: false,
            enter: Vec::new(),
            leave: None,
            input: None,
            output: None,
            deadline: None,
        }
    }

    /// The context begins as a copy of the one around it instead of empty.
    #[must_use]
    pub fn inherit_context(mut self) -> Self {
        self.inherits = true;
        self
    }

    /// Writes the step's input into the own context at a dotted path.
    #[must_use]
    pub fn input_to(self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.enter(move |input, _, own| Ok(own.set_path(&path, input.clone())?))
    }

    /// Copies a value from the context around it into the own one, from one dotted path to another.
    #[must_use]
    pub fn pass(self, from: impl Into<String>, to: impl Into<String>) -> Self {
        let (from, to) = (from.into(), to.into());
        self.enter(move |_, around, own| copy((around, &from), (own, &to)))
    }

    /// Prepares the own context from the step's input and the context around it, after what was said before.
    #[must_use]
    pub fn enter<F>(mut self, enter: F) -> Self
    where
        F: Fn(&Value, &Context, &mut Context) -> Result<(), Raised> + Send + Sync + 'static,
    {
        self.enter.push(Arc::new(enter));
        self
    }

    /// Copies a value from the own context into the one around it, from one dotted path to another, when the pipeline
    /// has succeeded. Nothing comes back that isn't named then.
    #[must_use]
    pub fn bring_back(self, from: impl Into<String>, to: impl Into<String>) -> Self {
        let (from, to) = (from.into(), to.into());
        self.leave(move |own, around| copy((own, &from), (around, &to)))
    }

    /// Brings nothing back but what is named after this.
    #[must_use]
    pub fn bring_nothing_back(mut self) -> Self {
        self.leave.get_or_insert_default();
        self
    }

    /// Writes into the context around it from the own one, in place of writing every field.
    #[must_use]
    pub fn leave<F>(mut self, leave: F) -> Self
    where
        F: Fn(&Context, &mut Context) -> Result<(), Raised> + Send + Sync + 'static,
    {
        self.leave.get_or_insert_default().push(Arc::new(leave));
        self
    }

    /// Makes the pipeline's input from the step's.
    #[must_use]
    pub fn input<F>(mut self, map: F) -> Self
    where
        F: Fn(&Value) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.input = Some(Arc::new(map));
        self
    }

    /// Makes the step's output from the pipeline's.
    #[must_use]
    pub fn output<F>(mut self, map: F) -> Self
    where
        F: Fn(&Value) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.output = Some(Arc::new(map));
        self
    }

    /// The longest time the whole may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

fn copy((from, at): (&Context, &str), (to, path): (&mut Context, &str)) -> Result<(), Raised> {
    match from.get_path(at) {
        Some(value) => Ok(to.set_path(path, value.clone())?),
        None => Err(format!("there is nothing at `{at}` to be copied to `{path}`").into()),
    }
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import")
            .field("name", &self.name)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl From<Import> for Pipeline {
    fn from(import: Import) -> Self {
        let (inherits, enter, leave) = (import.inherits, import.enter, import.leave);
        let (input, output) = (import.input, import.output);
        let inherit = Handler::inline(move |decision| {
            let around = decision.context.clone();
            let mut own = if inherits {
                around.clone()
            } else {
                around.emptied()
            };
            for enter in &enter {
                enter(decision.value(), &around, &mut own)?;
            }
            *decision.context = own;
            match &input {
                Some(map) => map(decision.value()).map(answer),
                None => Ok(Answer::Done),
            }
        });
        let collect = Handler::inline(move |decision| {
            let lane = decision.lanes().first();
            let Some((lane, finish)) = lane.and_then(|lane| Some((lane, lane.finish.as_ref()?))) else {
                return Err("the pipeline did not end".into());
            };
            let mut around = decision.context.clone();
            match &leave {
                Some(leave) => leave
                    .iter()
                    .try_for_each(|leave| leave(&finish.context, &mut around))?,
                None => finish
                    .context
                    .iter()
                    .for_each(|(name, value)| around.set(Arc::clone(name), value.clone())),
            }
            *decision.context = around;
            let made = lane.output().unwrap_or(&Value::Null);
            match &output {
                Some(map) => map(made).map(answer),
                None => Ok(answer(made.clone())),
            }
        });
        let mut nodes = None;
        let body = import.body.place_in(&mut nodes);
        let node = GroupNode {
            body,
            inherit: Some(inherit),
            collect: Some(collect),
        };
        let mut nodes = nodes.unwrap_or_default();
        let id = nodes.group(import.name, node);
        Pipeline::of(nodes, id, import.deadline)
    }
}
