//! The reference of keys, made from the grammar, as Markdown for `docs/yaml.md`.

use std::fmt::Write;

use crate::grammar::{BLUEPRINT, Key, LATER_KINDS, Need, STEP_KINDS, Section, Shape};
use crate::structure::describe;

/// Tables of every key.
pub fn reference() -> String {
    let mut text = String::new();
    table(&mut text, "The file", &BLUEPRINT);
    for (kind, section) in STEP_KINDS {
        table(&mut text, &format!("`kind: {kind}`"), section);
    }
    let mut inner: Vec<&'static Section> = Vec::new();
    for section in std::iter::once(&BLUEPRINT).chain(STEP_KINDS.iter().map(|(_, section)| *section)) {
        find_inner(section, &mut inner);
    }
    for section in inner {
        table(&mut text, section.title, section);
    }
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "Kinds of steps that are not yet supported: {}.",
        LATER_KINDS
            .iter()
            .map(|kind| format!("`{kind}`"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    text
}

/// The sections inside of one, each once.
fn find_inner(section: &'static Section, found: &mut Vec<&'static Section>) {
    let mut shapes: Vec<Shape> = section.keys().map(|key| key.shape).collect();
    shapes.reverse();
    while let Some(shape) = shapes.pop() {
        match shape {
            Shape::List(inner) | Shape::Named(inner) => shapes.push(*inner),
            Shape::Either(inner) => shapes.extend(inner.iter().rev()),
            Shape::Section(inner) if !found.iter().any(|known| std::ptr::eq(*known, inner)) => {
                found.push(inner);
                find_inner(inner, found);
            }
            _ => {}
        }
    }
}

fn table(text: &mut String, title: &str, section: &Section) {
    let _ = writeln!(
        text,
        "### {title}\n\n{}\n\n| key | value | meaning |\n|---|---|---|",
        section.about
    );
    for key in section.keys().filter(|key| key.need != Need::Later) {
        let needed = if key.need == Need::Required {
            " (required)"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "| `{}`{needed} | {} | {} |",
            key.name,
            value(key),
            key.about
        );
    }
    let later: Vec<String> = section
        .keys()
        .filter(|key| key.need == Need::Later)
        .map(|key| format!("`{}`", key.name))
        .collect();
    if !later.is_empty() {
        let _ = writeln!(text, "\nNot yet supported: {}.", later.join(", "));
    }
    text.push('\n');
}

fn value(key: &Key) -> String {
    match key.shape {
        Shape::Section(section) => format!("a map: see {}", section.title),
        Shape::List(Shape::Section(section)) => format!("a list of maps: see {}", section.title),
        shape => describe(shape),
    }
}
