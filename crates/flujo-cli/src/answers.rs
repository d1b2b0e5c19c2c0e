//! Answers to the questions of a run: from `--answer`, from a person at the terminal, or from nobody in time.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use flujo_blueprint::{Rule, parse_value};
use flujo_core::value::Value;
use flujo_tokio::Pause;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::color::Paint;
use crate::interrupts::Interrupts;
use crate::outcome::Failure;
use crate::terminal::{self, one_line};

/// Where answers come from.
pub(crate) struct Answers {
    /// By step, or by the question's id, each to be given once, in order.
    given: Vec<(String, Value)>,
    /// Whether a person can be asked.
    asks: bool,
}

/// What a paused run goes on with.
pub(crate) enum Next {
    /// These answers; a question whose time is up goes on without.
    Resume(Vec<(String, Value)>),
    /// None: the person interrupted the command instead of answering.
    Cancel,
}

/// The person interrupted the command.
struct Interrupted;

impl Answers {
    /// Reads `--answer STEP=VALUE`. A person is asked only where both sides are a terminal.
    pub(crate) fn read(arguments: &[String], json: bool) -> Result<Self, Failure> {
        let given = arguments.iter().map(|argument| {
            let refuse = |message: String| {
                Failure::usage(
                    Rule::BadInput,
                    message,
                    "write `--answer STEP=VALUE`; the value is read as YAML",
                )
            };
            let (step, written) = argument
                .split_once('=')
                .filter(|(step, _)| !step.is_empty())
                .ok_or_else(|| refuse(format!("`--answer {argument}` names no step")))?;
            let value = parse_value(written)
                .map_err(|reason| refuse(format!("the value of `--answer {step}=…` isn't YAML: {reason}")))?;
            Ok::<_, Failure>((step.to_owned(), value))
        });
        Ok(Self {
            given: given.collect::<Result<_, _>>()?,
            asks: !json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
        })
    }

    /// An answer to the question of this id.
    pub(crate) fn one(pause: String, answer: Value, json: bool) -> Result<Self, Failure> {
        let mut answers = Self::read(&[], json)?;
        answers.given.push((pause, answer));
        Ok(answers)
    }

    /// Answers to as many of the questions as there are answers to. An answer that was not taken is not given again. When
    /// nobody can be asked and all questions have a time limit, waits until the first is up.
    pub(crate) async fn to(&mut self, pauses: &[Pause], paint: Paint, interrupts: &mut Interrupts) -> Next {
        match self.collect(pauses, paint, interrupts).await {
            Ok(answers) => Next::Resume(answers),
            Err(Interrupted) => Next::Cancel,
        }
    }

    async fn collect(
        &mut self,
        pauses: &[Pause],
        paint: Paint,
        interrupts: &mut Interrupts,
    ) -> Result<Vec<(String, Value)>, Interrupted> {
        let mut answers = Vec::new();
        for pause in pauses {
            let names = |name: &str| name == &*pause.step || name == pause.id;
            let given = self.given.iter().position(|(name, _)| names(name));
            if let Some(place) = given {
                answers.push((pause.id.clone(), self.given.remove(place).1));
            } else if self.asks
                && pause.expires.is_none_or(|expires| expires > Instant::now())
                && let Some(answer) = ask(pause, paint, interrupts).await?
            {
                answers.push((pause.id.clone(), answer));
            }
        }
        let times: Option<Vec<Instant>> = pauses.iter().map(|pause| pause.expires).collect();
        if answers.is_empty()
            && !self.asks
            && let Some(first) = times.unwrap_or_default().into_iter().min()
        {
            wait(first, interrupts).await?;
        }
        Ok(answers)
    }

    /// The steps that answers were given for and that asked nothing.
    pub(crate) fn left(&self) -> impl Iterator<Item = &str> {
        self.given.iter().map(|(step, _)| step.as_str())
    }
}

/// Waits, for an interrupt too.
async fn wait(until: Instant, interrupts: &mut Interrupts) -> Result<(), Interrupted> {
    let left = until.saturating_duration_since(Instant::now());
    if left >= Duration::from_secs(1) {
        terminal::note(&format!(
            "nobody can be asked here: waiting {} s until the time for an answer is up",
            left.as_secs()
        ));
    }
    tokio::select! {
        () = tokio::time::sleep_until(until) => Ok(()),
        () = interrupts.next() => Err(Interrupted),
    }
}

/// Asks at the terminal; `None` when the person ends the input instead of answering.
async fn ask(pause: &Pause, paint: Paint, interrupts: &mut Interrupts) -> Result<Option<Value>, Interrupted> {
    if let Some(reason) = &pause.rejected {
        terminal::note(&paint.warning(&format!("not taken: {}", one_line(reason))));
    }
    let lane = match pause.lane.as_str() {
        "" => String::new(),
        lane => format!(" ({lane})"),
    };
    let step = paint.strong(&format!("{}{lane}", pause.step));
    terminal::note(&format!("{step} asks: {}", pause.message.trim_end()));
    let line = tokio::select! {
        () = interrupts.next() => {
            terminal::note("");
            return Err(Interrupted);
        }
        line = typed() => line,
    };
    if line.is_none() {
        terminal::note("");
    }
    Ok(line.map(|line| understood(line.trim_end_matches(['\r', '\n']), &pause.question)))
}

/// The line after a prompt, read in a thread that the end of the command doesn't wait for; `None` at the end of the input.
async fn typed() -> Option<String> {
    terminal::prompt("> ");
    let (read, line) = oneshot::channel();
    let reader = std::thread::Builder::new().spawn(move || {
        let mut line = String::new();
        let count = std::io::stdin().lock().read_line(&mut line);
        let _ = read.send(matches!(count, Ok(1..)).then_some(line));
    });
    reader.ok()?;
    line.await.ok()?
}

/// A line as a value: text, unless the question's schema asks for something else.
fn understood(line: &str, question: &Value) -> Value {
    let schema = question.get("input_schema");
    let kind = schema
        .and_then(|schema| schema.get("type"))
        .and_then(Value::as_str);
    let texts = schema
        .and_then(|schema| schema.get("enum"))
        .and_then(Value::as_list)
        .is_some_and(|words| words.iter().all(|word| word.as_str().is_some()));
    match kind {
        None if schema.is_none() || texts => Value::from(line),
        Some("string") => Value::from(line),
        _ => parse_value(line).unwrap_or_else(|_| Value::from(line)),
    }
}
