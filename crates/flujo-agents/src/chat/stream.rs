//! A reply that comes as server-sent events: lines are cut from the bytes, events from the lines, and the pieces of
//! the answer put together, all within a stated size.

use flujo_core::agent::{AgentError, ChunkSink};
use flujo_core::value::Value;
use serde::Deserialize;

use super::wire::{Reply, Tokens, ToolCall, WireCall};
use crate::net;
use crate::payload::{excerpt, json_reason};

/// The most tool calls that one answer may ask for.
const MOST_TOOL_CALLS: usize = 128;

#[derive(Deserialize)]
struct Event {
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Tokens>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<WireCall>>,
}

/// A stream that broke off, with the tokens that it had reported until then.
pub(super) struct Broken {
    pub(super) error: AgentError,
    pub(super) tokens: Option<Tokens>,
}

/// Reads the stream to its end, handing on each piece of text before the next is read.
pub(super) async fn read(
    mut reply: net::Reply,
    max_bytes: usize,
    sink: &dyn ChunkSink,
) -> Result<Reply, Broken> {
    let mut answer = Answer::default();
    let mut lines = Lines::default();
    let result = async {
        while let Some(chunk) = reply.chunk().await? {
            lines.push(chunk.as_ref());
            while let Some(line) = lines.next() {
                let Some(data) = data_of(&line) else { continue };
                if data == b"[DONE]" {
                    return Ok(());
                }
                for text in answer.take(data, &reply)? {
                    sink.send(Value::from(text)).await;
                }
                if answer.bytes > max_bytes {
                    return Err(reply.too_large());
                }
            }
            if lines.pending() > max_bytes {
                return Err(reply.too_large());
            }
        }
        if answer.reply.finish_reason.is_none() {
            return Err(AgentError::new(format!(
                "the stream from {} ended before the answer was complete; try again, or look at the server's log",
                reply.place()
            )));
        }
        Ok(())
    }
    .await;
    match result {
        Ok(()) => Ok(answer.reply),
        Err(error) => Err(Broken {
            error,
            tokens: answer.reply.tokens,
        }),
    }
}

/// The payload of a `data:` line; other fields and comments say nothing here.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let data = line.strip_prefix(b"data:")?;
    Some(data.trim_ascii())
}

/// Cuts lines from bytes that come in pieces.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
    /// What lies before this has been handed out.
    start: usize,
    /// Up to here there is no line end that hasn't been handed out.
    searched: usize,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let Some(offset) = self.buffer[self.searched..]
            .iter()
            .position(|&byte| byte == b'\n')
        else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + offset;
        let line = self.buffer[self.start..end].trim_ascii_end().to_vec();
        self.start = end + 1;
        self.searched = self.start;
        Some(line)
    }

    fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }
}

/// The answer as far as it has come in.
#[derive(Default)]
struct Answer {
    reply: Reply,
    bytes: usize,
}

impl Answer {
    /// Takes one event and returns the pieces of text in it.
    fn take(&mut self, data: &[u8], source: &net::Reply) -> Result<Vec<String>, AgentError> {
        let garbage = |reason: String| {
            AgentError::new(format!(
                "{} sent an event that isn't of the chat-completions protocol: {reason}; check that `base_url` is \
                 that of an OpenAI-compatible service",
                source.place()
            ))
        };
        let event: Event = serde_json::from_slice(data).map_err(|error| garbage(json_reason(&error)))?;
        if let Some(error) = event.error.filter(|error| *error != Value::Null) {
            let text = error
                .get("message")
                .unwrap_or(&error)
                .as_str()
                .unwrap_or_default();
            return Err(AgentError::new(format!(
                "{} broke the stream off with an error: {}",
                source.place(),
                excerpt(text, 300)
            )));
        }
        self.reply.model = event.model.or(self.reply.model.take());
        self.reply.tokens = event.usage.or(self.reply.tokens);
        let mut texts = Vec::new();
        if let Some(choice) = event.choices.into_iter().next() {
            self.reply.finish_reason = choice.finish_reason.or(self.reply.finish_reason.take());
            if let Some(text) = choice.delta.content.filter(|text| !text.is_empty()) {
                self.bytes += text.len();
                self.reply.content.push_str(&text);
                texts.push(text);
            }
            if let Some(text) = choice.delta.refusal {
                self.bytes += text.len();
                self.reply.refusal.get_or_insert_default().push_str(&text);
            }
            for call in choice.delta.tool_calls.unwrap_or_default() {
                self.add_call(call).map_err(garbage)?;
            }
        }
        Ok(texts)
    }

    /// Adds a piece of a tool call. A server without indexes starts a new call with each id.
    fn add_call(&mut self, piece: WireCall) -> Result<(), String> {
        let calls = &mut self.reply.tool_calls;
        let index = match (piece.index, &piece.id) {
            (Some(index), _) => index,
            (None, Some(id)) => calls
                .iter()
                .position(|call| call.id == *id)
                .unwrap_or(calls.len()),
            (None, None) => calls.len().saturating_sub(1),
        };
        if index > calls.len() || index >= MOST_TOOL_CALLS {
            return Err(format!(
                "tool call {index} comes out of order, or is one of more than {MOST_TOOL_CALLS}"
            ));
        }
        if index == calls.len() {
            calls.push(ToolCall {
                id: format!("call_{index}"),
                ..ToolCall::default()
            });
        }
        let call = &mut calls[index];
        if let Some(id) = piece.id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        if let Some(function) = piece.function {
            let arguments = function.arguments_text()?;
            self.bytes += arguments.len();
            call.arguments.push_str(&arguments);
            if let Some(name) = function.name.filter(|name| !name.is_empty()) {
                call.name = name;
            }
        }
        Ok(())
    }
}
