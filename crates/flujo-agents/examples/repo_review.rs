//! Reviews the source files of a repository and writes a report: `repo_review ROOT OUT`.
//!
//! `examples/repo_review/README.md` of the repository defines what is found. The same pipeline stands there in YAML and
//! in Python; the three reports are equal to the byte.

#![allow(clippy::print_stderr)] // the tree of steps is for people

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

use flujo::{
    Agent, AgentError, AgentRequest, BoxError, Context, Flujo, LaneView, RunError, Scope, Stage, StepView,
    Value, branch, parallel, step,
};
use flujo_agents::files::{GlobConfig, ReadConfig, WriteConfig};
use regex::Regex;

/// A longer report isn't read.
const MOST_LINES: usize = 120;

const TITLES: [&str; 4] = [
    "TODO lines",
    "Long functions",
    "Functions without documentation",
    "Dependencies",
];

/// Which files the review is about.
#[derive(Default, Context)]
struct Review {
    paths: Vec<String>,
}

/// A file that was read.
struct SourceFile {
    path: String,
    lines: i64,
    text: String,
}

/// What was found in one file: for each extractor the findings as lines of the report.
#[derive(Clone)]
struct Facts {
    lines: i64,
    findings: [Vec<String>; 4],
}

/// What was found in all files.
#[derive(Clone)]
struct Totals {
    files: usize,
    lines: i64,
    unread: Vec<String>,
    findings: [Vec<String>; 4],
}

/// What the extractors look for.
struct Patterns {
    todo: Regex,
    long_function: Regex,
    undocumented: Regex,
    cargo_section: Regex,
    cargo_name: Regex,
    python_section: Regex,
    python_name: Regex,
}

impl Patterns {
    fn new() -> Result<Self, regex::Error> {
        let header = r"(?:pub(?:\([a-z]+\))? )?(?:(?:const|async|unsafe) )*(?:fn|def)";
        Ok(Self {
            todo: Regex::new(r"(?m)^.*(?-u:\b)TODO(?-u:\b).*$")?,
            // A header at the left margin or indented by four, then at least 60 lines that belong to it.
            long_function: Regex::new(&format!(
                r"(?m)^(?:{header} (?P<outer>[A-Za-z0-9_]+).*\n(?:(?:[ )].*)?\n){{59,}}[ )].*$| {{4}}{header} (?P<inner>[A-Za-z0-9_]+).*\n(?:(?: {{4}}[ )].*)?\n){{59,}} {{4}}[ )].*$)"
            ))?,
            // Rust: the line above is neither comment nor attribute. Python: the line below a one-line header is no text.
            undocumented: Regex::new(
                r#"(?m)^(?: *(?:[^ \n/#].*)?\n *pub (?:(?:const|async|unsafe) )*fn (?P<rust>[A-Za-z0-9_]+)|(?: {4})?(?:async )?def (?P<python>[a-z][A-Za-z0-9_]*)\(.*:\n +[^ \n"'])"#,
            )?,
            cargo_section: Regex::new(
                r"(?m)^\[(?:workspace\.|dev-|build-)?dependencies\]\n((?:[^\[\n].*\n|\n)*)",
            )?,
            cargo_name: Regex::new(r"(?m)^([A-Za-z0-9_-]+)")?,
            python_section: Regex::new(r"(?m)^dependencies = \[([^\]]*)\]")?,
            python_name: Regex::new(r#""([A-Za-z0-9_.-]+)"#)?,
        })
    }

    fn todos(&self, file: &SourceFile) -> Vec<String> {
        let lines = self.todo.find_iter(&file.text);
        lines.map(|line| file.finding(line.as_str().trim())).collect()
    }

    fn long_functions(&self, file: &SourceFile) -> Vec<String> {
        file.named(&self.long_function, &["outer", "inner"])
    }

    fn missing_docs(&self, file: &SourceFile) -> Vec<String> {
        file.named(&self.undocumented, &["rust", "python"])
    }

    fn dependencies(&self, file: &SourceFile) -> Vec<String> {
        let (section, name) = if file.path.ends_with("Cargo.toml") {
            (&self.cargo_section, &self.cargo_name)
        } else if file.path.ends_with("pyproject.toml") {
            (&self.python_section, &self.python_name)
        } else {
            return Vec::new();
        };
        let sections: String = section
            .captures_iter(&file.text)
            .map(|found| found[1].to_owned())
            .collect();
        let names = name.captures_iter(&sections);
        names
            .map(|found| file.finding(&format!("`{}`", &found[1])))
            .collect()
    }
}

impl SourceFile {
    fn finding(&self, text: &str) -> String {
        format!("- `{}`: {text}", self.path)
    }

