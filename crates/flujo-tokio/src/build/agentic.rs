//! An agentic loop under construction: a planner says what is to be done next, until it says that it has finished.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::machine::Answer;
use flujo_core::value::Value;

use super::{Conditional, Human, Import, Loop, Pipeline, Step};
use crate::domain::{Raised, Tokio};
use crate::handler::answer;
use crate::{Decision, Handler};

/// The context field that holds the turns: a list of `turn`, `generated_command`, `execution_result`.
const LOG: &str = "command_log";

/// A planner and the agents it may run. The planner gets a map of `goal`, `last_command_result` and `command_log`, and
/// gives a command, a map whose `type` is `run_agent` (with `agent_name` and `input_data`), `ask_human` (with `question`)
/// or `finish` (with `final_answer`). An agent that fails, or that isn't there, doesn't end the loop: the planner gets the
/// error as result, and what the agent wrote is dropped. The output is the `final_answer`. An agent may be an agentic loop
/// too: it begins with an empty `command_log`, and its own one ends with it.
#[derive(Clone)]
pub struct AgenticLoop {
    name: Arc<str>,
    planner: Step,
    agents: Vec<(Arc<str>, Import)>,
    answer: Option<Answered>,
    max_loops: u32,
    deadline: Option<Duration>,
}

type Answered = Arc<dyn Fn(&Value) -> Result<Value, Raised> + Send + Sync>;

impl fmt::Debug for AgenticLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgenticLoop")
            .field("name", &self.name)
            .field("planner", &self.planner)
            .field("agents", &self.agents)
            .finish_non_exhaustive()
    }
}

impl AgenticLoop {
    /// A planner without agents yet.
    pub fn new(name: impl Into<Arc<str>>, planner: impl Into<Pipeline>) -> Self {
        Self {
            name: name.into(),
            planner: Step::body("planner", planner).retries(3),
            agents: Vec::new(),
            answer: None,
            max_loops: 10,
            deadline: None,
        }
    }

    /// Adds an agent that the planner may run.
    #[must_use]
    pub fn agent(mut self, name: impl Into<Arc<str>>, agent: impl Into<Pipeline>) -> Self {
        let name = name.into();
        self.agents
            .push((Arc::clone(&name), with_own_log(name, agent.into())));
        self
    }

    /// Adds an agent with an input and an output of its own kind: `input` makes it from a command's `input_data`, `output`
    /// makes the command's result from what it gives.
    #[must_use]
    pub fn agent_through<F, G>(
        mut self,
        name: impl Into<Arc<str>>,
        agent: impl Into<Pipeline>,
        input: F,
        output: G,
    ) -> Self
    where
        F: Fn(&Value) -> Result<Value, Raised> + Send + Sync + 'static,
        G: Fn(&Value) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        let name = name.into();
        let agent = with_own_log(Arc::clone(&name), agent.into());
        self.agents.push((name, agent.input(input).output(output)));
        self
    }

    /// For a planner with an input and an output of its own kind: `input` makes it from the map, `output` makes the
    /// command from what it gives.
    #[must_use]
    pub fn planner_through<F, G>(mut self, input: F, output: G) -> Self
    where
        F: Fn(&Value) -> Result<Value, Raised> + Send + Sync + 'static,
        G: Fn(&Value) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.planner = self
            .planner
            .prompt_processor(Handler::processor(move |prompt, _| input(prompt)))
            .output_processor(Handler::processor(move |made, _| output(made)));
        self
    }

    /// Makes the output from the `final_answer`.
    #[must_use]
    pub fn answer<F>(mut self, answer: F) -> Self
    where
        F: Fn(&Value) -> Result<Value, Raised> + Send + Sync + 'static,
    {
        self.answer = Some(Arc::new(answer));
        self
    }

    /// How many commands there are at most; 10 without this.
    #[must_use]
    pub fn max_loops(mut self, commands: u32) -> Self {
        self.max_loops = commands;
        self
    }

    /// How often the planner is asked again when it fails or what it gives is no command; 3 times without this.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.planner = self.planner.retries(retries);
        self
    }

    /// The longest time the whole may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// What a command asks for.
