//! What is kept of runs: listed, shown, exported, purged, and where it may be.

use std::path::Path;

use crate::context::{Said, assert_said};
use crate::runs::{context, json, killed};

#[test]
fn the_store_is_an_option_a_variable_or_a_setting_seen_from_its_file() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let context = context();
    context.file("go", "");
    assert_eq!(context.run("run steps.yaml --store kept/mine.db").code, Some(0));
    assert_eq!(mode(&context.path("kept")), 0o700);
    assert_eq!(mode(&context.path("kept/mine.db")), 0o600);

    let done = context
        .command("run steps.yaml --run-id one")
        .env("FLUJO_STATE_URI", "sqlite:///other.db")
        .output()
        .unwrap();
    assert!(done.status.success() && context.path("other.db").exists());

    context.file("flujo.toml", "state_uri = true\n[allow]\ncommand = true\n");
    context.file("below/go", "");
    let mut below = context.command("run ../steps.yaml --run-id two");
    assert!(
        below
            .current_dir(context.path("below"))
            .output()
            .unwrap()
            .status
            .success()
    );
    assert_eq!(mode(&context.path(".flujo")), 0o700);
    let said = context.run("runs show two --json");
    assert_eq!(json(&said)["status"], "completed");
    let said = context.run("config show --origin");
    assert!(
        said.stdout.contains("state_uri = \"true\"  # "),
        "{}",
        said.stdout
    );
}

#[test]
fn runs_are_listed_page_by_page_and_filtered() {
    let context = context();
    context.file("go", "");
    for id in ["a", "b", "c"] {
        context.run(&format!("run steps.yaml --store --run-id {id}"));
    }
    context.run("run asking.yaml --store --run-id q");
    let ids = |arguments: &str| -> Vec<String> {
        let list = json(&context.run(&format!("runs list --json {arguments}")));
        let runs = list["runs"].as_array().unwrap().iter();
        runs.map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(""), ["q", "c", "b", "a"]);
    assert_eq!(ids("--status paused"), ["q"]);
    assert_eq!(
        ids("--status paused --status completed --pipeline steps"),
        ["c", "b", "a"]
    );
    assert_eq!(ids("--older-than 1h"), Vec::<String>::new());
    assert_eq!(ids("--newer-than 1h --limit 2"), ["q", "c"]);
    let first = json(&context.run("runs list --json --limit 3"));
    assert_eq!(
        ids(&format!("--after {}", first["next"].as_str().unwrap())),
        ["a"]
    );
    assert_eq!(context.run("runs list --after x").code, Some(2));
    assert_eq!(context.run("runs list --status done").code, Some(2));
    let said = context.run("runs list");
    assert!(
        said.stdout.lines().count() == 5 && said.stdout.starts_with("run  pipeline"),
        "{}",
        said.stdout
    );
}

#[test]
fn runs_are_purged_after_it_is_said_how_many() {
    let context = context();
    context.file("go", "");
    for id in ["a", "b", "c"] {
        context.run(&format!("run steps.yaml --store --run-id {id}"));
    }
    context.run("run asking.yaml --store --run-id q");
    let said = context.run("runs purge");
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("3 runs would be deleted"), "{}", said.stderr);
    assert_eq!(
        context.run("runs purge --dry-run --keep 1").stdout,
        "2 runs would be deleted\n"
    );
    assert_eq!(
        context.run("runs purge --older-than 1h --yes").stdout,
        "0 runs deleted\n"
    );
    let purged = json(&context.run("runs purge --keep 1 --yes --json"));
    assert_eq!(purged, serde_json::json!({"found": 2, "deleted": 2}));
    assert_eq!(context.run("runs purge q --yes").stdout, "1 run deleted\n");
    let left = json(&context.run("runs list --json"));
    assert_eq!(left["runs"].as_array().unwrap().len(), 1);
    assert_eq!(left["runs"][0]["id"], "c");
}

