//! A line for each event that people can do something with: beginnings at the top, ends and failures everywhere.

use flujo_tokio::{Event, EventKind};

use crate::terminal::{note, one_line};

pub(super) fn print(event: &Event) {
    let worth = match event.kind {
        EventKind::StepStarted => event.place.lane.is_empty(),
        EventKind::AttemptStarted | EventKind::Chunk(_) => false,
        _ => true,
    };
    if !worth {
        return;
    }
    let mut text = event.to_string();
    if let EventKind::AttemptFailed(failure) | EventKind::StepFailed(failure) = &event.kind {
        text = format!("{text}: {}", one_line(&failure.message));
    }
    note(&text);
}
