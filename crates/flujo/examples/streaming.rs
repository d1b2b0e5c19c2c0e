//! The events of a run as a stream, chunks of an agent's answer among them.

use flujo::{
    Agent, AgentError, AgentOutput, AgentRequest, BoxError, BoxFuture, EventKind, Flujo, Value, agent_step,
};

struct Poet;

impl Agent for Poet {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            for word in ["roses", "are", "red"] {
                request.send_chunk(word).await;
            }
            Ok(Value::from("roses are red").into())
        })
    }
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let mut run = Flujo::new(agent_step("poet", Poet)).start(Value::from("a poem"));
    let mut words = Vec::new();
    while let Some(event) = run.events().next().await {
        if let EventKind::Chunk(word) = event.kind {
            words.push(word.as_str().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(words, ["roses", "are", "red"]);
    assert_eq!(run.await?.output, Value::from("roses are red"));
    Ok(())
}
