//! The examples are valid, and those that need nothing from outside run.

use std::path::{Path, PathBuf};

use crate::context::TestContext;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let context = TestContext::new();
    context
        .file("crates/one/Cargo.toml", "[package]\nname = \"one\"\n")
        .file("target/keep", "");
    let mut command = context.command("run -q");
    command.arg(examples().join(arguments[0])).args(&arguments[1..]);
    let done = command.output().unwrap();
    (done.status.code(), String::from_utf8(done.stdout).unwrap())
}

#[test]
fn every_example_is_valid() {
    let mut count = 0;
    for folder in std::fs::read_dir(examples()).unwrap() {
        let Ok(files) = std::fs::read_dir(folder.unwrap().path()) else {
            continue;
        };
        for file in files {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let done = TestContext::new()
                    .command("validate")
                    .arg(&path)
                    .output()
                    .unwrap();
                assert!(
                    done.status.success(),
                    "{}: {}",
                    path.display(),
                    String::from_utf8_lossy(&done.stderr)
                );
                count += 1;
            }
        }
    }
    assert!(count >= 7, "only {count} examples");
}

#[test]
fn the_example_of_caching_makes_each_greeting_once() {
    let (code, output) = run(&["caching/caching.yaml", "--input", "Ada Bob Ada", "--json"]);
    assert_eq!(code, Some(0), "{output}");
    let result: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        result["output"],
        serde_json::json!(["Hello Ada!", "Hello Bob!", "Hello Ada!"])
    );
    let found = output.matches("\"saved\": {").count() + output.matches("\"saved\":{").count();
    assert_eq!(found, 1, "{output}");
}

#[test]
fn the_example_of_each_local_agent_does_what_it_says() {
    assert_eq!(
        run(&["agents/template.yaml", "--input", "Ada"]),
        (Some(0), "Hello Ada!\n".to_owned())
    );
    let (code, output) = run(&[
        "agents/extract.yaml",
        "--input",
        "The answer is {\"items\": [\"a\"]}.",
    ]);
    assert_eq!(code, Some(0));
    let output: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(output["items"], serde_json::json!(["a"]));
    assert_eq!(output["words"][0], "The");
    let words = run(&[
        "agents/command.yaml",
        "--input",
        "one two three",
        "--allow",
        "command=wc",
    ]);
    assert_eq!(words, (Some(0), "3 words\n".to_owned()));
    let (code, output) = run(&["agents/files.yaml", "--allow", "file_write=target"]);
    assert_eq!(code, Some(0));
    assert!(output.contains("manifests.txt"), "{output}");
}