#[test]
fn all_that_is_stored_of_a_run_is_exported() {
    let context = context();
    killed(&context, "7");
    let all = json(&context.run("runs export 7"));
    assert_eq!(all["format"], 1);
    assert_eq!(all["run"]["id"], "7");
    assert_eq!(all["definition"]["plan"][0], "steps");
    let entries = all["records"][0]["entries"].to_string();
    assert!(
        entries.contains("\"Answered\"") && entries.contains("\"value\":\"1\""),
        "{entries}"
    );
    assert_eq!(all["result"]["tree"][0]["name"], "first");
}

#[test]
fn what_is_printed_as_json_fits_its_schema() {
    let context = context();
    let schema = json(&context.run("schema runs"));
    let schema = jsonschema::validator_for(&schema).unwrap();
    context.run("run both.yaml --store --run-id b");
    context.run("run asking.yaml --store --run-id one");
    context.run("runs answer one yes");
    for command in ["runs list --json", "runs show b --json", "runs show one --json"] {
        let printed = json(&context.run(command));
        let errors: Vec<_> = schema
            .iter_errors(&printed)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{command}: {errors:?}\n{printed:#}");
    }
}

#[test]
fn a_run_is_shown_with_its_steps_and_what_it_asks() {
    let context = context();
    context.run("run both.yaml --store --run-id b");
    let mut said = context.run("runs show b");
    let time = regular("....-..-..T..:..:......Z", &said.stdout);
    said.stdout = time.replace(
        context.path("").canonicalize().unwrap().to_str().unwrap(),
        "FOLDER",
    );
    assert_said!(said);
}

/// A text with times of day taken out; `.` in the shape is any character.
fn regular(shape: &str, text: &str) -> String {
    let fits = |part: &str| {
        part.len() == shape.len() && shape.chars().zip(part.chars()).all(|(s, c)| s == '.' || s == c)
    };
    let line = |line: &str| {
        let parts = line.split(' ').map(|part| {
            let bare = part.trim_end_matches(',');
            if fits(bare) {
                part.replace(bare, "WHEN")
            } else {
                part.to_owned()
            }
        });
        parts.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn an_unknown_run_is_no_run() {
    let context = context();
    context.run("run both.yaml --store --run-id b");
    for command in ["show", "watch", "resume", "cancel", "export", "answer -q"] {
        let value = if command.starts_with("answer") { " x" } else { "" };
        let said = context.run(&format!("runs {command} nobody{value}"));
        assert_eq!(said.code, Some(2), "{command}: {}", said.whole());
        assert!(
            said.stderr.contains("FLU-0702") && said.has_no_traceback(),
            "{command}: {}",
            said.stderr
        );
    }
}

#[test]
fn content_is_encrypted_or_not_stored_and_nobody_else_can_read_it() {
    let context = context();
    context.file(
        "secret.yaml",
        "steps: [{name: ask, kind: hitl, message: 'canary {{ input }}'}]",
    );
    let key = "ab".repeat(32);
    let with = |arguments: &str, key: &str| {
        let mut command = context.command(arguments);
        Said::from(command.env("FLUJO_STORE_KEY", key).output().unwrap())
    };
    let run = "run secret.yaml --store --run-id s --input bird --store-content encrypted";
    let said = context.run(run);
    assert!(said.stderr.contains("FLUJO_STORE_KEY"), "{}", said.stderr);
    assert_eq!(with(run, &key).code, Some(3));
    let said = with("runs show s --store-content encrypted", &key);
    assert!(said.stdout.contains("canary bird"), "{}", said.whole());
    let said = context.run("runs show s");
    assert_eq!(said.code, Some(1), "{}", said.whole());
    assert!(
        said.stderr.contains("give `--store-content encrypted`"),
        "{}",
        said.stderr
    );
    let said = with("runs show s --store-content encrypted", &"cd".repeat(32));
    assert_eq!(said.code, Some(1), "{}", said.whole());
    assert!(
        said.stderr.contains("FLU-0701") && !said.stderr.contains("cdcd"),
        "{}",
        said.stderr
    );
    assert_eq!(
        with("runs answer s yes --store-content encrypted", &key).code,
        Some(0)
    );

    let said = context.run("run secret.yaml --store --run-id n --input bird --store-content none");
    assert_eq!(said.code, Some(3), "{}", said.whole());
    let said = context.run("runs answer n yes --store-content none");
    assert!(
        said.stderr.contains("its content was not stored"),
        "{}",
        said.stderr
    );
    let said = context.run("runs list --store-content none");
    assert!(
        said.stdout.contains("paused") && !said.stdout.contains("canary"),
        "{}",
        said.stdout
    );

    for file in std::fs::read_dir(context.path(".flujo")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for canary in ["canary", "bird"] {
            assert!(
                !bytes.windows(canary.len()).any(|part| part == canary.as_bytes()),
                "{canary}"
            );
        }
    }
}

#[test]
fn a_damaged_file_is_told_and_left_as_it_is() {
    let context = context();
    context.file(
        "runs.db",
        b"this was never a store of runs, whatever its name says".repeat(99),
    );
    let before = std::fs::read(context.path("runs.db")).unwrap();
    for command in [
        "run both.yaml --run-id b --store runs.db",
        "runs list --store runs.db",
    ] {
        let said = context.run(command);
        assert_eq!(said.code, Some(1), "{}", said.whole());
        assert!(
            said.stderr.contains("FLU-0705") && said.has_no_traceback(),
            "{}",
            said.stderr
        );
    }
    assert_eq!(std::fs::read(context.path("runs.db")).unwrap(), before);
}

#[test]
fn a_run_with_a_damaged_page_is_told_and_the_others_are_shown() {
    const PAGE: usize = 4096;
    let context = context();
    context.file(
        "say.yaml",
        "steps: [{name: say, agent: {type: template, template: '{{ input }}'}}]",
    );
    // Long enough to fill pages with nothing but it.
    for id in ["a", "b"] {
        let input = id.repeat(3 * PAGE);
        let said = context.run(&format!(
            "run say.yaml --store kept/runs.db --run-id {id} --input {input}"
        ));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }
    let whole = std::fs::read(context.path("kept/runs.db")).unwrap();
    let mut told = 0;
    for (number, page) in whole.chunks(PAGE).enumerate() {
        // But for where it goes on.
        if !page[4..].iter().all(|byte| *byte == b'a') {
            continue;
        }
        let mut damaged = whole.clone();
        damaged[number * PAGE..][..PAGE].fill(0xff);
        context.file("damaged.db", &damaged);
        let said = context.run("runs show a --store damaged.db");
        if said.code != Some(0) {
            assert_eq!(said.code, Some(1), "{}", said.whole());
            for part in ["FLU-0705", "run `a`", "damaged.db"] {
                assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
            }
            assert!(said.has_no_traceback(), "{}", said.stderr);
            told += 1;
        }
        let list = json(&context.run("runs list --json --store damaged.db"));
        assert_eq!(list["runs"].as_array().unwrap().len(), 2);
        let said = context.run("runs show b --store damaged.db");
        assert!(
            said.code == Some(0) && said.stdout.contains("bbbb"),
            "{}",
            said.whole()
        );
        assert!(
            std::fs::read(context.path("damaged.db")).unwrap() == damaged,
            "it was changed"
        );
    }
    assert!(told > 0, "no page of the run is damaged");
}

#[test]
fn a_place_that_can_not_be_written_to_is_told_before_anything_runs() {
    let context = context();
    context.file("go", "");
    for place in ["/proc/runs.db", "steps.yaml/runs.db"] {
        let said = context.run(&format!("run steps.yaml --store {place}"));
        assert_eq!(said.code, Some(1), "{}", said.whole());
        assert!(
            said.stderr.contains("FLU-0701") && said.has_no_traceback(),
            "{}",
            said.stderr
        );
    }
    let said = context.run("run steps.yaml --store mysql://me:secret@host/runs");
    assert_eq!(said.code, Some(2), "{}", said.whole());
    assert!(
        said.stderr.contains("FLU-0501") && !said.stderr.contains("secret"),
        "{}",
        said.stderr
    );
    assert!(!context.path("log").exists());
}
