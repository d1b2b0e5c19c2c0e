//! `flujo runs show` and `flujo runs export`: one run, without its code.

use std::fmt::Write;

use flujo_core::machine::Outcome;
use flujo_core::store::{RunInfo, RunStatus, StoredRun};
use flujo_durable::{Contents, Raw};
use serde_json::{Value as Json, json};

use super::reading::{Reading, Steps};
use super::{Runs, shown};
use crate::arguments::OneRun;
use crate::color::{Paint, Stream};
use crate::command::session::word;
use crate::outcome::{Exit, Failure};
use crate::result::{error, plain, steps};
use crate::{store, summary, terminal};

pub(super) fn show(runs: &Runs, arguments: &OneRun) -> Result<Exit, Failure> {
    runs.info(&arguments.id)?;
    let stored = runs.load(&arguments.id)?;
    let reading = Reading::of(&stored)?;
    if arguments.json {
        terminal::data_line(&format!("{:#}", to_json(&stored.info, &reading)));
    } else {
        let paint = Paint::for_stream(Stream::Out);
        terminal::data_line(&text(&stored.info, &reading, runs.store.option(), paint));
    }
    Ok(Exit::Done)
}

/// A run with its result so far, as JSON.
pub(super) fn to_json(info: &RunInfo, reading: &Reading) -> Json {
    let mut all = shown::info(info);
    let read = reading.steps.as_ref();
    let result = match read {
        Ok(read) => result(read),
        Err(_) => json!({"output": null, "error": null, "pauses": [], "tree": []}),
    };
    let unread = match read {
        Ok(read) => read.cut.as_deref(),
        Err(reason) => Some(reason.as_str()),
    };
    if let Some(all) = all.as_object_mut() {
        all.insert("source".to_owned(), json!(reading.definition.source()));
        all.insert("fingerprint".to_owned(), json!(reading.definition.fingerprint()));
        all.insert("unread".to_owned(), json!(unread));
        if let Json::Object(result) = result {
            all.extend(result);
        }
    }
    all
}

/// What came of a run so far.
fn result(read: &Steps) -> Json {
    let history = &read.finish.history;
    json!({
        "output": match &read.finish.outcome {
            Outcome::Completed(output) => plain(&output.shown()),
            _ => Json::Null,
        },
        "error": error(&read.finish.outcome),
        "pauses": shown::pauses(read),
        "tree": steps(&read.plan, history, history.children(None)),
    })
}

/// Everything that is stored of a run.
pub(super) fn export(runs: &Runs, id: &str) -> Result<Exit, Failure> {
    runs.info(id)?;
    let stored = runs.load(id)?;
    terminal::data_line(&format!("{:#}", exported(&stored)?));
    Ok(Exit::Done)
}

fn exported(stored: &StoredRun) -> Result<Json, Failure> {
    let reading = Reading::of(stored)?;
    let contents = Contents::<Raw>::of(stored).map_err(|error| store::failed(&error))?;
    let records = contents.records.iter().map(|(number, entries)| {
        json!({"number": number, "entries": entries.iter().map(form).collect::<Vec<_>>()})
    });
    Ok(json!({
        "format": 1,
        "run": shown::info(&stored.info),
        "definition": {
            "source": reading.definition.source(),
            "fingerprint": reading.definition.fingerprint(),
            "plan": reading.definition.plan().ok().map(|plan| form(&plan)),
        },
        "snapshot": {"through": stored.through, "state": form(&contents.snapshot)},
        "records": records.collect::<Vec<_>>(),
        "result": reading.steps.as_ref().ok().map(result),
    }))
}

fn form(part: &impl serde::Serialize) -> Json {
    serde_json::to_value(part).unwrap_or_else(|error| json!(format!("<{error}>")))
}

fn text(info: &RunInfo, reading: &Reading, option: &str, paint: Paint) -> String {
    let mut text = format!(
        "{}  {}\n",
        paint.strong(&terminal::one_line(&info.id)),
        shown::status(info.summary.status, paint)
    );
    // Writing to a string cannot fail.
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:9} {}", terminal::one_line(value));
    };
    let pipeline = match reading.definition.source() {
        Some(source) => format!("{} ({source})", info.pipeline),
        None => info.pipeline.to_string(),
    };
    line("pipeline", &pipeline);
    line(
        "began",
        &format!("{}, {}", shown::time(info.created), shown::since(info.created)),
    );
    let updated = info.summary.updated;
    line(
        "updated",
        &format!("{}, {}", shown::time(updated), shown::since(updated)),
    );
    if let Some(owner) = &info.owner {
        line("owner", &owner.process);
    }
    if let Some(forked) = &info.forked_from {
        line("fork of", forked);
    }
    if let Some(message) = &info.summary.message {
        line("message", message);
    }
    let steps = match &reading.steps {
        Ok(steps) => steps,
        Err(reason) => {
            let _ = write!(text, "\nits steps can't be shown: {reason}");
            return text;
        }
    };
    let status = info.summary.status.as_str();
    let _ = write!(
        text,
        "\n{}",
        summary::tree(&steps.plan, &steps.finish, status, paint)
    );
    if let Some(reason) = &steps.cut {
        let _ = writeln!(
            text,
            "what came after that needs the pipeline to be read: {reason}"
        );
    }
    if info.summary.status == RunStatus::Paused {
        text.push_str(&questions(&info.id, steps, option, paint));
    }
    if let Outcome::Completed(output) = &steps.finish.outcome {
        let _ = write!(text, "\noutput\n{:#}", plain(&output.shown()));
    }
    text.truncate(text.trim_end().len());
    text
}

/// What a run asks, and how it is answered.
pub(super) fn questions(id: &str, steps: &Steps, option: &str, paint: Paint) -> String {
    let mut text = String::new();
    let one = steps.questions.open().len() == 1;
    for open in steps.questions.open() {
        let lane = match open.lane.as_str() {
            "" => String::new(),
            lane => format!(" ({lane})"),
        };
        let step = paint.strong(&terminal::one_line(&steps.plan.node(open.question.node).name));
        let message = terminal::one_line(&shown::message(open));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{step}{lane} asks: {message}");
        if let Some(rejected) = &open.question.rejected {
            let _ = writeln!(text, "  not taken: {}", terminal::one_line(&rejected.message));
        }
        if let Some(expires) = shown::expires(steps, open) {
            let _ = writeln!(text, "  until {}", shown::time(expires));
        }
        let pause = if one {
            String::new()
        } else {
            format!("--pause {} ", word(&open.id))
        };
        let _ = writeln!(
            text,
            "  answer with `flujo runs answer {} {pause}VALUE{option}`",
            word(id)
        );
    }
    text
}
