//! The main job on real input: this repository's own files.

use std::path::Path;
use std::process::Command;

use crate::context::{Said, TestContext};

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn review(context: &TestContext, root: &Path) -> Said {
    let mut command = context.command("run --progress none --allow file_write");
    command.arg(repository().join("examples/repo_review/review.yaml"));
    command.args(["--set", &format!("root={}", root.display())]);
    Said::from(command.output().unwrap())
}

/// The number behind a heading of the report.
fn count(report: &str, heading: &str) -> usize {
    let line = report
        .lines()
        .find_map(|line| line.strip_prefix(&format!("## {heading}: ")))
        .unwrap();
    line.parse().unwrap()
}

#[test]
fn the_todo_lines_are_as_many_as_git_grep_counts_and_a_validator_asked_for_a_second_draft() {
    let context = TestContext::new();
    let said = review(&context, repository());
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(
        said.stderr.contains("attempt 1: the report has "),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("2 attempts"), "{}", said.stderr);

    let grep = Command::new("git")
        .args([
            "grep",
            "--untracked",
            "-hcE",
            r"\bTODO\b",
            "--",
            "*.rs",
            "*.py",
            "*Cargo.toml",
            "*pyproject.toml",
        ])
        .current_dir(repository())
        .output()
        .unwrap();
    let expected: usize = String::from_utf8(grep.stdout)
        .unwrap()
        .lines()
        .map(|line| line.parse::<usize>().unwrap())
        .sum();
    let report = context.read("report.md");
    assert!(expected > 0);
    assert_eq!(count(&report, "TODO lines"), expected);
    assert!(report.lines().count() <= 120);
}

#[test]
fn a_changed_input_changes_the_report_and_an_equal_one_does_not() {
    let context = TestContext::new();
    context.file("src/a.rs", "pub fn a() {}\n");
    review(&context, &context.path("src"));
    let first = context.read("report.md");
    review(&context, &context.path("src"));
    assert_eq!(context.read("report.md"), first);
    context.file("src/a.rs", "pub fn a() {}\n// TODO: b\n");
    review(&context, &context.path("src"));
    assert_ne!(context.read("report.md"), first);
}

#[test]
fn each_extractor_finds_what_its_definition_says() {
    let long = "    let x = 1;\n".repeat(60);
    let context = TestContext::new();
    context
        .file("src/long.rs", format!("fn short() {{\n    1\n}}\n\nfn long() {{\n{long}}}\n"))
        .file("src/docs.rs", "/// Documented.\npub fn a() {}\n\npub fn b() {}\n\n#[must_use]\npub fn c() {}\n")
        .file("src/d.py", "def a():\n    \"\"\"Documented.\"\"\"\n\n\ndef b():\n    return 1\n\n\ndef _c():\n    return 1\n")
        .file("src/Cargo.toml", "[package]\nname = \"x\"\n\n[dependencies]\nserde = \"1\"\n[dev-dependencies]\ninsta = { version = \"1\", features = [\n    \"x\",\n] }\n")
        .file("src/pyproject.toml", "[project]\ndependencies = [\"pydantic>=2\", \"rich\"]\n");
    review(&context, &context.path("src"));
    insta::assert_snapshot!(context.read("report.md"));
}

#[test]
fn an_unreadable_file_is_a_failed_item_and_the_others_are_reviewed() {
    let context = TestContext::new();
    context
        .file("src/a.rs", "// TODO: a\n")
        .file("src/b.rs", b"\xff\xfe")
        .file("src/c.rs", "// TODO: c\n");
    let said = review(&context, &context.path("src"));
    assert_eq!(said.code, Some(0));
    assert!(said.stderr.contains("✗ read"), "{}", said.stderr);
    insta::assert_snapshot!(context.read("report.md"));
}
