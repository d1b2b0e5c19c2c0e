//! A run's spans as a tree of text, once the run has ended.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use flujo_core::telemetry::{Attribute, Span, SpanId, SpanKind, SpanStatus, TraceId};

use crate::export::{ExportError, Exporter};

/// So many spans are kept of runs that have not ended; those of the largest one are let go beyond that.
const MOST: usize = 100_000;

/// Writes each run as a tree when it has ended: names, durations, and what did not end well. A step that succeeded at its
/// first attempt takes one line.
pub struct ConsoleTree<W: Write + Send + 'static> {
    writer: W,
    waiting: HashMap<TraceId, Vec<Span>>,
    count: usize,
}

impl ConsoleTree<std::io::Stderr> {
    /// On standard error.
    pub fn stderr() -> Self {
        Self::new(std::io::stderr())
    }
}

impl<W: Write + Send + 'static> ConsoleTree<W> {
    /// Into anything that takes bytes.
    pub fn new(writer: W) -> Self {
        Self {
            writer,
            waiting: HashMap::new(),
            count: 0,
        }
    }

    fn make_room(&mut self) {
        while self.count > MOST {
            let largest = self.waiting.iter().max_by_key(|(_, spans)| spans.len());
            let Some(trace) = largest.map(|(trace, _)| *trace) else {
                return;
            };
            self.count -= self.waiting.remove(&trace).map_or(0, |spans| spans.len());
        }
    }
}

impl<W: Write + Send + 'static> Exporter for ConsoleTree<W> {
    fn name(&self) -> &'static str {
        "console"
    }

    fn export(&mut self, spans: &[Span]) -> Result<(), ExportError> {
        for span in spans {
            let trace = span.context.trace;
            self.waiting.entry(trace).or_default().push(span.clone());
            self.count += 1;
            // The run's own span is the last one that ends.
            if span.kind == SpanKind::Run
                && let Some(spans) = self.waiting.remove(&trace)
            {
                self.count -= spans.len();
                self.writer.write_all(tree(&spans).as_bytes())?;
            }
        }
        self.make_room();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        Ok(self.writer.flush()?)
    }
}

/// The tree below the run's span. A loop, so that depth costs no call stack.
fn tree(spans: &[Span]) -> String {
    let mut children: HashMap<Option<SpanId>, Vec<&Span>> = HashMap::new();
    for span in spans {
        let parent = span.parent.filter(|_| span.kind != SpanKind::Run);
        children.entry(parent).or_default().push(span);
    }
    for below in children.values_mut() {
        below.sort_by_key(|span| (span.started, span.ended));
    }
    let mut text = String::new();
    let mut open: Vec<(&Span, usize)> = children
        .remove(&None)
        .unwrap_or_default()
        .into_iter()
        .map(|run| (run, 0))
        .collect();
    while let Some((span, depth)) = open.pop() {
        let below = children.remove(&Some(span.context.span)).unwrap_or_default();
        let shown = !is_uneventful(span);
        if shown {
            text.push_str(&"  ".repeat(depth));
            text.push_str(&line(span));
            text.push('\n');
        }
        let depth = depth + usize::from(shown);
        open.extend(below.into_iter().rev().map(|span| (span, depth)));
    }
    text
}

/// An only attempt that went well says nothing that its step doesn't.
fn is_uneventful(span: &Span) -> bool {
    span.kind == SpanKind::Attempt
        && span.status == SpanStatus::Ok
        && span.attribute("flujo.attempt") == Some(&Attribute::Count(1))
}

// Writing to a string cannot fail.
fn line(span: &Span) -> String {
    let duration = Duration::from_nanos(span.ended.saturating_sub(span.started));
    let mut line = format!("{}  {duration:.1?}", one_line(&span.name));
    if let Some(Attribute::Count(tokens)) = span.attribute("flujo.usage.tokens") {
        _ = write!(line, "  {tokens} tokens");
    }
    if let Some(Attribute::Number(cost)) = span
        .attribute("flujo.usage.cost_usd")
        .filter(|_| span.kind != SpanKind::Attempt)
        && *cost > 0.0
    {
        _ = write!(line, "  ${cost}");
    }
    match (&span.error_type, span.status) {
        (_, SpanStatus::Ok) => {}
        (Some(error), _) => _ = write!(line, "  {}", one_line(error)),
        (None, status) => _ = write!(line, "  {}", status.name()),
    }
    line
}

/// Without what would move a terminal's cursor.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