    /// The matches of an expression, each by the one of its groups that took part.
    fn named(&self, pattern: &Regex, groups: &[&str]) -> Vec<String> {
        let names = pattern
            .captures_iter(&self.text)
            .filter_map(|found| groups.iter().find_map(|group| found.name(group)));
        names
            .map(|name| self.finding(&format!("`{}`", name.as_str())))
            .collect()
    }
}

/// An agent's output for an input.
async fn ask(agent: &impl Agent, input: Value) -> Result<Value, AgentError> {
    let request = AgentRequest {
        input,
        ..AgentRequest::default()
    };
    Ok(agent.run(request).await?.value)
}

async fn list(root: String) -> Result<Vec<String>, BoxError> {
    let sources = ["**/*.rs", "**/*.py", "**/Cargo.toml", "**/pyproject.toml"];
    let paths = ask(&GlobConfig::new(root, sources).build()?, Value::Null).await?;
    let paths = paths.as_list().unwrap_or_default();
    Ok(paths
        .iter()
        .filter_map(|path| path.as_str().map(str::to_owned))
        .collect())
}

async fn read(root: String, path: String) -> Result<Arc<SourceFile>, BoxError> {
    let config = ReadConfig {
        root,
        ..ReadConfig::default()
    };
    let file = ask(&config.build()?, Value::from(path)).await?;
    let text = |key| {
        file.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Ok(Arc::new(SourceFile {
        path: text("path"),
        lines: file.get("lines").and_then(Value::as_int).unwrap_or_default(),
        text: text("text"),
    }))
}

fn totals(paths: Vec<String>, files: Vec<Option<Facts>>) -> Totals {
    let mut totals = Totals {
        files: 0,
        lines: 0,
        unread: Vec::new(),
        findings: Default::default(),
    };
    for (path, facts) in paths.into_iter().zip(files) {
        let Some(facts) = facts else {
            totals.unread.push(path);
            continue;
        };
        totals.files += 1;
        totals.lines += facts.lines;
        for (all, found) in totals.findings.iter_mut().zip(facts.findings) {
            all.extend(found);
        }
    }
    totals
}

fn outcome(totals: &Totals) -> &'static str {
    if totals.unread.is_empty() && totals.findings.iter().all(Vec::is_empty) {
        "clean"
    } else {
        "findings"
    }
}

/// The report with at most so many findings of each kind.
fn draft(totals: &Totals, most: usize) -> Result<String, std::fmt::Error> {
    let mut report = nothing(totals);
    if !totals.unread.is_empty() {
        report.push_str("\n## Files that could not be read\n\n");
        for path in &totals.unread {
            writeln!(report, "- `{path}`")?;
        }
    }
    for (title, findings) in TITLES.iter().zip(&totals.findings) {
        writeln!(report, "\n## {title}: {}", findings.len())?;
        if !findings.is_empty() {
            report.push('\n');
        }
        for line in findings.iter().take(most) {
            writeln!(report, "{line}")?;
        }
        if findings.len() > most {
            writeln!(report, "- and {} more", findings.len() - most)?;
        }
    }
    Ok(report)
}

/// The beginning of every report.
fn nothing(totals: &Totals) -> String {
    format!(
        "# Repository review\n\n{} files with {} lines\n",
        totals.files, totals.lines
    )
}

/// A report that nobody would read to its end is rejected.
fn readable(report: &str) -> Result<(), String> {
    let lines = report.lines().count();
    if lines <= MOST_LINES {
        return Ok(());
    }
    Err(format!(
        "the report has {lines} lines, more than the {MOST_LINES} that people read"
    ))
}

/// The review of the files under `root`; the output is the bytes written to `report.md` in `out`.
fn review(
    root: &str,
    out: &str,
) -> Result<impl Stage<In = (), Out = i64, Context = Review> + use<>, BoxError> {
    let patterns = Arc::new(Patterns::new()?);
    let extractor = |name: &'static str, extract: fn(&Patterns, &SourceFile) -> Vec<String>| {
        let patterns = Arc::clone(&patterns);
        let branch = step(name, move |file: Arc<SourceFile>| {
            let found = extract(&patterns, &file);
            async move { Ok::<_, BoxError>(found) }
        });
        (name, branch)
    };
    let extractors = parallel(
        "extractors",
        (
            (
                "lines",
                step("lines", |file: Arc<SourceFile>| async move {
                    Ok::<_, BoxError>(file.lines)
                }),
            ),
            extractor("todos", Patterns::todos),
            extractor("long_functions", Patterns::long_functions),
            extractor("missing_docs", Patterns::missing_docs),
            extractor("dependencies", Patterns::dependencies),
        ),
    );
    let facts = step("facts", |(lines, todos, long, docs, dependencies)| async move {
        let findings: [Vec<String>; 4] = [todos, long, docs, dependencies];
        Ok::<_, BoxError>(Facts { lines, findings })
    });

