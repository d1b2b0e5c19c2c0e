//! What the chat agent promises, against a real server with every fault.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking, also in what several tests share

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::loopback::{Reply, Server, nowhere, reply, run};
use flujo_agents::Pricing;
use flujo_agents::chat::{AgentTool, Chat, ChatBuilder, FunctionTool, Price};
use flujo_core::agent::{Agent, AgentError, AgentRequest, BoxFuture, ChunkSink, Retry};
use flujo_core::usage::Cost;
use flujo_core::value::Value;

const PRICE: Price = Price {
    prompt_per_million: 1.0,
    completion_per_million: 2.0,
};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn chat(server: &Server) -> ChatBuilder {
    Chat::builder(format!("{}/v1", server.url), "small").price(PRICE)
}

fn completion(message: &str) -> Reply {
    let body = format!(
        r#"{{"model": "small-2", "choices": [{{"message": {message}, "finish_reason": "stop"}}],
            "usage": {{"prompt_tokens": 100, "completion_tokens": 10}}}}"#
    );
    reply("200 OK", &["Content-Type: application/json"], &body)
}

fn says(text: &str) -> Reply {
    completion(&serde_json::json!({"role": "assistant", "content": text}).to_string())
}

fn calls(name: &str, arguments: &str) -> Reply {
    let call = serde_json::json!({"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}});
    completion(&serde_json::json!({"role": "assistant", "content": null, "tool_calls": [call]}).to_string())
}

fn body(server: &Server, index: usize) -> serde_json::Value {
    let request = server.request(index);
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn an_answer_comes_with_its_tokens_cost_requests_and_model() {
    let server = Server::start([says("Paris")]).await;
    let agent = chat(&server)
        .system("Be {{ context.tone }}.")
        .prompt("Capital of {{ input }}?")
        .temperature(0.0)
        .top_p(0.5)
        .max_tokens(20)
        .build()
        .unwrap();
    let output = agent
        .run(AgentRequest {
            input: "France".into(),
            context: Value::map([("tone", Value::from("brief"))]),
            ..AgentRequest::default()
        })
        .await
        .unwrap();

    assert_eq!(output.value, Value::from("Paris"));
    assert_eq!(output.model.as_deref(), Some("small-2"));
    assert_eq!((output.usage.tokens, output.usage.requests), (110, 1));
    assert_eq!(
        output.usage.cost,
        Cost::from_nanos(100 * 1000 + 10 * 2000).unwrap()
    );
    assert!(
        server
            .request(0)
            .starts_with("POST /v1/chat/completions HTTP/1.1\r\n")
    );
    let expected = serde_json::json!({
        "model": "small", "temperature": 0.0, "top_p": 0.5, "max_tokens": 20,
        "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of France?"}
        ],
    });
    assert_eq!(body(&server, 0), expected);
}

#[tokio::test]
async fn a_conversation_goes_out_as_it_came_in() {
    let server = Server::start([says("4")]).await;
    let conversation =
        json(r#"[{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "5"}]"#);
    run(&chat(&server).build().unwrap(), conversation.clone())
        .await
        .unwrap();
    assert_eq!(
        body(&server, 0)["messages"],
        serde_json::to_value(&conversation).unwrap()
    );
}

#[tokio::test]
async fn the_key_is_sent_and_shown_nowhere_else() {
    let refusal = r#"{"error": {"message": "Incorrect API key provided: sk-secret-1"}}"#;
    let server = Server::start([reply("401 Unauthorized", &[], refusal)]).await;
    let builder = chat(&server).api_key("sk-secret-1\n");
    assert!(!format!("{builder:?}").contains("secret"));
    let agent = builder.build().unwrap();
    assert!(!format!("{agent:?}").contains("secret"));
    let error = run(&agent, "hi").await.unwrap_err();

    assert!(
        server
            .request(0)
            .contains("authorization: Bearer sk-secret-1\r\n")
    );
    assert!(
        error.message.contains("401") && error.message.contains("check the key"),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    assert_eq!(error.retry, Retry::Never);
}

#[tokio::test]
async fn overload_is_to_be_tried_again_after_the_time_asked_for() {
    let server = Server::start([reply("429 Too Many Requests", &["Retry-After: 3"], "{}")]).await;
    let error = run(&chat(&server).build().unwrap(), "hi").await.unwrap_err();
    assert_eq!(error.retry, Retry::After(Duration::from_secs(3)));
    assert_eq!(error.usage.requests, 1);
}

#[tokio::test]
async fn a_server_that_is_down_and_one_that_answers_garbage_are_named_with_a_cure() {
    let agent = Chat::builder(nowhere().await, "small").build().unwrap();
    let down = run(&agent, "hi").await.unwrap_err();
    assert!(
        down.message.contains("can't connect to http://127.0.0.1:"),
        "{down}"
    );
    assert!(down.message.contains("check that the server runs"), "{down}");
    assert!(down.usage.is_zero(), "no request left: {:?}", down.usage);

    let cut_off = Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"choices\"".to_vec());
    let garbage = [
        "<html>hello</html>",
        r#"{"choices": []}"#,
        r#"{"choices": [{"message": 7}]}"#,
    ];
    let script = garbage
        .map(|body| reply("200 OK", &[], body))
        .into_iter()
        .chain([cut_off]);
    let server = Server::start(script).await;
    let agent = chat(&server).build().unwrap();
    for _ in garbage {
        let error = run(&agent, "hi").await.unwrap_err();
        assert!(error.message.contains("/v1/chat/completions"), "{error}");
        assert!(error.message.contains("check that `base_url`"), "{error}");
        assert_eq!(error.usage.requests, 1);
    }
    let error = run(&agent, "hi").await.unwrap_err();
    assert!(error.message.contains("broke off"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_is_given_up_at_the_time_limit() {
    let server = Server::start([Reply::Stall(Vec::new())]).await;
    let error = run(
        &chat(&server).timeout(Duration::from_secs(5)).build().unwrap(),
        "hi",
    )
    .await
    .unwrap_err();
    assert!(
        error.message.contains("within 5 s") && error.message.contains("timeout_s"),
        "{error}"
    );
    assert_eq!(error.usage.requests, 1, "the request was sent");
}

#[tokio::test]
async fn an_answer_of_fifty_megabytes_is_refused_at_the_bound() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n".to_vec();
    let server = Server::start([Reply::Endless(head, vec![b' '; 1 << 16])]).await;
    let error = run(&chat(&server).build().unwrap(), "hi").await.unwrap_err();
    assert!(error.message.contains("larger than 16777216 bytes"), "{error}");
    assert_eq!(error.retry, Retry::Never);
}

#[derive(Default)]
struct Heard(Mutex<Vec<Value>>);

impl ChunkSink for Heard {
    fn send(&self, chunk: Value) -> BoxFuture<'_, ()> {
        self.0.lock().unwrap().push(chunk);
        Box::pin(async {})
    }
}

async fn listen(agent: &dyn Agent) -> (Result<flujo_core::agent::AgentOutput, AgentError>, Vec<Value>) {
    let heard = Arc::new(Heard::default());
    let request = AgentRequest {
        input: "hi".into(),
        chunks: Some(Arc::clone(&heard) as _),
        ..AgentRequest::default()
    };
    let result = agent.run(request).await;
    let chunks = heard.0.lock().unwrap().clone();
    (result, chunks)
}

fn events(events: &[&str]) -> Reply {
    let mut body = String::from(": hello\r\n\r\n");
    for event in events {
        write!(body, "data: {event}\r\n\r\n").unwrap();
    }
    Reply::Bytes(
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{body}")
            .into(),
    )
}

#[tokio::test]
async fn a_streamed_answer_arrives_piece_by_piece_and_whole_with_its_usage() {
    let server = Server::start([events(&[
        r#"{"model": "small-2", "choices": [{"delta": {"role": "assistant", "content": ""}}]}"#,
        r#"{"choices": [{"delta": {"content": "Gr"}}]}"#,
        r#"{"choices": [{"delta": {"content": "üße"}, "finish_reason": "stop"}]}"#,
        r#"{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}"#,
        "[DONE]",
    ])])
    .await;
    let (result, chunks) = listen(&chat(&server).build().unwrap()).await;
    let output = result.unwrap();
    assert_eq!(chunks, [Value::from("Gr"), Value::from("üße")]);
    assert_eq!(output.value, Value::from("Grüße"));
    assert_eq!((output.usage.tokens, output.usage.requests), (7, 1));
    let sent = body(&server, 0);
    assert_eq!(
        (&sent["stream"], &sent["stream_options"]["include_usage"]),
        (&true.into(), &true.into())
    );
}

#[tokio::test]
async fn a_stream_that_ends_early_is_an_error_and_keeps_the_usage_reported_so_far() {
    let server = Server::start([events(&[
        r#"{"choices": [{"delta": {"content": "half"}}], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}"#,
    ])])
    .await;
    let (result, chunks) = listen(&chat(&server).build().unwrap()).await;
    let error = result.unwrap_err();
    assert!(
        error.message.contains("ended before the answer was complete"),
        "{error}"
    );
    assert_eq!(error.retry, Retry::Allowed);
    assert_eq!((error.usage.tokens, error.usage.requests), (6, 1));
    assert_eq!(chunks, [Value::from("half")]);
}

#[tokio::test]
async fn a_stream_that_reports_an_error_or_garbage_is_an_error() {
    let fault = [r#"{"error": {"message": "the engine is overloaded"}}"#, "{oops"];
    let server = Server::start(fault.map(|event| events(&[event]))).await;
    let agent = chat(&server).build().unwrap();
    let error = listen(&agent).await.0.unwrap_err();
    assert!(error.message.contains("the engine is overloaded"), "{error}");
    let error = listen(&agent).await.0.unwrap_err();
    assert!(
        error.message.contains("isn't of the chat-completions protocol"),
        "{error}"
    );
}

#[tokio::test]
async fn an_endless_stream_is_cut_off_at_the_bound_with_or_without_line_ends() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n".to_vec();
    let event = "data: {\"choices\": [{\"delta\": {\"content\": \"xxxxxxxxxxxxxxxxxxxx\"}}]}\n\n".repeat(50);
    let server = Server::start([
        Reply::Endless(head.clone(), event.into()),
        Reply::Endless(head, b"data: never a line end".repeat(100)),
    ])
    .await;
    let agent = chat(&server).max_response_bytes(10_000).build().unwrap();
    for _ in 0..2 {
        let error = listen(&agent).await.0.unwrap_err();
        assert!(error.message.contains("larger than 10000 bytes"), "{error}");
    }
}

#[tokio::test]
async fn a_refusal_and_an_empty_answer_are_errors_and_count() {
    let refusal = r#"{"content": null, "refusal": "I will not say private-36"}"#;
    let server = Server::start([completion(refusal), says("")]).await;
    let agent = chat(&server).build().unwrap();
    let error = run(&agent, "hi").await.unwrap_err();
    assert!(error.message.contains("refused to answer"), "{error}");
    assert!(
        !error.message.contains("private-36"),
        "an error must not show the answer: {error}"
    );
    assert_eq!(error.usage.tokens, 110);
    assert!(
        run(&agent, "hi")
            .await
            .unwrap_err()
            .message
            .contains("empty answer")
    );
}

#[tokio::test]
async fn a_server_that_does_not_stream_still_answers_a_listener() {
    let server = Server::start([says("Paris")]).await;
    let (result, chunks) = listen(&chat(&server).build().unwrap()).await;
    assert_eq!(result.unwrap().value, Value::from("Paris"));
    assert_eq!(chunks, [Value::from("Paris")]);
}

const PERSON: &str = r#"{"title": "person", "type": "object", "required": ["name", "age"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}"#;

#[tokio::test]
async fn an_answer_with_a_schema_is_data_and_a_wrong_one_may_be_tried_again() {
    let right = r#"{"name": "Ada", "age": 36}"#;
    let server = Server::start([
        says(right),
        says(&format!("Here you are:\n```json\n{right}\n```")),
        says(r#"{"name": "Ada", "age": "private-36"}"#),
        says("I can't say."),
    ])
    .await;
    let agent = chat(&server).output_schema(json(PERSON)).build().unwrap();
    for _ in 0..2 {
        let output = run(&agent, "who?").await.unwrap();
        assert_eq!(
            output.value,
            Value::map([("name", Value::from("Ada")), ("age", Value::Int(36))])
        );
    }
    let sent = &body(&server, 0)["response_format"];
    assert_eq!(
        (&sent["type"], &sent["json_schema"]["name"]),
        (&"json_schema".into(), &"person".into())
    );

    let wrong = run(&agent, "who?").await.unwrap_err();
    assert!(
        wrong.message.contains("`/age`") && wrong.message.contains("integer"),
        "{wrong}"
    );
    assert!(
        !wrong.message.contains("private-36"),
        "an error must not show the answer: {wrong}"
    );
    assert_eq!((wrong.retry, wrong.usage.tokens), (Retry::Allowed, 110));
    let prose = run(&agent, "who?").await.unwrap_err();
    assert!(prose.message.contains("doesn't fit the output schema"), "{prose}");
}

fn weather() -> impl flujo_agents::chat::Tool {
    let parameters =
        json(r#"{"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}"#);
    FunctionTool::new(
        "weather",
        "The weather in a city",
        parameters,
        |arguments: Value| async move {
            match arguments.get("city").and_then(Value::as_str) {
                Some("Atlantis") => Err(AgentError::new("no such city")),
                city => Ok(Value::from(format!("sunny in {}", city.unwrap_or_default()))),
            }
        },
    )
}

#[tokio::test]
async fn a_tool_is_called_its_result_goes_back_and_every_round_counts() {
    let server = Server::start([calls("weather", r#"{"city": "Rome"}"#), says("It is sunny.")]).await;
    let output = run(&chat(&server).tool(weather()).build().unwrap(), "weather?")
        .await
        .unwrap();
    assert_eq!(output.value, Value::from("It is sunny."));
    assert_eq!((output.usage.tokens, output.usage.requests), (220, 2));
    assert_eq!(body(&server, 0)["tools"][0]["function"]["name"], "weather");
    let messages = &body(&server, 1)["messages"];
    assert_eq!(
        messages[1]["tool_calls"][0]["function"]["arguments"],
        r#"{"city": "Rome"}"#
    );
    assert_eq!(
        messages[2],
        serde_json::json!({"role": "tool", "tool_call_id": "c1", "content": "sunny in Rome"})
    );
}

#[tokio::test]
async fn a_models_mistake_with_a_tool_is_told_to_the_model() {
    let server = Server::start([
        calls("wheather", "{}"),
        calls("weather", "{oops"),
        calls("weather", r#"{"city": 7}"#),
        calls("weather", r#"{"city": "Atlantis"}"#),
        says("I give up."),
    ])
    .await;
    run(&chat(&server).tool(weather()).build().unwrap(), "weather?")
        .await
        .unwrap();
    let told = |index: usize| {
        body(&server, index)["messages"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()["content"]
            .clone()
    };
    assert_eq!(
        told(1),
        "error: there is no tool `wheather`; the tools are: weather"
    );
    assert!(told(2).as_str().unwrap().contains("aren't valid JSON"));
    assert!(told(3).as_str().unwrap().contains("`/city`"));
    assert_eq!(told(4), "error: no such city");
}

#[tokio::test]
async fn a_streamed_tool_call_is_put_together_from_its_pieces() {
    let server = Server::start([
        events(&[
            r#"{"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c9", "function": {"name": "weather", "arguments": ""}}]}}]}"#,
            r#"{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{\"city\":"}}]}}]}"#,
            r#"{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": " \"Rome\"}"}}]}, "finish_reason": "tool_calls"}]}"#,
        ]),
        says("done"),
    ])
    .await;
    let (result, _) = listen(&chat(&server).tool(weather()).build().unwrap()).await;
    assert_eq!(result.unwrap().value, Value::from("done"));
    let messages = &body(&server, 1)["messages"];
    assert_eq!(
        messages[2],
        serde_json::json!({"role": "tool", "tool_call_id": "c9", "content": "sunny in Rome"})
    );
}

#[tokio::test]
async fn a_model_that_never_stops_calling_tools_is_stopped_and_what_it_used_is_kept() {
    let rome = || calls("weather", r#"{"city": "Rome"}"#);
    let server = Server::start([rome(), rome(), rome()]).await;
    let agent = chat(&server).tool(weather()).max_tool_rounds(2).build().unwrap();
    let error = run(&agent, "weather?").await.unwrap_err();
    assert!(
        error.message.contains("after 2 rounds") && error.message.contains("max_tool_rounds"),
        "{error}"
    );
    assert_eq!((error.usage.requests, error.usage.tokens), (3, 330));
}

#[tokio::test]
async fn a_later_rounds_failure_keeps_the_usage_of_the_rounds_before() {
    let server = Server::start([
        calls("weather", r#"{"city": "Rome"}"#),
        reply("500 Oops", &[], ""),
    ])
    .await;
    let error = run(&chat(&server).tool(weather()).build().unwrap(), "weather?")
        .await
        .unwrap_err();
    assert_eq!(
        (error.usage.requests, error.usage.tokens, error.retry),
        (2, 110, Retry::Allowed)
    );
    assert!(error.usage.cost > Cost::ZERO);
}

#[tokio::test]
async fn a_model_without_a_price_says_so_and_reports_its_tokens_all_the_same() {
    let server = Server::start([says("hi")]).await;
    let agent = Chat::builder(&server.url, "small").build().unwrap();
    assert_eq!(agent.pricing(), Pricing::Unknown);
    let usage = run(&agent, "hi").await.unwrap().usage;
    assert_eq!((usage.tokens, usage.cost), (110, Cost::ZERO));
    assert!(usage.unpriced);
}

#[tokio::test]
async fn a_tool_without_a_price_leaves_the_whole_agent_without_one() {
    let tool = AgentTool {
        name: "ask".to_owned(),
        description: "asks another model".to_owned(),
        parameters: json(r#"{"type": "object"}"#),
        agent: Arc::new(Chat::builder("http://localhost/v1", "small").build().unwrap()),
    };
    let priced = || Chat::builder("http://localhost/v1", "large").price(PRICE);
    assert_eq!(priced().build().unwrap().pricing(), Pricing::Known);
    assert_eq!(priced().tool(tool).build().unwrap().pricing(), Pricing::Unknown);
}

#[test]
fn settings_that_cannot_work_are_refused_before_anything_is_sent() {
    let refused = |change: fn(ChatBuilder) -> ChatBuilder| {
        change(Chat::builder("http://localhost/v1", "small"))
            .build()
            .unwrap_err()
            .to_string()
    };
    assert!(refused(|c| c.temperature(3.0)).contains("`temperature`: must be between 0 and 2, but is 3"));
    assert!(refused(|c| c.top_p(f64::NAN)).contains("`top_p`"));
    assert!(refused(|c| c.max_tokens(0)).contains("`max_tokens`"));
    assert!(refused(|c| c.system("{% if %}")).contains("`system`: line 1"));
    assert!(refused(|c| c.output_schema(Value::from("x"))).contains("`output_schema`"));
    assert!(refused(|c| c.output_schema(json(r#"{"type": "nonsense"}"#))).contains("`output_schema`"));
    assert!(refused(|c| c.tool(weather()).tool(weather())).contains("two tools of this name"));
    assert!(refused(|c| c.extra(json(r#"{"model": "x"}"#))).contains("`extra.model`"));
    assert!(
        refused(|c| c.price(Price {
            prompt_per_million: -1.0,
            ..PRICE
        }))
        .contains("`price`")
    );
    let url = Chat::builder("localhost:8080", "small")
        .build()
        .unwrap_err()
        .to_string();
    assert!(url.contains("`base_url`"), "{url}");
}
