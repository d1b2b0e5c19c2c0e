//! Answers to the questions of a run: from `--answer`, or from a person at the terminal.

use std::io::{BufRead, IsTerminal, Write};

use flujo_blueprint::{Rule, parse_value};
use flujo_core::value::Value;
use flujo_tokio::Pause;

use crate::color::Paint;
use crate::outcome::Failure;
use crate::terminal::{self, one_line};

/// Where answers come from.
pub(crate) struct Answers {
    /// By step, each to be given once, in order.
    given: Vec<(String, Value)>,
    /// Whether a person can be asked.
    asks: bool,
}

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

    /// Answers to as many of the questions as there are answers to. An answer that was not taken is not given again.
    pub(crate) fn to(&mut self, pauses: &[Pause], paint: Paint) -> Vec<(String, Value)> {
        let mut answers = Vec::new();
        for pause in pauses {
            let place = self.given.iter().position(|(step, _)| **step == *pause.step);
            if let Some(place) = place {
                answers.push((pause.id.clone(), self.given.remove(place).1));
            } else if self.asks
                && let Some(answer) = ask(pause, paint)
            {
                answers.push((pause.id.clone(), answer));
            }
        }
        answers
    }

    /// The steps that answers were given for and that asked nothing.
    pub(crate) fn left(&self) -> impl Iterator<Item = &str> {
        self.given.iter().map(|(step, _)| step.as_str())
    }
}

/// Asks at the terminal; `None` when the person ends the input instead of answering.
fn ask(pause: &Pause, paint: Paint) -> Option<Value> {
    if let Some(reason) = &pause.rejected {
        terminal::note(&paint.warning(&format!("not taken: {}", one_line(reason))));
    }
    let lane = match pause.lane.as_str() {
        "" => String::new(),
        lane => format!(" ({lane})"),
    };
    let step = paint.strong(&format!("{}{lane}", pause.step));
    terminal::note(&format!("{step} asks: {}", pause.message.trim_end()));
    terminal::prompt("> ");
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(0) | Err(_) => {
            let _ = std::io::stderr().write_all(b"\n");
            None
        }
        Ok(_) => Some(understood(line.trim_end_matches(['\r', '\n']), &pause.question)),
    }
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
