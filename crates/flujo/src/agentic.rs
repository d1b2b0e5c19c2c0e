//! A planner that says what is to be done next, until it has finished: an agentic loop, typed.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::value::{CodecError, Value, from_value, to_value};
use flujo_tokio::{AgenticLoop as Untyped, Raised};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::payload::{look, wrap};
use crate::pipeline::{Pipeline, Stage};
use crate::{Context, Payload, Unify};

/// What a planner wants done next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentCommand {
    /// Run an agent; the planner gets its output, or its error.
    RunAgent {
        /// The agent.
        agent_name: String,
        /// Its input.
        #[serde(default)]
        input_data: Value,
    },
    /// Ask somebody outside; the planner gets the answer.
    AskHuman {
        /// The question.
        question: String,
    },
    /// The goal is reached.
    Finish {
        /// The loop's output.
        final_answer: Value,
    },
}

impl AgentCommand {
    /// Runs an agent on an input.
    ///
    /// # Errors
    /// [`CodecError`] when the input can't be kept as data.
    pub fn run_agent(name: impl Into<String>, input: &impl Serialize) -> Result<Self, CodecError> {
        Ok(Self::RunAgent {
            agent_name: name.into(),
            input_data: to_value(input)?,
        })
    }

    /// Asks somebody outside.
    pub fn ask_human(question: impl Into<String>) -> Self {
        Self::AskHuman {
            question: question.into(),
        }
    }

    /// Ends the loop with an answer.
    ///
    /// # Errors
    /// [`CodecError`] when the answer can't be kept as data.
    pub fn finish(answer: &impl Serialize) -> Result<Self, CodecError> {
        Ok(Self::Finish {
            final_answer: to_value(answer)?,
        })
    }
}

/// One command and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentTurn {
    /// Which, from 1.
    pub turn: u32,
    /// The command.
    pub generated_command: AgentCommand,
    /// The agent's output, the text of its error, or the answer.
    pub execution_result: Value,
}

/// What the planner of an agentic loop works on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planning<G> {
    /// What the loop was given.
    pub goal: G,
    /// What came of the last command; null at first.
    pub last_command_result: Value,
    /// All commands so far, in order.
    pub command_log: Vec<AgentTurn>,
}

/// A planner and the agents it may run; see [`agentic_loop`].
#[must_use = "an agentic loop does nothing until its pipeline runs"]
pub struct AgenticLoop<G, O = Value, C = ()> {
    untyped: Untyped,
    types: PhantomData<fn(G, C) -> O>,
}

/// A loop under a name: `planner` looks at what has been done and gives the next command, until it gives
/// [`AgentCommand::Finish`]; at most 10 times unless [`max_loops`](AgenticLoop::max_loops) says otherwise. An agent that
/// fails, that isn't there, or whose input doesn't fit it doesn't end the loop: the planner is told. A context with a field
/// `command_log: Vec<AgentTurn>` gets the commands too.
///
/// ```
/// use flujo::{AgentCommand, BoxError, Flujo, Planning, agentic_loop, step};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// let planner = step("plan", |now: Planning<String>| async move {
///     Ok::<_, BoxError>(match now.last_command_result.as_int() {
///         None => AgentCommand::run_agent("count", &now.goal)?,
///         Some(letters) => AgentCommand::finish(&format!("{} has {letters} letters", now.goal))?,
///     })
/// });
/// let count = step("count", |word: String| async move { Ok::<_, BoxError>(word.len()) });
/// let p = agentic_loop("letters", planner).agent("count", count).answer::<String>();
/// assert_eq!(Flujo::new(p).run("flujo".into()).await?.output, "flujo has 5 letters");
/// # Ok(()) }
/// ```
pub fn agentic_loop<G, P>(name: impl Into<Arc<str>>, planner: P) -> AgenticLoop<G, Value, P::Context>
where
    G: Payload,
    P: Stage<In = Planning<G>, Out = AgentCommand>,
{
    let untyped = Untyped::new(name, planner.into_pipeline().into_untyped());
    AgenticLoop {
        untyped: untyped.planner_through(planning::<G>, |command| {
            Ok(to_value(look::<AgentCommand>(command)?)?)
        }),
        types: PhantomData,
    }
}

fn planning<G: Payload>(prompt: &Value) -> Result<Value, Raised> {
    let part = |key: &str| prompt.get(key).unwrap_or(&Value::Null);
    let planning = Planning {
        goal: look::<G>(part("goal"))?.clone(),
        last_command_result: part("last_command_result").clone(),
        command_log: from_value(part("command_log").clone())?,
    };
    Ok(wrap(planning, None))
}

fn typed<T: Payload + DeserializeOwned>(value: &Value) -> Result<Value, Raised> {
    Ok(wrap(from_value::<T>(value.clone())?, None))
}

impl<G: Payload, O: Payload, C: Context> AgenticLoop<G, O, C> {
    /// Adds an agent that the planner may run. Its input is made from a command's `input_data`.
    pub fn agent<S>(
        self,
        name: impl Into<Arc<str>>,
        agent: S,
    ) -> AgenticLoop<G, O, <C as Unify<S::Context>>::Output>
    where
        S: Stage,
        S::In: DeserializeOwned,
        S::Out: Serialize,
        C: Unify<S::Context>,
    {
        let agent = agent.into_pipeline().into_untyped();
        AgenticLoop {
            untyped: self.untyped.agent_through(name, agent, typed::<S::In>, |output| {
                Ok(to_value(look::<S::Out>(output)?)?)
            }),
            types: PhantomData,
        }
    }

    /// The type of the final answer: anything that can be made from data. Without this it is a [`Value`].
    pub fn answer<A: Payload + DeserializeOwned>(self) -> AgenticLoop<G, A, C> {
        AgenticLoop {
            untyped: self.untyped.answer(typed::<A>),
            types: PhantomData,
        }
    }

    fn with(mut self, configure: impl FnOnce(Untyped) -> Untyped) -> Self {
        self.untyped = configure(self.untyped);
        self
    }

    /// How many commands there are at most; 10 without this.
    pub fn max_loops(self, commands: u32) -> Self {
        self.with(|agentic| agentic.max_loops(commands))
    }

    /// How often the planner is asked again when it fails; 3 times without this.
    pub fn retries(self, retries: u32) -> Self {
        self.with(|agentic| agentic.retries(retries))
    }

    /// The longest time the whole may take.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|agentic| agentic.deadline(deadline))
    }
}

impl<G: Payload, O: Payload, C: Context> Stage for AgenticLoop<G, O, C> {
    type In = G;
    type Out = O;
    type Context = C;

    fn into_pipeline(self) -> Pipeline<G, O, C> {
        Pipeline::typed(self.untyped.into(), None)
    }
}
