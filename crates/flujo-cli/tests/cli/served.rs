//! Runs that are kept on a `PostgreSQL` server.

#[path = "../../../flujo-store/tests/stores/server.rs"]
mod server;

use std::process::Command;

use server::Server;

use crate::context::{Said, TestContext};

#[test]
fn a_run_on_a_server_is_answered_by_another_process_and_no_password_is_shown() {
    let mut server = Server::with(&["fsync=off"]);
    let address = server.address();
    let context = TestContext::new();
    context.file("ask.yaml", "steps: [{name: ask, kind: hitl, message: 'Really?'}]");
    let run = |arguments: &str| {
        let mut command: Command = context.command(arguments);
        Said::from(command.arg("--store").arg(&address).output().unwrap())
    };
    let said = run("run ask.yaml --run-id one");
    assert_eq!(said.code, Some(3), "{}", said.whole());
    let shown = run("runs show one");
    assert!(shown.stdout.contains("Really?"), "{}", shown.whole());
    assert_eq!(run("runs answer one yes").stdout, "yes\n");
    let list = run("runs list");
    assert!(list.stdout.contains("completed"), "{}", list.whole());
    for said in [said, shown, list] {
        assert!(!said.whole().contains("secret"), "{}", said.whole());
    }
    // The server ends with what it is supervised by.
    if let Some(mut process) = server.process.take() {
        drop(process.stdin.take());
        process.wait().unwrap();
    }
    let mut command = context.command("runs list");
    let gone = Said::from(command.arg("--store").arg(&address).output().unwrap());
    assert_eq!(gone.code, Some(1), "{}", gone.whole());
    assert!(
        gone.stderr.contains("FLU-0701") && !gone.whole().contains("secret"),
        "{}",
        gone.whole()
    );
}
