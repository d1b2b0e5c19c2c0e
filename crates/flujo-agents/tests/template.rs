//! What templates and expressions promise.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking, also in what several tests share

use flujo_agents::template::{Expression, Scope, Template, TemplateErrorKind, TextTemplate};
use flujo_core::agent::{AgentRequest, Retry};
use flujo_core::value::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn scope() -> Scope {
    Scope::new()
        .input(json(r#"{"title": "Rust", "tags": ["a", "b"], "_id": 7}"#))
        .context(json(r#"{"tone": "brief", "depth": {"level": 3}, "_secret": "hidden", "none": null}"#))
        .steps(json(
            r#"{"read": "some text", "count": 3, "parse": {"items": [1, 2], "output": "own"}, "my step": true}"#,
        ))
}

fn render(source: &str) -> String {
    Template::parse(source).unwrap().render(&scope()).unwrap()
}

fn fails(source: &str) -> String {
    Template::parse(source)
        .unwrap()
        .render(&scope())
        .unwrap_err()
        .to_string()
}

fn evaluate(source: &str) -> Value {
    Expression::parse(source).unwrap().evaluate(&scope()).unwrap()
}

#[test]
fn the_standard_names_are_there() {
    assert_eq!(render("{{ input.title }} {{ previous_step.title }}"), "Rust Rust");
    assert_eq!(render("{{ context.tone }} {{ context.depth.level }}"), "brief 3");
    assert_eq!(
        render("{{ steps.read }} {{ steps['my step'] }}"),
        "some text True"
    );
    assert_eq!(
        render("{% for tag in input.tags %}{{ tag | upper }}{% endfor %}"),
        "AB"
    );
    assert_eq!(
        render("{{ input.tags[-1] }} {{ input.tags | length }} {{ len(input.tags) }}"),
        "b 2 2"
    );
}

#[test]
fn a_steps_output_is_reached_with_and_without_output() {
    assert_eq!(
        render("{{ steps.read }} {{ steps.read.output }}"),
        "some text some text"
    );
    assert_eq!(render("{{ steps.count + 1 }}"), "4");
    assert_eq!(render("{{ steps.count.output + 1 }} {{ steps.count }}"), "4 3");
    assert_eq!(
        render("{{ steps.parse.items[0] }} {{ steps.parse.output.items[1] }}"),
        "1 2"
    );
    assert_eq!(render("{{ steps.parse.output.output }}"), "own");
    let all = render("{% for name in steps %}{{ steps[name].output }};{% endfor %}");
    assert_eq!(all, r#"some text;3;{"items":[1,2],"output":"own"};True;"#);
}

#[test]
fn a_missing_name_may_be_tested_for_truth_but_not_printed() {
    assert_eq!(
        render("{{ context.missing or 'b' }}{% if input.missing %}x{% endif %}"),
        "b"
    );
    assert_eq!(
        render("{{ context.missing | default('d') }} {{ context.none or 'n' }}"),
        "d n"
    );
    let error = Template::parse("first\n  {{ context.missing }}")
        .unwrap()
        .render(&scope())
        .unwrap_err();
    assert_eq!(
        (error.kind, error.line, error.column),
        (TemplateErrorKind::Undefined, Some(2), Some(6))
    );
    assert_eq!(
        error.to_string(),
        "line 2, column 6: `context.missing` is not defined; names in `context`: tone, depth, none; \
         write `context.missing or ''` if it may be missing"
    );
}

#[test]
fn the_error_of_a_missing_name_lists_the_names_that_exist_at_that_place() {
    assert!(fails("{{ inptu }}").contains("known names: input, previous_step, context, steps"));
    assert!(fails("{{ steps.raed }}").contains("names in `steps`: read, count, parse, my step"));
    assert!(fails("{{ context.depth.levle }}").contains("names in `context.depth`: level"));
    assert!(fails("{{ steps.read.txt }}").contains("`steps.read` is of kind `str`"));
    assert!(fails("{{ context.missing.deeper }}").contains("`context.missing` is not defined"));
    assert!(fails("{% for x in context.missing %}{% endfor %}").contains("`context.missing` is not defined"));
}

#[test]
fn private_names_cannot_be_reached() {
    for source in [
        "{{ context._secret }}",
        "{{ context['_secret'] }}",
        "{{ input._id }}",
        "{{ steps._x }}",
        "{{ _y }}",
    ] {
        let error = fails(source);
        assert!(
            error.contains("private") || error.contains("not defined"),
            "{source}: {error}"
        );
        assert!(!error.contains("hidden"), "{error}");
    }
    assert!(fails("{{ context._secret }}").contains("names with a leading underscore are private"));
    assert!(!render("{{ context }} {{ context | tojson }} {{ context | items | list }}").contains("_secret"));
    assert!(!format!("{:?}", evaluate("context")).contains("_secret"));
}

#[test]
fn data_that_passes_through_keeps_every_key_in_order() {
    assert_eq!(
        render("{{ input }}"),
        r#"{"title":"Rust","tags":["a","b"],"_id":7}"#
    );
    assert_eq!(
        json(&render("{{ input | tojson }}")),
        json(r#"{"title": "Rust", "tags": ["a", "b"], "_id": 7}"#)
    );
}

#[test]
fn text_comes_out_as_it_is_written() {
    let source = "<b>&amp;</b> {{ '<&>' }}\n\n";
    assert_eq!(render(source), "<b>&amp;</b> <&>\n\n");
    assert!(Template::parse("plain").unwrap().is_constant());
    assert!(!Template::parse("{{ input }}").unwrap().is_constant());
}

#[test]
fn a_syntax_error_names_line_and_column() {
    let error = Template::parse("fine\n{{ 1 + }}").unwrap_err();
    assert_eq!((error.kind, error.line), (TemplateErrorKind::Syntax, Some(2)));
    assert!(error.column.is_some());
    assert!(Expression::parse("a b").is_err());
    assert!(
        Template::parse("{{ x | nosuchfilter }}")
            .unwrap()
            .render(&scope())
            .is_err()
    );
}

#[test]
fn the_names_that_a_template_needs_are_known_before_a_run() {
    let template =
        Template::parse("{{ steps.read.output }} {{ context.tone }} {% set x = 1 %}{{ x }}").unwrap();
    let names: Vec<&str> = template.variables().iter().map(String::as_str).collect();
    assert_eq!(names, ["context.tone", "steps.read.output"]);
}

#[test]
fn an_expression_gives_a_value_of_its_own_kind() {
    assert_eq!(
        evaluate("input.tags | length > 1 and steps.count == 3"),
        Value::Bool(true)
    );
    assert_eq!(evaluate("{{ steps.count * 2 }}"), Value::Int(6));
    assert_eq!(evaluate("steps.count / 2"), Value::Float(1.5));
    assert_eq!(
        evaluate("[input.title, none]"),
        Value::list([Value::from("Rust"), Value::Null])
    );
    assert_eq!(evaluate("{'a': context.depth}"), json(r#"{"a": {"level": 3}}"#));
    assert_eq!(
        evaluate("input"),
        json(r#"{"title": "Rust", "tags": ["a", "b"], "_id": 7}"#)
    );
    assert_eq!(evaluate("steps.read.output"), Value::from("some text"));
    assert_eq!(
        evaluate("'text' in steps.read and input.get('title').startswith('R')"),
        Value::Bool(true)
    );
}

#[test]
fn an_object_passes_through_an_expression_untouched_and_cannot_be_printed() {
    let scope = Scope::new().input(Value::opaque(vec![1_u8, 2]));
    let Value::Opaque(object) = Expression::parse("input").unwrap().evaluate(&scope).unwrap() else {
        panic!("not an object")
    };
    assert_eq!(object.downcast_ref::<Vec<u8>>(), Some(&vec![1, 2]));
    let error = Template::parse("{{ input }}")
        .unwrap()
        .render(&scope)
        .unwrap_err();
    assert!(error.message.contains("can't be printed"), "{error}");
}

#[test]
fn a_condition_on_a_missing_name_is_false_and_its_value_is_an_error() {
    let missing = Expression::parse("context.ready").unwrap();
    assert!(!missing.is_true(&scope()).unwrap());
    assert!(
        missing
            .evaluate(&scope())
            .unwrap_err()
            .message
            .contains("names in `context`: tone")
    );
}

#[test]
fn a_name_that_the_caller_adds_is_there_and_listed() {
    let scope = scope().with("item", Value::Int(5));
    assert_eq!(
        Template::parse("{{ item }}").unwrap().render(&scope).unwrap(),
        "5"
    );
    let error = Template::parse("{{ itme }}").unwrap().render(&scope).unwrap_err();
    assert!(error.message.contains("steps, item"), "{error}");
}

#[tokio::test]
async fn the_template_agent_renders_its_input_and_fails_for_good() {
    let config = r#"{"type": "template", "template": "Hi {{ input }}{{ context.x }}"}"#;
    let agent = serde_json::from_str::<flujo_agents::AgentConfig>(config)
        .unwrap()
        .build()
        .unwrap();
    let request = |context: &str| AgentRequest {
        input: "Ada".into(),
        context: json(context),
        ..AgentRequest::default()
    };
    assert_eq!(
        agent.run(request(r#"{"x": "!"}"#)).await.unwrap().value,
        Value::from("Hi Ada!")
    );
    let error = agent.run(request("{}")).await.unwrap_err();
    assert_eq!(error.retry, Retry::Never);
    assert!(
        error.message.contains("`template`") && error.message.contains("`context.x`"),
        "{error}"
    );
}

#[test]
fn a_single_placeholder_gives_the_value_itself_and_a_text_gives_text() {
    let evaluate = |source: &str| TextTemplate::parse(source).unwrap().evaluate(&scope()).unwrap();
    assert_eq!(evaluate("{{ input.tags }}"), json(r#"["a", "b"]"#));
    assert_eq!(evaluate(" {{- input.tags[0] -}} "), Value::from("a"));
    assert_eq!(
        evaluate("tags: {{ input.tags }}"),
        Value::from(r#"tags: ["a","b"]"#)
    );
    assert_eq!(evaluate("plain"), Value::from("plain"));
}

#[test]
fn work_output_and_nesting_have_a_measure() {
    for source in [
        "{% for a in range(10000) %}{% for b in range(10000) %}{{ b }}{% endfor %}{% endfor %}",
        "{% set a = 'x' * 1000000 %}{% set a = a ~ a ~ a ~ a %}{% set a = a ~ a ~ a ~ a %}{{ a ~ a ~ a ~ a ~ a }}{{ a }}{{ a }}",
        "{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}",
    ] {
        let error = fails(source);
        assert!(
            error.contains("does more work") || error.contains("recursion"),
            "{source}: {error}"
        );
    }
    let mut deep = Value::Int(1);
    for _ in 0..100_000 {
        deep = Value::list([deep]);
    }
    let error = Template::parse("{{ input }}")
        .unwrap()
        .render(&Scope::new().input(deep.clone()))
        .unwrap_err();
    assert!(error.to_string().contains("more than 128 levels"), "{error}");
    std::mem::forget(deep); // taking it apart is the business of whoever built it
}

#[test]
fn forms_that_are_pythons_are_refused_with_the_rewrite() {
    for (source, rewrite) in [
        ("context.x is None", "`is none`"),
        ("str(input)", "`x | string`"),
        ("[x for x in input]", "map(attribute="),
        ("any(input)", "select"),
        ("round(input.x)", "`x | round`"),
        ("f'{input}'", "`~`"),
    ] {
        let error = Expression::parse(source).unwrap_err();
        assert_eq!(error.kind, TemplateErrorKind::OldForm, "{source}");
        assert!(error.to_string().contains(rewrite), "{error}");
    }
    for source in [
        "'is None' in input.title",
        "input.title.startswith('R') and len(input.tags) == 2",
        "context.get('tone', 'x') == 'brief'",
        "'a' if input.title else 'b'",
        "not (input.title == 'x' or input.tags[0] != 'a')",
        "context.depth['level'] >= 3 and context.tone in ['brief', 'long']",
        "input.title.lower() + '!' == 'rust!'",
        "input['tags'][-1] == 'b'",
        "None if not input else True",
        "1 < input.tags | length < 3",
        "input.title if'R' in input.title else'x'",
        "input.tags | list == ['a', 'b']",
    ] {
        assert!(
            Expression::parse(source).unwrap().evaluate(&scope()).is_ok(),
            "{source}"
        );
    }
}

mod any_text {
    use proptest::prelude::*;

    use super::*;

    /// Texts made of what templates are made of, and of anything else.
    fn source() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => prop::sample::select(vec![
                "{{", "}}", "{%", "%}", "{#", "#}", "{{-", "-%}", " input ", " context.depth ", " steps.read.output ",
                "previous_step.tags", "[0]", "['a']", ".", " | ", "upper", "length", "tojson", "join(',')", "sort",
                "map(attribute='x')", "batch(2)", "indent(3)", "round", "replace('a','bb')", "for x in ", "endfor",
                "if ", "endif", "else", "set a = ", "set ns.a = ", "endset", "filter upper", "endfilter", "range(5)",
                "dict(a=1)", "debug()", "namespace()", "loop.index", " recursive", "loop(x)", "x", "a", "'", "\"",
                "(", ")", "[", "]", "{", "}", ":", ",", "~", "*", "**", "//", "%", "-", "+", "==", "<", " in ",
                " is ", "not ", "defined", "none", "1", "99999999999999999999", "1e308", "_x", "\n", "é", "\0",
            ]).prop_map(str::to_owned),
            1 => any::<String>(),
        ];
        prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn never_panics(source in source()) {
            if let Ok(template) = Template::parse(&source) {
                let _ = template.render(&scope());
            }
            if let Ok(template) = TextTemplate::parse(&source) {
                let _ = template.evaluate(&scope());
            }
            if let Ok(expression) = Expression::parse(&source) {
                let _ = (expression.evaluate(&scope()), expression.is_true(&scope()));
            }
        }
    }
}
