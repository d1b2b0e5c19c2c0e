//! The tree that is redrawn in place. It never has more rows than the terminal.

use std::fmt::Write;
use std::time::{Duration, Instant};

use flujo_tokio::Event;

use super::REDRAW;
use super::state::{RunState, Standing, TopStep};
use crate::color::Paint;
use crate::summary::{duration, used};
use crate::terminal::{note, one_line};

/// The most rows for what runs inside lanes.
const MOST_ACTIVE: usize = 6;

/// The mark of a result that was found and not made.
const FROM_CACHE: &str = "↺";

const SPINNER: [&str; 8] = ["⠋", "⠙", "⠸", "⠴", "⠦", "⠇", "⠏", "⠉"];

#[derive(Debug)]
pub(crate) struct LiveTree {
    pipeline: String,
    paint: Paint,
    state: RunState,
    began: Instant,
    drawn: Option<Instant>,
    turn: usize,
    /// Rows that stand on the terminal now.
    rows: usize,
}

impl LiveTree {
    pub(super) fn new(pipeline: &str, paint: Paint) -> Self {
        Self {
            pipeline: one_line(pipeline),
            paint,
            state: RunState::default(),
            began: Instant::now(),
            drawn: None,
            turn: 0,
            rows: 0,
        }
    }

    /// Takes in what has happened, and draws unless it was drawn a moment ago.
    pub(super) fn take_in(&mut self, event: &Event) {
        self.state.take_in(event);
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
            self.draw();
        }
    }

    pub(super) fn draw(&mut self) {
        let size = terminal_size::terminal_size_of(std::io::stderr());
        let (width, height) = size.map_or((80, 24), |(width, height)| {
            (usize::from(width.0), usize::from(height.0))
        });
        let rows = self.rows(height.saturating_sub(1).max(3));
        let mut text = self.erase();
        for row in &rows {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", row.cut(width.saturating_sub(1).max(10), self.paint));
        }
        note(&text);
        self.rows = rows.len();
        self.drawn = Some(Instant::now());
        self.turn += 1;
    }

    pub(super) fn clear(&mut self) {
        let text = self.erase();
        if !text.is_empty() {
            // `note` would add a line break to what only moves the cursor.
            let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), text.as_bytes());
        }
        self.rows = 0;
    }

    /// What takes the drawn rows away.
    fn erase(&self) -> String {
        if self.rows == 0 {
            String::new()
        } else {
            format!("\u{1b}[{}A\u{1b}[0J", self.rows)
        }
    }

    fn rows(&self, most: usize) -> Vec<Row> {
        let now = self.began.elapsed();
        let mut active: Vec<Row> = self
            .state
            .active
            .iter()
            .take(MOST_ACTIVE)
            .map(|((lane, _), active)| {
                let attempt = attempt_text(active.attempt);
                let name = one_line(&active.name);
                let time = duration(now.saturating_sub(active.began).as_secs_f64());
                Row::running(format!(
                    "   {} {} {name}{attempt}  {time}{}",
                    self.spinner(),
                    one_line(lane),
                    used(active.used)
                ))
            })
            .collect();
        let more = self.state.active.len().saturating_sub(MOST_ACTIVE);
        if more > 0 {
            active.push(Row::faint(format!("   … and {more} more running")));
        }
        active.truncate(most.saturating_sub(2));
        let room = most.saturating_sub(active.len() + 1);
        let steps = &self.state.steps;
        let mut rows = vec![Row::title(format!(
            "{}  {}",
            self.pipeline,
            duration(now.as_secs_f64())
        ))];
        let hidden = steps.len().saturating_sub(room);
        if hidden > 0 && room > 1 {
            rows.push(Row::faint(format!("   … {} steps before", hidden + 1)));
            rows.extend(steps.iter().skip(hidden + 1).map(|step| self.step(step, now)));
        } else {
            rows.extend(steps.iter().skip(hidden).map(|step| self.step(step, now)));
        }
        rows.extend(active);
        rows
    }

    fn step(&self, step: &TopStep, now: Duration) -> Row {
        let (mark, style, end) = match step.standing {
            Standing::Running => (self.spinner(), Style::Running, now),
            Standing::Done if step.from_cache => (FROM_CACHE, Style::Good, step.ended),
            Standing::Done => ("✓", Style::Good, step.ended),
            Standing::Failed => ("✗", Style::Bad, step.ended),
            Standing::Stopped => ("■", Style::Faint, step.ended),
        };
        let mut text = format!(
            "{mark} {}{}  {}{}",
            one_line(&step.name),
            attempt_text(step.attempt),
            duration(end.saturating_sub(step.began).as_secs_f64()),
            used(step.used)
        );
        if step.from_cache {
            text.push_str("  from the cache");
        }
        let lanes = &step.lanes;
        if lanes.begun > 0 {
            let running = lanes.running();
            let _ = write!(
                text,
                "  {} ended, {running} running",
                lanes.begun.saturating_sub(running)
            );
            if lanes.failed > 0 {
                let _ = write!(text, ", {} failed", lanes.failed);
            }
            if lanes.from_cache > 0 {
                let _ = write!(text, ", {FROM_CACHE} {} from the cache", lanes.from_cache);
            }
        }
        Row { text, style }
    }

    fn spinner(&self) -> &'static str {
        SPINNER[self.turn % SPINNER.len()]
    }
}

