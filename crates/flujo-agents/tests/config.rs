//! What the configurations of shipped agents promise.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking, also in what several tests share

use flujo_agents::{AgentConfig, Permission, Pricing};

fn read(text: &str) -> Result<AgentConfig, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

const EXAMPLES: [(&str, &str); 8] = [
    (
        "chat",
        r#"{"type": "chat", "model": "m", "base_url": "http://localhost/v1", "price":
        {"prompt_per_million": 1, "completion_per_million": 2}, "extra": {"seed": 7}}"#,
    ),
    (
        "http",
        r#"{"type": "http", "url": "http://localhost/{{ input }}", "response": "json"}"#,
    ),
    (
        "command",
        r#"{"type": "command", "args": ["git", "log"], "stdin": "input"}"#,
    ),
    ("template", r#"{"type": "template", "template": "{{ input }}"}"#),
    ("extract", r#"{"type": "extract", "json": {}}"#),
    (
        "extract",
        r#"{"type": "extract", "regex": {"pattern": "x", "all": true}}"#,
    ),
    ("files", r#"{"type": "files", "glob": {"include": ["**/*.rs"]}}"#),
    ("files", r#"{"type": "files", "read": {}}"#),
];

#[test]
fn every_type_is_built_from_data() {
    for (name, text) in EXAMPLES {
        let config = read(text).unwrap();
        assert_eq!(config.type_name(), name);
        config.build().unwrap();
        assert!(AgentConfig::TYPES.contains(&name));
    }
}

#[test]
fn settings_read_without_the_type_key_are_the_same() {
    let mut json = serde_json::Deserializer::from_str(r#"{"template": "x"}"#);
    let config = AgentConfig::read("template", &mut json).unwrap().unwrap();
    assert_eq!(config.type_name(), "template");
    assert!(AgentConfig::read("nonsense", &mut serde_json::Deserializer::from_str("{}")).is_none());
}

#[test]
fn an_unknown_key_or_type_is_refused_with_the_known_ones() {
    let error = read(r#"{"type": "chat", "model": "m", "temprature": 1}"#).unwrap_err();
    assert!(
        error.contains("`temprature`") && error.contains("`temperature`"),
        "{error}"
    );
    let error = read(r#"{"type": "files", "red": {}}"#).unwrap_err();
    assert!(error.contains("`red`") && error.contains("`read`"), "{error}");
    let error = read(r#"{"type": "chta"}"#).unwrap_err();
    assert!(error.contains("`chta`") && error.contains("`chat`"), "{error}");
    assert!(read(r#"{"type": "extract", "json": {}, "regex": {"pattern": "x"}}"#).is_err());
}

#[test]
fn what_needs_a_permission_says_so_also_as_a_tool_of_a_model() {
    let needs = |text: &str| read(text).unwrap().requires();
    let git = Permission::Command {
        program: "git".into(),
    };
    assert_eq!(
        needs(r#"{"type": "command", "args": ["git", "log"]}"#),
        vec![git.clone()]
    );
    assert_eq!(
        needs(r#"{"type": "files", "write": {"path": "a.md", "root": "out"}}"#),
        [Permission::FileWrite { root: "out".into() }]
    );
    assert_eq!(git.name(), "command");
    let chat = r#"{"type": "chat", "model": "m", "tools": [{"name": "log", "description": "d",
        "parameters": {"type": "object"}, "run": {"type": "command", "args": ["git", "log"]}}]}"#;
    assert_eq!(needs(chat), [git]);
    read(chat).unwrap().build().unwrap();
    assert!(needs(r#"{"type": "files", "read": {}}"#).is_empty());
}

#[test]
fn an_unknown_price_is_told_apart_from_no_cost() {
    let pricing = |text: &str| read(text).unwrap().pricing();
    assert_eq!(pricing(r#"{"type": "chat", "model": "m"}"#), Pricing::Unknown);
    assert_eq!(pricing(EXAMPLES[0].1), Pricing::Known);
    assert_eq!(pricing(EXAMPLES[3].1), Pricing::Free);
}

#[test]
fn a_mistake_in_a_setting_names_agent_and_setting() {
    let error = read(r#"{"type": "template", "template": "{{ a b }}"}"#)
        .unwrap()
        .build()
        .map(drop)
        .unwrap_err();
    assert_eq!((error.agent, error.field.as_str()), ("template", "template"));
    assert!(
        error
            .to_string()
            .starts_with("template agent, `template`: line 1"),
        "{error}"
    );
}
