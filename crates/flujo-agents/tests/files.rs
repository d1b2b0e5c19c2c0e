//! What the file agents promise, on real files.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking, also in what several tests share

use std::fs;
use std::path::Path;

use flujo_agents::files::{GlobConfig, ReadConfig, WriteConfig};
use flujo_core::agent::{Agent, AgentError, AgentRequest, Retry};
use flujo_core::value::Value;

async fn run(agent: &dyn Agent, input: impl Into<Value>) -> Result<Value, AgentError> {
    let request = AgentRequest {
        input: input.into(),
        ..AgentRequest::default()
    };
    agent.run(request).await.map(|output| output.value)
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

fn root(folder: &tempfile::TempDir) -> String {
    folder.path().to_str().unwrap().to_owned()
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_list()
        .unwrap()
        .iter()
        .map(|item| item.as_str().unwrap())
        .collect()
}

fn project() -> tempfile::TempDir {
    folder(&[
        ("b.rs", b""),
        ("a.txt", b""),
        ("src/deep/c.rs", b""),
        ("src/a.rs", b""),
        ("target/x.rs", b""),
        (".gitignore", b"target/\n"),
        (".git/config.rs", b""),
        (".ci/run.rs", b""),
    ])
}

#[tokio::test]
async fn a_glob_lists_matching_files_sorted_and_relative() {
    let project = project();
    let list = |config: GlobConfig| async move { run(&config.build().unwrap(), ()).await.unwrap() };
    let config = GlobConfig::new(root(&project), ["**/*.rs"]);
    assert_eq!(
        strings(&list(config.clone()).await),
        ["b.rs", "src/a.rs", "src/deep/c.rs"]
    );
    let excluded = GlobConfig {
        exclude: vec!["src/deep".into()],
        ..config.clone()
    };
    assert_eq!(strings(&list(excluded).await), ["b.rs", "src/a.rs"]);
    let everything = GlobConfig {
        gitignore: false,
        hidden: true,
        ..config.clone()
    };
    assert_eq!(
        strings(&list(everything).await),
        [
            ".ci/run.rs",
            ".git/config.rs",
            "b.rs",
            "src/a.rs",
            "src/deep/c.rs",
            "target/x.rs"
        ]
    );
    let hidden = GlobConfig {
        hidden: true,
        ..config.clone()
    };
    assert_eq!(
        strings(&list(hidden).await),
        [".ci/run.rs", "b.rs", "src/a.rs", "src/deep/c.rs"]
    );
    let flat = GlobConfig {
        include: vec!["*.rs".into(), "./*.txt".into()],
        ..config
    };
    assert_eq!(strings(&list(flat).await), ["a.txt", "b.rs"]);
}

#[tokio::test]
async fn a_glob_that_would_leave_its_root_or_list_too_much_is_refused() {
    for pattern in ["../*.rs", "/etc/*", "src/../../*"] {
        let error = GlobConfig::new(".", [pattern]).build().unwrap_err().to_string();
        assert!(error.contains("would leave the root"), "{error}");
    }
    let project = project();
    let config = GlobConfig {
        max_files: 2,
        ..GlobConfig::new(root(&project), ["**/*.rs"])
    };
    let error = run(&config.build().unwrap(), ()).await.unwrap_err();
    assert!(error.message.contains("more than 2 files match"), "{error}");
    let error = run(&GlobConfig::new("{{ input }}", ["*"]).build().unwrap(), "no/such")
        .await
        .unwrap_err();
    assert!(error.message.contains("`no/such` can't be opened"), "{error}");
    assert_eq!(error.retry, Retry::Never);
}

#[tokio::test]
async fn a_file_is_read_with_its_path_lines_and_bytes() {
    let project = folder(&[("src/a.txt", "ä\nb".as_bytes())]);
    let agent = ReadConfig {
        root: root(&project),
        ..ReadConfig::default()
    }
    .build()
    .unwrap();
    let output = run(&agent, "src/a.txt").await.unwrap();
    let expected = r#"{"path": "src/a.txt", "lines": 2, "bytes": 4, "text": "ä\nb"}"#;
    assert_eq!(output, serde_json::from_str(expected).unwrap());
    let absolute = project.path().join("src/a.txt");
    let output = run(&agent, absolute.to_str().unwrap()).await.unwrap();
    assert_eq!(output.get("path"), Some(&Value::from("src/a.txt")));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_with_the_reason() {
    let project = folder(&[("latin.txt", b"caf\xe9"), ("big.txt", &[b'x'; 101])]);
    let agent = ReadConfig {
        root: root(&project),
        max_bytes: 100,
        ..ReadConfig::default()
    }
    .build()
    .unwrap();
    for (path, reason) in [
        ("gone.txt", "the file `gone.txt` can't be read: No such file"),
        ("latin.txt", "first bad byte is at 3 of 4"),
        ("big.txt", "larger than 100 bytes"),
        (".", "isn't a file"),
        ("", "the path is empty"),
        ("a\0b", "NUL"),
    ] {
        let error = run(&agent, path).await.unwrap_err();
        assert!(error.message.contains(reason), "{path}: {error}");
        assert_eq!(error.retry, Retry::Never);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn no_path_and_no_link_leads_out_of_the_root() {
    let outside = folder(&[("secret.txt", b"x")]);
    let project = folder(&[("a.rs", b"")]);
    std::os::unix::fs::symlink(outside.path(), project.path().join("link")).unwrap();
    let read = ReadConfig {
        root: root(&project),
        ..ReadConfig::default()
    }
    .build()
    .unwrap();
    let write = WriteConfig::new(root(&project), "{{ input }}").build().unwrap();
    let elsewhere = outside.path().join("secret.txt");
    for path in [
        "../x",
        "link/secret.txt",
        "link/new/x.txt",
        elsewhere.to_str().unwrap(),
    ] {
        let error = run(&write, path).await.unwrap_err();
        assert!(error.message.contains("isn't inside the root"), "{path}: {error}");
    }
    for path in ["../x", "link/secret.txt", elsewhere.to_str().unwrap()] {
        let error = run(&read, path).await.unwrap_err();
        assert!(error.message.contains("isn't inside the root"), "{path}: {error}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    let listed = run(&GlobConfig::new(root(&project), ["**"]).build().unwrap(), ())
        .await
        .unwrap();
    assert_eq!(strings(&listed), ["a.rs"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_pipe_is_refused_and_never_waited_for() {
    let project = folder(&[]);
    let made = std::process::Command::new("mkfifo")
        .arg(project.path().join("pipe"))
        .status()
        .unwrap();
    assert!(made.success());
    let agent = ReadConfig {
        root: root(&project),
        ..ReadConfig::default()
    }
    .build()
    .unwrap();
    let error = run(&agent, "pipe").await.unwrap_err();
    assert!(error.message.contains("isn't a file"), "{error}");
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn a_file_is_written_whole_with_missing_folders_made_and_nothing_left_beside_it() {
    let project = folder(&[]);
    let agent = WriteConfig::new(root(&project), "out/report.md").build().unwrap();
    let output = run(&agent, "first").await.unwrap();
    assert_eq!(
        output,
        serde_json::from_str(r#"{"path": "out/report.md", "bytes": 5}"#).unwrap()
    );
    run(&agent, Value::list([Value::Int(1)])).await.unwrap();
    let written = project.path().join("out/report.md");
    assert_eq!(fs::read_to_string(&written).unwrap(), "[1]");
    run(&agent, Value::Bytes([0xff].into())).await.unwrap();
    assert_eq!(fs::read(&written).unwrap(), [0xff]);
    assert_eq!(names(&project.path().join("out")), ["report.md"]);

    let templated = WriteConfig {
        content: Some("# {{ input }}\n".into()),
        ..WriteConfig::new(root(&project), "b.md")
    };
    run(&templated.build().unwrap(), "Title").await.unwrap();
    assert_eq!(
        fs::read_to_string(project.path().join("b.md")).unwrap(),
        "# Title\n"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_replaced_file_keeps_its_rights_and_a_new_one_has_those_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let project = folder(&[("run.sh", b""), ("plain", b"")]);
    let mode = |name: &str| {
        fs::metadata(project.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    fs::set_permissions(project.path().join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["run.sh", "new"] {
        run(&WriteConfig::new(root(&project), name).build().unwrap(), "x")
            .await
            .unwrap();
    }
    assert_eq!((mode("run.sh"), mode("new")), (0o755, mode("plain")));
}

#[tokio::test]
async fn a_write_that_fails_leaves_the_folder_as_it_was() {
    let project = folder(&[("a/keep.txt", b"old")]);
    let agent = WriteConfig::new(root(&project), "{{ input }}").build().unwrap();
    for path in ["a", "a/", "a/keep.txt/deeper.txt"] {
        assert_eq!(run(&agent, path).await.unwrap_err().retry, Retry::Never, "{path}");
    }
    assert_eq!(names(&project.path().join("a")), ["keep.txt"]);
    assert_eq!(
        fs::read_to_string(project.path().join("a/keep.txt")).unwrap(),
        "old"
    );
}

#[test]
fn a_write_that_is_cancelled_before_its_turn_leaves_the_old_file() {
    let project = folder(&[("report.md", b"old")]);
    let agent = WriteConfig::new(root(&project), "report.md").build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        // The one thread for blocking work is busy until the call has been cancelled.
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || wait.recv().unwrap());
        let call = tokio::spawn(async move { run(&agent, "new").await });
        tokio::task::yield_now().await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        release.send(()).unwrap();
        busy.await.unwrap();
        tokio::task::spawn_blocking(|| ()).await.unwrap(); // queued behind the write
    });
    assert_eq!(
        fs::read_to_string(project.path().join("report.md")).unwrap(),
        "old"
    );
    assert_eq!(names(project.path()), ["report.md"]);
}