enum Command<'a> {
    RunAgent(&'a str, &'a Value),
    AskHuman(&'a Value),
    Finish(&'a Value),
}

impl<'a> Command<'a> {
    fn read(command: &'a Value) -> Result<Self, String> {
        let part = |key: &str| {
            command
                .get(key)
                .ok_or_else(|| format!("the planner's command has no `{key}`"))
        };
        match part("type")?.as_str() {
            Some("run_agent") => {
                let name = part("agent_name")?.as_str();
                let name = name.ok_or("the planner's `agent_name` must be text")?;
                Ok(Self::RunAgent(
                    name,
                    command.get("input_data").unwrap_or(&Value::Null),
                ))
            }
            Some("ask_human") => Ok(Self::AskHuman(part("question")?)),
            Some("finish") => Ok(Self::Finish(part("final_answer")?)),
            _ => Err("the planner's `type` must be `run_agent`, `ask_human` or `finish`".to_owned()),
        }
    }
}

/// The branch for an agent of this name.
fn branch_of(agent: &str) -> String {
    format!("run_agent {agent}")
}

const UNKNOWN: &str = "unknown agent";

impl From<AgenticLoop> for Pipeline {
    fn from(agentic: AgenticLoop) -> Self {
        let known: Vec<Arc<str>> = agentic.agents.iter().map(|(name, _)| Arc::clone(name)).collect();
        let planner = agentic
            .planner
            .validator(Handler::validator(|command, _| Command::read(command).map(drop)));
        let agents = known.clone();
        let mut execute = Conditional::new("execute", move |command, _| {
            Ok(match Command::read(command)? {
                Command::RunAgent(name, _) if agents.iter().any(|agent| **agent == *name) => branch_of(name),
                Command::RunAgent(..) => UNKNOWN.to_owned(),
                Command::AskHuman(_) => "ask_human".to_owned(),
                Command::Finish(_) => "finish".to_owned(),
            })
        })
        .input_mapper(Handler::inline(|mut decision| begin_turn(&mut decision)))
        .output_mapper(Handler::inline(|mut decision| Ok(end_turn(&mut decision))));
        for (name, agent) in agentic.agents {
            let told = Step::new(
                format!("{name} failed"),
                Handler::processor(|failure, _| Ok(told(failure))),
            )
            .retries(0);
            let agent = Pipeline::from(agent).on_failure(told);
            execute = execute.branch(branch_of(&name), agent);
        }
        let listed: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        let listed = listed.join(", ");
        let unknown = Handler::processor(move |_, _| {
            let text = format!("Error: there is no agent of that name; the agents are {listed}");
            Ok(Value::from(text))
        });
        let same = Handler::processor(|value, _| Ok(value.clone()));
        execute = execute
            .branch("ask_human", Human::new("ask_human"))
            .branch("finish", Step::new("finish", same).retries(0))
            .branch(UNKNOWN, Step::new(UNKNOWN, unknown).retries(0));
        let turn = Pipeline::from(planner).then(execute);
        let made = agentic.answer;
        let node = Loop::until(agentic.name, turn, |_, context| {
            Ok(matches!(
                last_command(context).map(Command::read),
                Some(Ok(Command::Finish(_)))
            ))
        })
        .first_input(|first, context| Ok(prompt(first.value, Value::Null, context)))
        .next_input(|turn, context| Ok(prompt(turn.start, turn.value.clone(), context)))
        .output(move |last, context| {
            let answer = match last_command(context).map(Command::read) {
                Some(Ok(Command::Finish(answer))) => answer,
                _ => last.value,
            };
            match &made {
                Some(made) => made(answer),
                None => Ok(answer.clone()),
            }
        })
        .max_loops(agentic.max_loops);
        match agentic.deadline {
            Some(deadline) => node.deadline(deadline).into(),
            None => node.into(),
        }
    }
}

/// An agent sees and writes the loop's context, but for the log: it may be a loop that keeps one itself.
fn with_own_log(name: Arc<str>, agent: Pipeline) -> Import {
    Import::new(name, agent)
        .inherit_context()
        .enter(|_, _, own| {
            own.set(LOG, Value::list([]));
            Ok(())
        })
        .leave(|own, around| {
            let log = around.get(LOG).cloned();
            *around = own.clone();
            match log {
                Some(log) => around.set(LOG, log),
                None => drop(around.remove(LOG)),
            }
            Ok(())
        })
}

fn turns(context: &Context) -> &[Value] {
    context.get(LOG).and_then(Value::as_list).unwrap_or_default()
}

fn last_command(context: &Context) -> Option<&Value> {
    turns(context).last()?.get("generated_command")
}

/// What the planner gets.
fn prompt(goal: &Value, last: Value, context: &Context) -> Value {
    Value::map([
        ("goal", goal.clone()),
        ("last_command_result", last),
        (LOG, Value::list(turns(context).iter().cloned())),
    ])
}

/// Notes the command, and gives its input to the branch.
fn begin_turn(decision: &mut Decision<'_>) -> Result<Answer<Tokio>, Raised> {
    let command = decision.value();
    let mut log = turns(decision.context).to_vec();
    let turn = i64::try_from(log.len()).unwrap_or(i64::MAX).saturating_add(1);
    log.push(turn_of(Value::Int(turn), command.clone(), Value::Null));
    decision.context.set(LOG, Value::from(log));
    Ok(answer(match Command::read(command)? {
        Command::RunAgent(_, input) | Command::AskHuman(input) | Command::Finish(input) => input.clone(),
    }))
}

/// Notes what came of the command.
fn end_turn(decision: &mut Decision<'_>) -> Answer<Tokio> {
    let output = decision.value();
    let mut log = turns(decision.context).to_vec();
    if let Some(last) = log.pop() {
        let part = |key: &str| last.get(key).cloned().unwrap_or_default();
        log.push(turn_of(part("turn"), part("generated_command"), output.clone()));
        decision.context.set(LOG, Value::from(log));
    }
    answer(output.clone())
}

fn turn_of(turn: Value, command: Value, result: Value) -> Value {
    Value::map([
        ("turn", turn),
        ("generated_command", command),
        ("execution_result", result),
    ])
}

/// What the planner is told of an agent that failed.
fn told(failure: &Value) -> Value {
    let error = failure.get("error").and_then(Value::as_str);
    let error = error.unwrap_or("unknown error");
    Value::from(format!("Error during command execution: {error}"))
}
