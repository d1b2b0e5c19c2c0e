//! A planner that says what is to be done next, until it has finished.

use flujo::{AgentCommand, BoxError, Flujo, Planning, agentic_loop, step};

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    // In real work a model decides; `AgentCommand` can be read from its JSON.
    let planner = step("plan", |now: Planning<String>| async move {
        let text = now.last_command_result.as_str().unwrap_or_default().to_owned();
        Ok::<_, BoxError>(match now.command_log.len() {
            0 => AgentCommand::run_agent("shout", &now.goal)?,
            1 => AgentCommand::run_agent("count", &text)?,
            _ => AgentCommand::finish(&now.command_log)?,
        })
    });
    let shout = step("shout", |text: String| async move {
        Ok::<_, BoxError>(text.to_uppercase())
    });
    let count = step(
        "count",
        |text: String| async move { Ok::<_, BoxError>(text.len()) },
    );
    let work = agentic_loop("work", planner)
        .agent("shout", shout)
        .agent("count", count)
        .answer::<Vec<flujo::AgentTurn>>();
    let turns = Flujo::new(work).run("hello".into()).await?.output;
    assert_eq!(turns[0].execution_result.as_str(), Some("HELLO"));
    assert_eq!(turns[1].execution_result.as_int(), Some(5));
    Ok(())
}