fn attempt_text(attempt: u32) -> String {
    if attempt > 1 {
        format!("  attempt {attempt}")
    } else {
        String::new()
    }
}

#[derive(Debug, Clone, Copy)]
enum Style {
    Title,
    Running,
    Good,
    Bad,
    Faint,
}

/// One row; it is cut before it is coloured.
struct Row {
    text: String,
    style: Style,
}

impl Row {
    fn title(text: String) -> Self {
        Self {
            text,
            style: Style::Title,
        }
    }

    fn running(text: String) -> Self {
        Self {
            text,
            style: Style::Running,
        }
    }

    fn faint(text: String) -> Self {
        Self {
            text,
            style: Style::Faint,
        }
    }

    fn cut(&self, width: usize, paint: Paint) -> String {
        let cut: String = self.text.chars().take(width).collect();
        match self.style {
            Style::Title => paint.strong(&cut),
            Style::Running => cut,
            Style::Good => paint.good(&cut),
            Style::Bad => paint.error(&cut),
            Style::Faint => paint.faint(&cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use flujo_core::usage::Usage;
    use flujo_tokio::EventKind;

    use super::LiveTree;
    use crate::color::{Paint, Stream};
    use crate::progress::state::tests::event;

    #[test]
    fn a_result_that_was_found_has_a_mark_of_its_own_and_those_in_lanes_are_counted() {
        let mut tree = LiveTree::new("p", Paint::for_stream(Stream::Error));
        let found = || EventKind::CacheHit { saved: Usage::ZERO };
        let finished = || EventKind::StepFinished {
            usage: Usage::ZERO,
            attempts: 0,
        };
        for (lane, path, kind) in [
            ("", "ask", EventKind::StepStarted),
            ("", "ask", found()),
            ("", "ask", finished()),
            ("", "made", EventKind::StepStarted),
            ("", "made", finished()),
            ("", "each", EventKind::StepStarted),
            ("each[0]", "each/ask", EventKind::StepStarted),
            ("each[0]", "each/ask", found()),
            ("each[0]", "each/ask", finished()),
        ] {
            tree.state.take_in(&event(lane, path, kind));
        }
        let rows: Vec<_> = tree.rows(9).into_iter().map(|row| row.text).collect();
        assert!(
            rows.iter()
                .any(|row| row.starts_with("↺ ask") && row.ends_with("from the cache")),
            "{rows:?}"
        );
        assert!(
            rows.iter()
                .any(|row| row.starts_with("✓ made") && !row.contains("cache")),
            "{rows:?}"
        );
        assert!(
            rows.iter()
                .any(|row| row.ends_with("1 ended, 0 running, ↺ 1 from the cache")),
            "{rows:?}"
        );
    }
}
