//! What the extractors promise.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking, also in what several tests share

use flujo_agents::AgentConfig;
use flujo_core::agent::{AgentError, AgentRequest, Retry};
use flujo_core::value::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

async fn extract(config: &str, input: impl Into<Value>) -> Result<Value, AgentError> {
    let config: AgentConfig = serde_json::from_str(&format!(r#"{{"type": "extract", {config}}}"#)).unwrap();
    let request = AgentRequest {
        input: input.into(),
        ..AgentRequest::default()
    };
    config
        .build()
        .unwrap()
        .run(request)
        .await
        .map(|output| output.value)
}

async fn found(input: &str) -> Value {
    extract(r#""json": {}"#, input).await.unwrap()
}

async fn refused(input: &str) -> String {
    let error = extract(r#""json": {}"#, input).await.unwrap_err();
    assert_eq!(error.retry, Retry::Never);
    error.message
}

#[tokio::test]
async fn json_is_found_alone_in_a_fence_and_in_prose() {
    let value = json(r#"{"b": [1, {"a": "}"}], "a": 1}"#);
    let text = serde_json::to_string(&value).unwrap();
    assert_eq!(found(&format!("  {text}\n")).await, value);
    assert_eq!(
        found(&format!("Sure [1]:\n```json\n{text}\n```\nThat {{is}} it.")).await,
        value
    );
    assert_eq!(
        found(&format!("Für {{dich}} [x] 🦀 {text} done [1]")).await,
        value
    );
    assert_eq!(found("42").await, Value::Int(42));
}

#[tokio::test]
async fn json_that_is_broken_or_cut_off_is_an_error_and_never_a_piece_of_it() {
    let cut = refused("Here:\n[{\"a\": 1}, {\"a\": 2}, {\"a\":").await;
    assert!(cut.contains("starts at line 2 is cut off"), "{cut}");
    let broken = refused(r#"{"a": [1, 2], oops, "b": [3]}"#).await;
    assert!(
        broken.contains("line 1 is broken") && broken.contains("column"),
        "{broken}"
    );
    assert!(refused("no data here").await.contains("no JSON object"));
    assert!(refused(" ").await.contains("empty"));
    let deep = "[".repeat(500) + &"]".repeat(500);
    assert!(
        refused(&deep).await.contains("recursion limit"),
        "{}",
        refused(&deep).await
    );
}

#[tokio::test]
async fn a_pointer_picks_a_part_and_says_where_it_breaks_off() {
    let pick = |pointer: &str| format!(r#""json": {{"pointer": "{pointer}"}}"#);
    let text = r#"{"items": [{"na/me": "x"}]}"#;
    assert_eq!(
        extract(&pick("/items/0/na~1me"), text).await.unwrap(),
        Value::from("x")
    );
    assert_eq!(
        extract(&pick("/items"), json(text)).await.unwrap(),
        json(r#"[{"na/me": "x"}]"#)
    );
    let error = extract(&pick("/items/4/x"), text).await.unwrap_err();
    assert!(
        error
            .message
            .contains("at /items there is no `4`; the list there has 1 items"),
        "{error}"
    );
    let error = extract(&pick("/itmes"), text).await.unwrap_err();
    assert!(error.message.contains("the map there has: items"), "{error}");
}

#[tokio::test]
async fn a_regular_expression_gives_text_list_or_map_by_its_groups() {
    let text = "TODO(ada): a\nTODO(bob): b";
    let pattern = |pattern: &str, more: &str| format!(r#""regex": {{"pattern": "{pattern}"{more}}}"#);
    assert_eq!(
        extract(&pattern("TODO", ""), text).await.unwrap(),
        Value::from("TODO")
    );
    assert_eq!(
        extract(&pattern(r"TODO\\((\\w+)", r#", "all": true"#), text)
            .await
            .unwrap(),
        json(r#"["ada", "bob"]"#)
    );
    assert_eq!(
        extract(&pattern(r"\\((\\w+)\\): (\\w)", ""), text).await.unwrap(),
        json(r#"["ada", "a"]"#)
    );
    let named = pattern(r"\\((?<who>\\w+)\\): (?<what>x)?", "");
    assert_eq!(
        extract(&named, text).await.unwrap(),
        json(r#"{"who": "ada", "what": null}"#)
    );
}

#[tokio::test]
async fn no_match_is_an_error_unless_it_may_be() {
    let error = extract(r#""regex": {"pattern": "zzz"}"#, "abc")
        .await
        .unwrap_err();
    assert!(
        error.message.contains("3 characters matches `zzz`") && error.message.contains("required"),
        "{error}"
    );
    let optional = |all: bool| format!(r#""regex": {{"pattern": "zzz", "required": false, "all": {all}}}"#);
    assert_eq!(extract(&optional(false), "abc").await.unwrap(), Value::Null);
    assert_eq!(extract(&optional(true), "abc").await.unwrap(), Value::list([]));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let build = |config: &str| {
        serde_json::from_str::<AgentConfig>(config)
            .unwrap()
            .build()
            .map(drop)
            .unwrap_err()
    };
    let error = build(r#"{"type": "extract", "regex": {"pattern": "(("}}"#).to_string();
    assert!(error.contains("extract agent, `regex.pattern`"), "{error}");
    let error = build(r#"{"type": "extract", "json": {"pointer": "a.b"}}"#).to_string();
    assert!(error.contains("did you mean `/a/b`"), "{error}");
}
