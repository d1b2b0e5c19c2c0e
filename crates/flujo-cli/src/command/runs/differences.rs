//! In what a run that was played again differs from what it was: as JSON, and as lines for people.

use flujo_core::context::Context;
use flujo_core::machine::{Finish, Outcome};
use flujo_core::value::Value;
use flujo_durable::Raw;
use flujo_tokio::Done;
use serde_json::{Value as Json, json};

use super::player::{Made, Recorded, exact};
use crate::result::{plain, usage};
use crate::terminal;

/// How a run had ended.
pub(super) struct Ended {
    pub(super) finish: Box<Finish<Raw>>,
    /// `None` where only the program that wrote it can read it.
    pub(super) context: Option<Context>,
}

/// All that differs.
#[derive(Default)]
pub(super) struct Differences(Vec<Json>);

impl Differences {
    /// Compares the calls, those that were made and those that weren't any more, and then the ends.
    pub(super) fn of(made: &[Made], left: &[Recorded], before: &Ended, done: &Done) -> Self {
        let mut found = Self::default();
        for made in made {
            let now = plain(&made.input);
            match &made.recorded {
                Some(before) => found.note(&before.path, made.attempt, "input", plain(&before.input), now),
                None => found.note(
                    &made.step,
                    made.attempt,
                    "call",
                    Json::Null,
                    json!({"input": now}),
                ),
            }
        }
        for left in left {
            let input = json!({"input": plain(&left.input)});
            found.note(&left.path, left.attempt, "call", input, Json::Null);
        }
        found.compare_ends(before, done);
        found
    }

    fn compare_ends(&mut self, before: &Ended, done: &Done) {
        let (then, now) = (&before.finish, &done.finish);
        let [status, is] = [then.outcome.name(), now.outcome.name()];
        self.note("", 0, "status", json!(status), json!(is));
        let output = match &then.outcome {
            Outcome::Completed(output) => plain(&exact(output)),
            _ => Json::Null,
        };
        self.note("", 0, "output", output, done.output().map_or(Json::Null, plain));
        match &before.context {
            Some(context) => self.fields("", Some(&context.to_value()), Some(&now.context.to_value())),
            None => self.push("", 0, "context", Json::Null, Json::Null),
        }
        let (then, now) = (usage(then.usage), usage(now.usage));
        for (part, then) in then.as_object().into_iter().flatten() {
            self.note(part, 0, "usage", then.clone(), now[part].clone());
        }
    }

    /// Compares what a place in the context held with what it holds: maps entry by entry, lists of one length item by
    /// item.
    fn fields(&mut self, path: &str, then: Option<&Value>, now: Option<&Value>) {
        match (then, now) {
            (Some(Value::Map(then)), Some(Value::Map(now))) => {
                for (name, before) in then.iter() {
                    let now = now.iter().find(|(now, _)| now == name);
                    self.fields(&below(path, name), Some(before), now.map(|(_, now)| now));
                }
                for (name, now) in now.iter() {
                    if !then.iter().any(|(then, _)| then == name) {
                        self.fields(&below(path, name), None, Some(now));
                    }
                }
            }
            (Some(Value::List(then)), Some(Value::List(now))) if then.len() == now.len() => {
                for (place, (then, now)) in then.iter().zip(now.iter()).enumerate() {
                    self.fields(&format!("{path}[{place}]"), Some(then), Some(now));
                }
            }
            (then, now) if then == now => {}
            (then, now) => {
                let held =
                    |value: Option<&Value>| value.map_or(Json::Null, |value| json!({"value": plain(value)}));
                self.push(path, 0, "context", held(then), held(now));
            }
        }
    }

    fn note(&mut self, path: &str, attempt: u32, what: &str, recorded: Json, now: Json) {
        if recorded != now {
            self.push(path, attempt, what, recorded, now);
        }
    }

    fn push(&mut self, path: &str, attempt: u32, what: &str, recorded: Json, now: Json) {
        let mut difference = json!({"path": path, "attempt": attempt, "what": what});
        difference["recorded"] = recorded;
        difference["now"] = now;
        self.0.push(difference);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn to_json(&self, id: &str, from: &str) -> Json {
        json!({"run": id, "from": from, "equal": self.is_empty(), "differences": self.0})
    }

    /// Each on a line of its own, without what a terminal would obey.
    pub(super) fn text(&self, id: &str, from: &str) -> String {
        if self.is_empty() {
            return format!("run {}: the same from its {from} on", terminal::one_line(id));
        }
        let lines: Vec<String> = self.0.iter().map(|one| terminal::one_line(&line(one))).collect();
        lines.join("\n")
    }
}

/// The path of a part.
fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn line(difference: &Json) -> String {
    let text = |key: &str| difference[key].as_str().unwrap_or_default();
    let (path, what) = (text("path"), text("what"));
    let (recorded, now) = (&difference["recorded"], &difference["now"]);
    match (what, path) {
        ("context", _) if recorded.is_null() && now.is_null() => {
            "the run's context: can't be compared, since only the program that kept the run can read it"
                .to_owned()
        }
        ("context", path) => {
            let held = |side: &Json| side.get("value").map_or("nothing".to_owned(), Json::to_string);
            format!(
                "the run's context.{path}: was {}, is {}",
                held(recorded),
                held(now)
            )
        }
        ("usage", part) => format!("the run's usage.{part}: was {recorded}, is {now}"),
        (what, "") => format!("the run's {what}: was {recorded}, is {now}"),
        (what, path) => {
            let attempt = &difference["attempt"];
            format!("{path}, attempt {attempt}: {what}: was {recorded}, is {now}")
        }
    }
}
