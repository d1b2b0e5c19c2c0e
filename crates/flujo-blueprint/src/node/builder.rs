//! The tree from the parser's events: nesting, aliases and merge keys, within stated bounds.

use std::collections::HashMap;

use flujo_core::value::Value;
use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::{Content, Entry, MAX_DEPTH, Node, scalar};
use crate::position::Position;
use crate::rule::Rule;

/// The most nodes a document may have, those repeated by aliases included.
const MAX_NODES: usize = 200_000;

/// Why a text can't be read.
pub(super) struct Unreadable {
    pub(super) rule: Rule,
    pub(super) position: Position,
    pub(super) message: String,
    pub(super) hint: Option<&'static str>,
}

impl Unreadable {
    fn syntax(position: Position, message: impl Into<String>, hint: &'static str) -> Self {
        Self {
            rule: Rule::NotYaml,
            position,
            message: message.into(),
            hint: Some(hint),
        }
    }

    fn too_deep(position: Position) -> Self {
        Self {
            rule: Rule::TooDeep,
            position,
            message: format!("lists and maps are nested more than {MAX_DEPTH} deep"),
            hint: Some("move the inner part into a file of its own and name it under `imports`"),
        }
    }

    fn too_large(position: Position) -> Self {
        Self {
            rule: Rule::TooLarge,
            position,
            message: format!(
                "the document has more than {MAX_NODES} values, those repeated by aliases included"
            ),
            hint: Some("split it into files and name them under `imports`; repeat less by aliases"),
        }
    }
}

impl From<ScanError> for Unreadable {
    fn from(error: ScanError) -> Self {
        let position = position(error.marker());
        if matches!(error.kind(), granit_parser::ErrorKind::RecursionLimitExceeded) {
            return Self::too_deep(position);
        }
        Self {
            rule: Rule::NotYaml,
            position,
            message: format!("this isn't YAML: {}", error.info()),
            hint: None,
        }
    }
}

