//! Spans as lines of JSON.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use flujo_core::telemetry::{Attribute, Span};
use serde::{Serialize, Serializer};

use crate::export::{ExportError, Exporter};

/// Writes each span as one line of JSON; see `docs/telemetry.md` for its keys.
pub struct JsonLines<W: Write + Send + 'static = BufWriter<File>>(W);

impl JsonLines {
    /// Into a new file, instead of what is there.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self(BufWriter::new(File::create(path)?)))
    }

    /// Behind what is in the file already.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn append(path: &Path) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self(BufWriter::new(file)))
    }
}

impl<W: Write + Send + 'static> JsonLines<W> {
    /// Into anything that takes bytes.
    pub fn new(writer: W) -> Self {
        Self(writer)
    }
}

impl<W: Write + Send + 'static> Exporter for JsonLines<W> {
    fn name(&self) -> &'static str {
        "json_lines"
    }

    fn export(&mut self, spans: &[Span]) -> Result<(), ExportError> {
        for span in spans {
            serde_json::to_writer(&mut self.0, &Line::from(span)).map_err(std::io::Error::from)?;
            self.0.write_all(b"\n")?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        Ok(self.0.flush()?)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    kind: &'static str,
    name: &'a str,
    start_unix_ns: u64,
    duration_ns: u64,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<&'a str>,
    #[serde(serialize_with = "attributes")]
    attributes: &'a [(&'static str, Attribute)],
}

impl<'a> From<&'a Span> for Line<'a> {
    fn from(span: &'a Span) -> Self {
        Self {
            trace_id: span.context.trace.to_string(),
            span_id: span.context.span.to_string(),
            parent_id: span.parent.map(|parent| parent.to_string()),
            kind: span.kind.name(),
            name: &span.name,
            start_unix_ns: span.started,
            duration_ns: span.ended.saturating_sub(span.started),
            status: span.status.name(),
            error_type: span.error_type.as_deref(),
            attributes: &span.attributes,
        }
    }
}

fn attributes<S: Serializer>(all: &&[(&'static str, Attribute)], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Plain<'a> {
        Text(&'a str),
        Count(u64),
        Number(f64),
        Flag(bool),
    }
    serializer.collect_map(all.iter().map(|(name, value)| {
        let value = match value {
            Attribute::Text(text) => Plain::Text(text),
            Attribute::Count(count) => Plain::Count(*count),
            Attribute::Number(number) => Plain::Number(*number),
            Attribute::Flag(flag) => Plain::Flag(*flag),
        };
        (*name, value)
    }))
}
