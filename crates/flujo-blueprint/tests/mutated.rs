//! Blueprints that somebody or something has spoiled: whatever they say by now, they are read, or refused with a place.
//! `PROPTEST_CASES` says how many; 256 without it.
#![allow(clippy::unwrap_used)] // what only tests call may fail like a test

use std::path::{Path, PathBuf};

use flujo_blueprint::{Blueprint, Source};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What means something in YAML, in templates or in blueprints, or is hard to read.
const PARTS: &[&str] = &[
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: *a\n",
    "|\n",
    ">-\n",
    "'",
    "\"",
    "\t",
    "\n",
    "\n  ",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "\u{2028}",
    "!!python/object ",
    "---\n",
    "...\n",
    "%YAML 9.9\n",
    "null",
    "1e999",
    "-1",
    "18446744073709551616",
    "0x_",
    ".nan",
    "{{ ",
    " }}",
    "{% for x in input %}",
    "{% endfor %}",
    "#",
    "? ",
    "kind: ",
    "steps:",
    "fallback: ",
    "branches:",
    "imports:\n  a: ",
    "agent: {type: template, template: x}",
    "é",
    "\\x",
];

/// Every blueprint of the examples.
fn blueprints() -> Vec<String> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    below(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples"),
        &mut found,
    );
    found.sort();
    found
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

/// What happens to a text at a place.
#[derive(Debug, Clone)]
enum Mutation {
    Removed(usize),
    Repeated(usize),
    Inserted(&'static str),
    Replaced(char),
    /// So much of another text comes there, from its place.
    Spliced(Index, Index, usize),
    /// Everything behind it is gone.
    Cut,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        1 => (1..200_usize).prop_map(Mutation::Removed),
        1 => (1..200_usize).prop_map(Mutation::Repeated),
        8 => select(PARTS).prop_map(Mutation::Inserted),
        1 => any::<char>().prop_map(Mutation::Replaced),
        1 => (any::<Index>(), any::<Index>(), 1..400_usize)
            .prop_map(|(text, from, length)| Mutation::Spliced(text, from, length)),
        1 => Just(Mutation::Cut),
    ]
}

fn mutate(text: &mut Vec<char>, at: Index, mutation: &Mutation, others: &[String]) {
    let at = at.index(text.len() + 1);
    match mutation {
        Mutation::Removed(length) => drop(text.drain(at..(at + length).min(text.len()))),
        Mutation::Repeated(length) => {
            let part = text[at..(at + length).min(text.len())].to_vec();
            text.splice(at..at, part);
        }
        Mutation::Inserted(part) => drop(text.splice(at..at, part.chars())),
        Mutation::Replaced(with) => drop(text.splice(at..(at + 1).min(text.len()), [*with])),
        Mutation::Spliced(other, from, length) => {
            let other: Vec<char> = other.get(others).chars().collect();
            let from = from.index(other.len());
            text.splice(at..at, other.into_iter().skip(from).take(*length));
        }
        Mutation::Cut => text.truncate(at),
    }
}

#[test]
fn a_spoiled_blueprint_is_read_or_refused_with_its_places() {
    let texts = blueprints();
    assert!(texts.len() > 20, "the examples are missing");
    proptest!(|(text in any::<Index>(), mutations in vec((any::<Index>(), mutation()), 1..6))| {
        let mut spoiled: Vec<char> = text.get(&texts).chars().collect();
        for (at, mutation) in &mutations {
            mutate(&mut spoiled, *at, mutation, &texts);
        }
        let spoiled: String = spoiled.into_iter().collect();
        if let Err(problems) = Blueprint::parse(&Source::new("spoiled.yaml", &*spoiled)) {
            let said = problems.to_string();
            prop_assert!(said.contains("FLU-"), "{said}");
        }
    });
}
