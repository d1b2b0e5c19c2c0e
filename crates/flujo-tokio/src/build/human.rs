//! A question to somebody outside, under construction.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::{Context, PathError};
use flujo_core::plan::HumanNode;
use flujo_core::value::Value;

use super::Pipeline;
use crate::domain::Raised;
use crate::{Decision, Handler};

type Check = dyn Fn(Value, &mut Context) -> Result<Value, Raised> + Send + Sync;

/// Asks somebody outside and waits: the run pauses at this very point and goes on with the answer as output.
#[derive(Clone)]
pub struct Human {
    name: Arc<str>,
    question: Handler,
    checks: Vec<Arc<Check>>,
    timeout: Option<Duration>,
    default: Option<Handler>,
    deadline: Option<Duration>,
}

impl Human {
    /// A question whose message is the previous output, as text.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            question: Handler::processor(|input, _| Ok(input.clone())),
            checks: Vec::new(),
            timeout: None,
            default: None,
            deadline: None,
        }
    }

    /// Makes the question from the previous output and the context: text, or a map whose `message` is shown and whose
    /// other entries are for whoever asks.
    #[must_use]
    pub fn question<F>(mut self, question: F) -> Self
    where
        F: Fn(&Value, &Context) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.question = Handler::processor(question);
        self
    }

    /// The same; it is told the outputs of earlier steps.
    #[must_use]
    pub fn informed_question<F>(mut self, question: F) -> Self
    where
        F: Fn(&Decision<'_>) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.question = Handler::informed_value(question);
        self
    }

    /// Checks an answer and makes of it what goes on; may write into the context. An error leaves the question open,
    /// with nothing written. Several checks run one after the other.
    #[must_use]
    pub fn accept<F>(mut self, check: F) -> Self
    where
        F: Fn(Value, &mut Context) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.checks.push(Arc::new(check));
        self
    }

    /// Accepts an answer or says why not; see [`accept`](Self::accept).
    #[must_use]
    pub fn validator<F>(self, validate: F) -> Self
    where
        F: Fn(&Value, &Context) -> Result<(), String> + Send + Sync + 'static,
    {
        self.accept(move |answer, context| {
            validate(&answer, context)?;
            Ok(answer)
        })
    }

    /// Writes the answer into the context at a dotted path.
    #[must_use]
    pub fn sink_to(self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.accept(move |answer, context| {
            let written: Result<(), PathError> = context.set_path(&path, answer.clone());
            written?;
            Ok(answer)
        })
    }

    /// How long an answer may take, in time of the world outside; for ever without this. Without a default the step
    /// fails then.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The answer when none came in time.
    #[must_use]
    pub fn default_answer(self, answer: Value) -> Self {
        self.default_from(move |_, _| Ok(answer.clone()))
    }

    /// Makes the answer when none came in time, from the question and the context.
    #[must_use]
    pub fn default_from<F>(mut self, answer: F) -> Self
    where
        F: Fn(&Value, &Context) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.default = Some(Handler::processor(answer));
        self
    }

    /// The same; it is told the outputs of earlier steps.
    #[must_use]
    pub fn informed_default<F>(mut self, answer: F) -> Self
    where
        F: Fn(&Decision<'_>) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.default = Some(Handler::informed_value(answer));
        self
    }

    /// The longest active time the step may take; time stands still while the run waits.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

impl fmt::Debug for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Human")
            .field("name", &self.name)
            .field("checks", &self.checks.len())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl From<Human> for Pipeline {
    fn from(human: Human) -> Self {
        let checks = human.checks;
        let node = HumanNode {
            question: human.question,
            accept: (!checks.is_empty()).then(|| Handler::accept(checks)),
            timeout: human.timeout,
            default: human.default,
        };
        let mut nodes = flujo_core::pipeline::Pipeline::new();
        let id = nodes.human(human.name, node);
        Pipeline::of(nodes, id, human.deadline)
    }
}

impl Handler {
    /// All checks of an answer, as one.
    fn accept(checks: Vec<Arc<Check>>) -> Self {
        Self::inline(move |decision| {
            let mut written = decision.context.clone();
            let answer = checks
                .iter()
                .try_fold(decision.value().clone(), |answer, check| {
                    check(answer, &mut written)
                })?;
            *decision.context = written;
            Ok(crate::handler::answer(answer))
        })
    }
}
