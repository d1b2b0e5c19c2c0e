//! A line for each event that people can do something with: beginnings at the top, ends and failures everywhere.

use std::fmt::Write;

use flujo_tokio::{Event, EventKind};

use crate::terminal::{note, one_line};

pub(super) fn print(event: &Event) {
    if let Some(line) = line(event) {
        note(&line);
    }
}

pub(super) fn line(event: &Event) -> Option<String> {
    let place = &event.place;
    let worth = match event.kind {
        EventKind::StepStarted => place.lane.is_empty(),
        EventKind::RunStarted | EventKind::AttemptStarted | EventKind::Chunk(_) => false,
        _ => true,
    };
    if !worth {
        return None;
    }
    let mut text = format!("[{:>8.3}s] ", event.at.as_secs_f64());
    // Writing to a string cannot fail.
    if !place.lane.is_empty() {
        let _ = write!(text, "{} ", one_line(&place.lane));
    }
    let _ = write!(
        text,
        "{}: {}",
        one_line(&place.step),
        event.kind.name().replace('_', " ")
    );
    let _ = match &event.kind {
        EventKind::AttemptFailed { failure, .. } => {
            write!(
                text,
                " (attempt {}): {}",
                place.attempt,
                one_line(&failure.message)
            )
        }
        EventKind::Alert(alert) => write!(text, ": {}", one_line(&alert.message)),
        EventKind::RunFinished { status, .. } => write!(text, ": {status}"),
        _ if place.attempt > 1 => write!(text, " (attempt {})", place.attempt),
        _ => Ok(()),
    };
    Some(text)
}
