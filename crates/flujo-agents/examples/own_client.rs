//! Any client of a model library is an agent in under fifteen lines: implement one method.
//!
//! Run it with `cargo run -p flujo-agents --example own_client`.

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::usage::{Cost, Usage};
use flujo_core::value::Value;

/// Stands for the client of a library: it counts words instead of asking a model.
struct LibraryClient;

impl LibraryClient {
    async fn complete(&self, prompt: &str) -> Result<(String, u64), std::io::Error> {
        tokio::task::yield_now().await; // a real client waits for its service here
        let words = prompt.split_whitespace().count();
        Ok((format!("{words} words"), words as u64))
    }
}

// These are the lines that you write.
struct MyModel(LibraryClient);

impl Agent for MyModel {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            let prompt = request
                .input
                .as_str()
                .ok_or_else(|| AgentError::permanent("the input must be text"))?;
            let (text, tokens) = self
                .0
                .complete(prompt)
                .await
                .map_err(|error| AgentError::new(format!("the model failed: {error}")).because(error))?;
            Ok(AgentOutput {
                value: Value::from(text),
                usage: Usage::new(Cost::ZERO, tokens),
                model: None,
                tokens: None,
            })
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AgentError> {
    let request = AgentRequest {
        input: "how many words are these".into(),
        ..AgentRequest::default()
    };
    let output = MyModel(LibraryClient).run(request).await?;
    tracing::info!(tokens = output.usage.tokens, "done");
    assert_eq!(output.value, Value::from("5 words"));
    Ok(())
}