fn position(marker: &Marker) -> Position {
    Position {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

/// A list or map whose end hasn't come yet.
struct Open {
    node: Node,
    anchor: usize,
    /// The key that waits for its value, and whether it is a merge key.
    key: Option<Key>,
    /// What merge keys bring; the map's own keys count before it.
    merged: Vec<Entry>,
}

struct Key {
    text: String,
    position: Position,
    merges: bool,
}

/// Puts the tree together.
#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    document: Option<Node>,
}

impl Builder {
    /// The tree of the only document in `text`; null when there is none.
    pub(super) fn build(mut self, text: &str) -> Result<Node, Unreadable> {
        let options = granit_parser::options! {
            flow_nesting_limit: MAX_DEPTH + 1,
            block_nesting_limit: MAX_DEPTH + 1,
        };
        for next in Parser::new_from_str_with_options(text, options) {
            let (event, span) = next?;
            let position = position(&span.start);
            match event {
                Event::DocumentStart(..) if self.document.is_some() => {
                    return Err(Unreadable::syntax(
                        position,
                        "a second document begins here; a blueprint is one document",
                        "remove the line `---`, or move what follows into a file of its own",
                    ));
                }
                Event::Scalar(text, style, anchor, tag) => {
                    self.scalar(&text, style, anchor, tag.as_deref(), position)?;
                }
                Event::SequenceStart(_, anchor, _) => {
                    self.begin(Content::List(Vec::new()), anchor, position)?;
                }
                Event::MappingStart(_, anchor, _) => {
                    self.begin(Content::Map(Vec::new()), anchor, position)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end()?,
                Event::Alias(anchor) => self.alias(anchor, position)?,
                _ => {}
            }
        }
        Ok(self.document.unwrap_or(Node {
            position: Position::START,
            content: Content::Scalar(Value::Null),
        }))
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        position: Position,
    ) -> Result<(), Unreadable> {
        self.count(1, position)?;
        if let Some(Open {
            node: Node {
                content: Content::Map(_),
                ..
            },
            key: key @ None,
            ..
        }) = self.open.last_mut()
        {
            *key = Some(Key {
                text: text.to_owned(),
                position,
                merges: text == "<<" && style == ScalarStyle::Plain,
            });
            return Ok(());
        }
        let value = scalar::resolve(text, style, tag).map_err(|message| {
            Unreadable::syntax(
                position,
                message,
                "leave out the tag, or write a value that fits it",
            )
        })?;
        let node = Node {
            position,
            content: Content::Scalar(value),
        };
        self.put(node, anchor)
    }

    fn begin(&mut self, content: Content, anchor: usize, position: Position) -> Result<(), Unreadable> {
        self.count(1, position)?;
        if self.open.len() == MAX_DEPTH {
            return Err(Unreadable::too_deep(position));
        }
        self.refuse_as_key(position)?;
        self.open.push(Open {
            node: Node { position, content },
            anchor,
            key: None,
            merged: Vec::new(),
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Unreadable> {
        let Some(Open {
            mut node,
            anchor,
            merged,
            ..
        }) = self.open.pop()
        else {
            return Ok(());
        };
        if let Content::Map(entries) = &mut node.content {
            for entry in merged {
                if !entries.iter().any(|own| own.key == entry.key) {
                    entries.push(entry);
                }
            }
        }
        self.put(node, anchor)
    }

    fn alias(&mut self, anchor: usize, position: Position) -> Result<(), Unreadable> {
        self.refuse_as_key(position)?;
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(Unreadable::syntax(
                position,
                "the alias stands inside of what it repeats, so it has no end",
                "repeat something that ends before this place",
            ));
        };
        self.count(node.size(), position)?;
        if self.open.len() + node.depth() > MAX_DEPTH {
            return Err(Unreadable::too_deep(position));
        }
        self.put(node, 0)
    }

    /// Keys are text: lists, maps and aliases are not taken where a key is awaited.
    fn refuse_as_key(&self, position: Position) -> Result<(), Unreadable> {
        match self.open.last() {
            Some(Open {
                node:
                    Node {
                        content: Content::Map(_),
                        ..
                    },
                key: None,
                ..
            }) => Err(Unreadable::syntax(
                position,
                "a key must be plain text",
                "put placeholders such as `{{ input }}` into quotes",
            )),
            _ => Ok(()),
        }
    }

    /// Puts a finished node where it belongs.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Unreadable> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.document = Some(node);
            return Ok(());
        };
        match &mut open.node.content {
            Content::List(items) => items.push(node),
            Content::Map(entries) => match open.key.take() {
                Some(key) if key.merges => merge(&mut open.merged, node)?,
                Some(key) => entries.push(Entry {
                    key: key.text,
                    key_position: key.position,
                    value: node,
                }),
                None => {}
            },
            Content::Scalar(_) => {}
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, position: Position) -> Result<(), Unreadable> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            Err(Unreadable::too_large(position))
        } else {
            Ok(())
        }
    }
}

/// Takes in what a merge key (`<<`) names: a map, or a list of maps of which the first counts most.
fn merge(merged: &mut Vec<Entry>, node: Node) -> Result<(), Unreadable> {
    let position = node.position;
    let maps = match node.content {
        Content::Map(entries) => vec![entries],
        Content::List(items) if items.iter().all(|item| item.as_map().is_some()) => items
            .into_iter()
            .filter_map(|item| match item.content {
                Content::Map(entries) => Some(entries),
                _ => None,
            })
            .collect(),
        _ => {
            return Err(Unreadable::syntax(
                position,
                "the merge key `<<` takes a map or a list of maps",
                "name a map by its alias, as in `<<: *defaults`",
            ));
        }
    };
    for entry in maps.into_iter().flatten() {
        if !merged.iter().any(|own| own.key == entry.key) {
            merged.push(entry);
        }
    }
    Ok(())
}