    let (glob_root, read_root, out) = (root.to_owned(), root.to_owned(), out.to_owned());
    let glob = step("glob", move |(): (), scope: Scope<Review>| {
        let root = glob_root.clone();
        async move {
            let paths = list(root).await?;
            scope.context().update(|review| review.paths.clone_from(&paths));
            Ok::<_, BoxError>(paths)
        }
    });
    let read = step("read", move |path: String| read(read_root.clone(), path)).retries(0);
    let add_up = step(
        "totals",
        |files: Vec<Option<Facts>>, scope: Scope<Review>| async move {
            Ok::<_, BoxError>(totals(scope.context().get()?.paths, files))
        },
    );
    let draft = step("draft", |totals: Totals, scope: Scope<()>| async move {
        let most = if scope.current().attempt > 1 {
            10
        } else {
            usize::MAX
        };
        Ok::<_, BoxError>(draft(&totals, most)?)
    })
    .retries(1)
    .validate(|report: &String| readable(report));
    let nothing = step("nothing", |totals: Totals| async move {
        Ok::<_, BoxError>(nothing(&totals) + "\nNothing was found.\n")
    });
    let write = step("write", move |report: String| {
        let agent = WriteConfig::new(out.clone(), "report.md").build();
        async move {
            let written = ask(&agent?, Value::from(report)).await?;
            Ok::<_, BoxError>(written.get("bytes").and_then(Value::as_int).unwrap_or_default())
        }
    });

    Ok(glob
        >> (read >> extractors >> facts)
            .map_over(8)
            .named("files")
            .keep_failures()
        >> add_up
        >> branch("decide", outcome)
            .case("findings", draft)
            .case("clean", nothing)
        >> write)
}

/// The steps as a tree. The items of a map would fill the screen: they are counted, and only failed ones are shown.
fn tree<'a>(steps: impl Iterator<Item = StepView<'a>>, depth: usize) -> String {
    let mut text = String::new();
    let indent = "  ".repeat(depth);
    for step in steps {
        let attempts = match step.attempts() {
            0 | 1 => String::new(),
            attempts => format!(", {attempts} attempts"),
        };
        let (name, status, time, cost) = (step.name(), step.status(), step.time(), step.usage().cost);
        // Writing to text can't fail.
        let _ = writeln!(text, "{indent}{name}: {status:?} in {time:.1?}{attempts}, {cost}");
        for reason in step.attempt_feedback() {
            let _ = writeln!(text, "{indent}    {reason}");
        }
        let lanes: Vec<_> = step.lanes().collect();
        if !lanes.is_empty() {
            let failed: Vec<_> = lanes.iter().filter_map(LaneView::error).collect();
            let _ = writeln!(
                text,
                "{indent}  {} items, {} of them failed",
                lanes.len(),
                failed.len()
            );
            for reason in failed {
                let _ = writeln!(text, "{indent}    {reason}");
            }
        }
        text += &tree(step.children(), depth + 1);
    }
    text
}

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(out), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: repo_review ROOT OUT");
        return Ok(ExitCode::from(2));
    };
    std::fs::create_dir_all(&out)?;
    let flujo = Flujo::new(review(&root, &out)?);
    let mut run = flujo.start(());
    let ended = tokio::select! {
        ended = &mut run => ended,
        _ = tokio::signal::ctrl_c() => {
            run.cancel();
            run.await
        }
    };
    match ended {
        Ok(done) => {
            eprint!("{}", tree(done.steps.iter(), 0));
            Ok(ExitCode::SUCCESS)
        }
        Err(RunError::Cancelled { partial, .. }) => {
            eprint!("{}", tree(partial.steps.iter(), 0));
            eprintln!("interrupted; no report was written");
            Ok(ExitCode::from(130))
        }
        Err(error) => {
            if let Some(partial) = error.partial() {
                eprint!("{}", tree(partial.steps.iter(), 0));
            }
            Err(error.into())
        }
    }
}
