//! Blueprints run as they are written.
#![allow(clippy::panic, clippy::unwrap_used)] // what only tests call may fail like a test

use flujo_blueprint::{Blueprint, Source};
use flujo_core::context::Context;
use flujo_core::plan::Kind;
use flujo_core::rate::RateLimit;
use flujo_core::value::Value;
use flujo_tokio::{Done, Runner};

fn runner(text: &str) -> Runner {
    let blueprint =
        Blueprint::parse(&Source::new("test.yaml", text)).unwrap_or_else(|problems| panic!("{problems}"));
    let pipeline = blueprint
        .pipeline()
        .unwrap_or_else(|problems| panic!("{problems}"));
    Runner::builder(pipeline).build().unwrap()
}

async fn run(text: &str, input: Value) -> Done {
    runner(text).run(input, Context::new()).await
}

#[tokio::test]
async fn a_step_gets_the_output_before_it_and_what_its_input_names() {
    let done = run(
        "steps:
  - {name: greet, agent: {type: template, template: 'Hello {{ input }}'}, sink_to: said.first}
  - name: both
    agent: {type: template, template: '{{ input.a }}|{{ input.b }}|{{ input.n + 1 }}'}
    input: {a: '{{ steps.greet }}', b: 'x{{ context.said.first }}', n: '{{ attempt }}'}
",
        Value::from("Ada"),
    )
    .await;
    assert_eq!(done.output(), Some(&Value::from("Hello Ada|xHello Ada|2")));
}

#[tokio::test]
async fn an_input_of_one_placeholder_passes_the_value_itself() {
    let text = "steps:
  - {name: a, agent: {type: extract, json: {}}, input: '{{ input.items }}'}
";
    let items = Value::list([Value::Int(1), Value::Int(2)]);
    let done = run(text, Value::map([("items", items.clone())])).await;
    assert_eq!(done.output(), Some(&items));
}

#[tokio::test]
async fn conditions_items_and_validators_read_the_outputs_of_earlier_steps() {
    let text = "steps:
  - {name: words, agent: {type: extract, json: {}}, input: ['a', 'bb']}
  - {name: other, agent: {type: template, template: 'x'}}
  - name: each
    kind: map
    map:
      iterable_input: steps.words.output
      body:
        - name: long
          agent: {type: template, template: '{{ input }}'}
          validators:
            - {expression: 'output in steps.words and steps.other == \"x\"', message: '{{ steps.words }}'}
        - name: choose
          kind: conditional
          condition_expression: \"steps.long.output | length > 1 and output == input\"
          branches:
            true: {name: yes, agent: {type: template, template: '{{ steps.long }}!'}}
            false: {name: no, agent: {type: template, template: '{{ steps.other }}'}}
";
    let done = run(text, Value::Null).await;
    let expected = Value::list([Value::from("x"), Value::from("bb!")]);
    assert_eq!(done.output(), Some(&expected), "{:?}", done.finish.outcome);
}

#[tokio::test]
async fn a_rejected_output_is_tried_again_and_the_input_knows_the_attempt() {
    let done = run(
        "steps:
  - name: draft
    agent: {type: template, template: '{{ input }}'}
    input: \"{{ 'much too long' if attempt == 1 else 'short' }}\"
    validators:
      - {expression: 'output | length <= 5', message: '{{ output | length }} characters, at most 5'}
",
        Value::Null,
    )
    .await;
    assert_eq!(done.output(), Some(&Value::from("short")));
    let record = &done.finish.history.records[0];
    assert_eq!(record.attempts, 2);
    let failures = &record.details.as_ref().unwrap().attempt_failures;
    assert_eq!(&*failures[0].message, "13 characters, at most 5");
}

#[tokio::test]
async fn regular_expressions_and_schemas_accept_and_reject() {
    let validator = |validator: &str| {
        format!(
            "steps: [{{name: a, agent: {{type: extract, json: {{}}}}, config: {{max_retries: 0}}, validators: [{validator}]}}]"
        )
    };
    let schema = validator("{json_schema: {type: object, required: [n], properties: {n: {type: integer}}}}");
    let status = |done: &Done| done.status();
    assert_eq!(
        status(&run(&schema, Value::from("{\"n\": 1}")).await),
        "completed"
    );
    assert_eq!(
        status(&run(&schema, Value::from("{\"n\": \"1\"}")).await),
        "failed"
    );
    let regex = validator("{regex: '^a+$'}");
    assert_eq!(status(&run(&regex, Value::from("\"aaa\"")).await), "completed");
    assert_eq!(status(&run(&regex, Value::from("\"aab\"")).await), "failed");
}

#[tokio::test]
async fn a_condition_takes_the_branch_it_names_else_the_default() {
    let text = "agents: {say: {type: template, template: '{{ input }}'}}
steps:
  - name: choose
    kind: conditional
    condition_expression: input > 3
    branches: {true: {name: large, agent: say, input: large}}
    default_branch: [{name: small, agent: say, input: small}]
";
    assert_eq!(
        run(text, Value::Int(4)).await.output(),
        Some(&Value::from("large"))
    );
    assert_eq!(
        run(text, Value::Int(3)).await.output(),
        Some(&Value::from("small"))
    );
}

#[tokio::test]
async fn a_map_keeps_the_order_and_deals_with_failed_items_as_told() {
    let text = |policy: &str| {
        format!(
            "steps:
  - name: each
    kind: map
    map:
      iterable_input: input.items
      max_concurrency: 4
      on_item_failure: {policy}
      body:
        name: double
        agent: {{type: template, template: '{{{{ input * 2 }}}}'}}
        config: {{max_retries: 0}}
"
        )
    };
    let items = Value::list([Value::Int(1), Value::map([("a", Value::Null)]), Value::Int(3)]);
    let input = Value::map([("items", items)]);
    let two = Value::from("2");
    let six = Value::from("6");
    assert_eq!(
        run(&text("skip"), input.clone()).await.output(),
        Some(&Value::list([two.clone(), six.clone()]))
    );
    assert_eq!(
        run(&text("none"), input.clone()).await.output(),
        Some(&Value::list([two, Value::Null, six]))
    );
    assert_eq!(run(&text("fail"), input).await.status(), "failed");
}

#[tokio::test]
async fn branches_are_reduced_as_told() {
    let text = |reduce: &str| {
        format!(
            "steps:
  - name: fan
    kind: parallel
    {reduce}
    branches:
      b: {{name: one, agent: {{type: extract, json: {{}}}}}}
      a: [{{name: two, agent: {{type: extract, json: {{}}}}}}, {{name: three, agent: {{type: extract, json: {{}}}}}}]
"
        )
    };
    let shown = |done: Done| serde_json::to_string(done.output().unwrap()).unwrap();
    let list = Value::list([Value::Int(1)]);
    let map = Value::map([("k", Value::Int(1))]);
    assert_eq!(shown(run(&text(""), list.clone()).await), r#"{"b":[1],"a":[1]}"#);
    assert_eq!(
        shown(run(&text("reduce: keys"), list.clone()).await),
        r#"["b","a"]"#
    );
    assert_eq!(
        shown(run(&text("reduce: values"), list.clone()).await),
        "[[1],[1]]"
    );
    assert_eq!(shown(run(&text("reduce: concat"), list.clone()).await), "[1,1]");
    assert_eq!(
        shown(run(&text("reduce: union"), map.clone()).await),
        r#"{"k":1}"#
    );
    assert_eq!(shown(run(&text("reduce: first"), map).await), r#"{"k":1}"#);
    assert_eq!(run(&text("reduce: union"), list).await.status(), "failed");
}

#[tokio::test]
async fn a_fallback_runs_with_the_same_input() {
    let text = "steps:
  - name: a
    agent: {type: extract, regex: {pattern: z}}
    fallback: {name: b, agent: {type: template, template: 'no z in {{ input }}'}}
";
    assert_eq!(
        run(text, Value::from("abc")).await.output(),
        Some(&Value::from("no z in abc"))
    );
}

#[tokio::test]
async fn a_blueprint_runs_inside_another_and_its_problems_name_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner.yaml");
    let outer = folder.path().join("outer.yaml");
    std::fs::write(
        &inner,
        "steps: [{name: i, agent: {type: template, template: '<{{ input }}>'}}]",
    )
    .unwrap();
    std::fs::write(
        &outer,
        "imports: {inner: inner.yaml}\nsteps: [{name: o, uses: imports.inner}]",
    )
    .unwrap();
    let pipeline = Blueprint::load(&outer).unwrap().pipeline().unwrap();
    let done = Runner::builder(pipeline)
        .build()
        .unwrap()
        .run(Value::from("x"), Context::new())
        .await;
    assert_eq!(done.output(), Some(&Value::from("<x>")));

    std::fs::write(&inner, "imports: {outer: outer.yaml}\nsteps: [{name: i}]").unwrap();
    let said = Blueprint::load(&outer).unwrap_err().to_string();
    assert!(
        said.contains("inner.yaml:1:18") && said.contains("FLU-0208"),
        "{said}"
    );
    assert!(
        said.contains("inner.yaml:2:9") && said.contains("FLU-0203"),
        "{said}"
    );
}

#[test]
fn a_graph_shows_every_construct() {
    let text = "agents: {t: {type: template, template: x}}
steps:
  - {name: a, agent: t, fallback: {name: b, agent: t}}
  - name: each
    kind: map
    map: {body: [{name: c, agent: t}, {name: d, agent: t}]}
  - name: choose
    kind: conditional
    condition_expression: input
    branches: {\"say \\\"yes\\\"\": {name: e, agent: t}}
    default_branch: {name: f, agent: t}
  - name: fan
    kind: parallel
    branches: {left: {name: g, agent: t}, right: {name: h, agent: t}}
";
    let blueprint = Blueprint::parse(&Source::new("graph.yaml", text)).unwrap();
    insta::assert_snapshot!(blueprint.to_mermaid());
}

#[test]
fn the_published_schema_is_a_schema_that_accepts_what_the_checker_accepts() {
    let schema = flujo_blueprint::json_schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good: serde_json::Value = serde_json::json!({
        "version": "0.1",
        "steps": [
            {"name": "a", "agent": {"type": "template", "template": "x"}},
            {"name": "m", "kind": "map", "map": {"body": {"name": "b", "agent": "t"}}},
        ],
    });
    assert!(validator.is_valid(&good));
    assert!(!validator.is_valid(&serde_json::json!({"steps": [{"name": "a", "agnt": "b"}]})));
    assert!(!validator.is_valid(&serde_json::json!({"steps": [{"agent": "b"}]})));
    insta::assert_snapshot!(serde_json::to_string_pretty(&schema).unwrap());
}

#[test]
fn the_reference_in_the_documentation_is_the_grammar() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/yaml.md");
    let written = std::fs::read_to_string(path).unwrap();
    let (begin, end) = ("<!-- generated: keys -->\n", "<!-- end of generated -->");
    let (before, rest) = written
        .split_once(begin)
        .expect("the mark before the generated part");
    let (_, after) = rest.split_once(end).expect("the mark after the generated part");
    let current = format!("{before}{begin}{}{end}{after}", flujo_blueprint::reference());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        current,
        "run the test with UPDATE_DOCS=1"
    );
}

#[tokio::test]
async fn merge_strategies_are_named_in_any_case_and_decide_by_declared_order() {
    let text = |strategy: &str| {
        let step = |name: &str| {
            format!("{{name: {name}, agent: {{type: template, template: '{name}'}}, sink_to: winner}}")
        };
        format!(
            "steps: [{{kind: parallel, name: p, merge_strategy: {strategy}, branches: {{first: {}, second: {}}}}}]",
            step("a"),
            step("b")
        )
    };
    for (strategy, winner) in [
        ("OVERWRITE", Some("b")),
        ("Keep_First", Some("a")),
        ("no_merge", None),
    ] {
        let done = run(&text(strategy), Value::Null).await;
        assert_eq!(done.status(), "completed", "{strategy}");
        let found = done.finish.context.get("winner").and_then(Value::as_str);
        assert_eq!(found, winner, "{strategy}");
    }
    for strategy in ["CONTEXT_UPDATE", "error_on_conflict"] {
        let done = run(&text(strategy), Value::Null).await;
        assert_eq!(done.status(), "failed", "{strategy}");
        let feedback = done.finish.history.records[0]
            .failure
            .as_ref()
            .unwrap()
            .to_string();
        assert!(feedback.contains("`winner`: `first` wrote"), "{feedback}");
    }
}

#[tokio::test]
async fn an_answer_that_its_place_in_the_context_refuses_fails_the_step_and_is_written_once() {
    let written = |place: &str| {
        format!(
            "steps:
  - {{name: note, agent: {{type: template, template: 'text'}}, sink_to: note}}
  - {{name: ask, kind: hitl, sink_to: {place}}}
"
        )
    };
    for (place, status) in [("answer.of", "completed"), ("note.of", "failed")] {
        let runner = runner(&written(place));
        let done = runner.run(Value::Null, Context::new()).await;
        let paused = done.paused.expect("it asks");
        assert_eq!(
            (&*paused.pauses()[0].step, &*paused.pauses()[0].path),
            ("ask", "ask")
        );
        let done = runner
            .resume(&paused, Value::from("yes"))
            .expect("it goes on")
            .await;
        assert_eq!(done.status(), status);
        let last = done.finish.history.records.last().expect("the question's record");
        let node = done.plan.node(last.node);
        assert!(
            matches!(&node.kind, Kind::Human(node) if node.accept.is_none()),
            "{:?}",
            node.name
        );
    }
}

#[tokio::test]
async fn an_imported_blueprint_keeps_its_failure_route_and_its_invariants() {
    let folder = tempfile::tempdir().unwrap();
    let inner = "static_invariants: ['output != \"bad\"']
on_failure: {name: rescue, agent: {type: template, template: 'saved from {{ input.error }}'}}
steps:
  - {name: take, agent: {type: template, template: '{{ input }}'}}
  - {name: dig, agent: {type: extract, regex: {pattern: '[a-z]+'}}, config: {max_retries: 0}}
";
    std::fs::write(folder.path().join("inner.yaml"), inner).unwrap();
    let outer = folder.path().join("outer.yaml");
    for step in [
        "{name: o, uses: imports.inner}",
        "{name: o, kind: pipeline, uses: imports.inner, context: {inherit: true}}",
    ] {
        std::fs::write(&outer, format!("imports: {{inner: inner.yaml}}\nsteps: [{step}]")).unwrap();
        let blueprint = Blueprint::load(&outer).unwrap();
        assert!(
            blueprint.to_mermaid().contains("on failure"),
            "{}",
            blueprint.to_mermaid()
        );
        let runner = Runner::builder(blueprint.pipeline().unwrap()).build().unwrap();
        for (input, because) in [("bad", "the invariant"), ("1", "match")] {
            let done = runner.run(Value::from(input), Context::new()).await;
            let output = done.output().and_then(Value::as_str).unwrap_or_default();
            assert!(
                output.starts_with("saved from") && output.contains(because),
                "{:?}",
                done.finish.outcome
            );
        }
    }
}

#[tokio::test]
async fn an_invariant_that_does_not_hold_fails_the_step_at_once_and_its_fallback_is_held_to_it_too() {
    let text = |fallback: &str| {
        format!(
            "static_invariants: ['output != \"bad\"']
steps:
  - name: s
    agent: {{type: template, template: '{{{{ input }}}}'}}
    sink_to: kept
    config: {{max_retries: 3}}
    fallback: {{name: f, agent: {{type: template, template: '{fallback}'}}}}
"
        )
    };
    let done = run(&text("better than {{ input }}"), Value::from("bad")).await;
    assert_eq!(
        done.output(),
        Some(&Value::from("better than bad")),
        "{:?}",
        done.finish.outcome
    );
    assert_eq!(done.finish.history.records[0].attempts, 1);
    assert_eq!(
        done.finish.context.get("kept"),
        None,
        "what was written is dropped"
    );
    let done = run(&text("bad"), Value::from("bad")).await;
    assert_eq!(done.status(), "failed");
}

#[test]
fn the_pipeline_and_a_step_say_which_optimised_parts_they_use() {
    let text = "steps:
  - {name: usual, agent: {type: template, template: 'x'}}
  - name: patient
    agent: {type: template, template: 'x'}
    config: {optimization: {execution_time_threshold: 30, enable_context_optimization: false}}
  - name: both
    kind: parallel
    config: {optimization: {execution_time_threshold: 5}}
    branches: {a: {name: one, agent: {type: template, template: 'x'}}}
optimization: {execution_time_threshold: 2, max_pool_size: 7, cache_ttl_seconds: 0}
";
    let runner = runner(text);
    let own = runner.plan().optimization().unwrap();
    assert_eq!((own.max_pool_size, own.cache_ttl()), (7, None));
    let limits: std::collections::BTreeMap<_, _> = runner
        .plan()
        .nodes()
        .filter(|(_, node)| !node.name.is_empty())
        .map(|(_, node)| (&*node.name, node.optimization.as_ref().unwrap()))
        .map(|(name, config)| {
            (
                name,
                (
                    config.execution_time_threshold,
                    config.enable_context_optimization,
                ),
            )
        })
        .collect();
    let expected = [
        ("usual", (2.0, true)),
        ("patient", (30.0, false)),
        ("both", (5.0, true)),
        ("one", (5.0, true)),
    ];
    assert_eq!(limits, expected.into_iter().collect());
}

#[test]
fn a_threshold_that_is_no_share_is_refused_where_it_stands() {
    let text = "steps:
  - {name: a, agent: {type: template, template: 'x'}}
optimization:
  cache_hit_rate_threshold: 80
";
    let problems = Blueprint::parse(&Source::new("test.yaml", text)).err().unwrap();
    let shown = problems.to_string();
    assert!(
        shown.contains("cache_hit_rate_threshold must be a number from 0 to 1, but is 80"),
        "{shown}"
    );
    assert_eq!(problems.0[0].position.line, 4);
}

#[tokio::test]
async fn a_step_that_is_cached_runs_once_for_each_input_and_context_it_reads() {
    let counted = |cache: &str| {
        format!(
            "steps:
  - name: each
    kind: map
    map:
      iterable_input: input
      body:
        - name: shout
          agent: {{type: template, template: '{{{{ input }}}}{{{{ context.mark }}}}'}}
          {cache}
"
        )
    };
    let hits = async |text: &str, marks: [&str; 2]| {
        let runner = runner(text);
        let items = || Value::list(["a", "b", "a"].map(Value::from));
        for mark in marks {
            let mut context = Context::new();
            context.set("mark", Value::from(mark));
            let done = runner.run(items(), context).await;
            let expected = ["a", "b", "a"].map(|item| {
                Value::from(format!(
                    "{item}{}",
                    if text.contains("scope: input") {
                        marks[0]
                    } else {
                        mark
                    }
                ))
            });
            assert_eq!(done.output(), Some(&Value::list(expected)));
        }
        runner.performance_statistics().cache_hits
    };
    assert_eq!(hits(&counted("sink_to: x"), ["!", "!"]).await, 0);
    assert_eq!(hits(&counted("cache: false"), ["!", "!"]).await, 0);
    assert_eq!(hits(&counted("cache: true"), ["!", "!"]).await, 4);
    assert_eq!(hits(&counted("cache: 60"), ["!", "?"]).await, 2);
    let declared = "cache: {ttl_s: 0, scope: [context.mark], version: 1}";
    assert_eq!(hits(&counted(declared), ["!", "?"]).await, 2);
    assert_eq!(
        hits(&counted("cache:\n            scope: input\n"), ["!", "?"]).await,
        4
    );
}

#[tokio::test]
async fn a_step_of_kind_cache_keeps_the_results_of_the_step_in_it() {
    let runner = runner(
        "steps:
  - name: kept
    kind: cache
    ttl_s: 60
    wrapped_step:
      name: both
      kind: pipeline
      steps:
        - {name: one, agent: {type: template, template: '{{ input }}1'}}
        - {name: two, agent: {type: template, template: '{{ input }}2'}}
    sink_to: kept
",
    );
    for hits in 0..2 {
        let done = runner.run(Value::from("x"), Context::new()).await;
        assert_eq!(done.output(), Some(&Value::from("x12")));
        assert_eq!(done.finish.context.get("kept"), Some(&Value::from("x12")));
        assert_eq!(runner.performance_statistics().cache_hits, hits);
    }
}

#[test]
fn a_rate_limit_names_the_redis_server_that_counts_for_other_processes_too() {
    let text =
        "rate_limits: [{name: shared of yaml, max_concurrent: 9, redis: 'redis://me:hush@localhost:6379/1'}]
steps:
  - name: say
    agent: {type: template, template: x}
    config: {rate_limit: {name: said by yaml, max_concurrent: 9, redis: 'redis://localhost:6379/1'}}
  - name: ask
    agent:
      type: chat
      base_url: 'http://127.0.0.1:9'
      model: tiny
      rate_limit: {name: asked by yaml, max_concurrent: 9, redis: 'redis://localhost/2'}
";
    let blueprint = Blueprint::parse(&Source::new("test.yaml", text)).unwrap_or_else(|said| panic!("{said}"));
    let server = |limit: &RateLimit| limit.shared.as_ref().map(|shared| shared.0.name().to_owned());
    assert_eq!(
        server(&blueprint.rate_limits()[0]).as_deref(),
        Some("redis://localhost:6379/1")
    );
    let runner = runner(text);
    let servers: Vec<_> = runner
        .plan()
        .nodes()
        .flat_map(|(_, node)| match &node.kind {
            Kind::Step(step) => step.rates.iter().filter_map(server).collect(),
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(servers, ["redis://localhost:6379/1", "redis://localhost:6379/2"]);
}

#[tokio::test]
async fn rate_limits_stand_at_the_pipeline_a_step_and_an_agent() {
    let text = "rate_limits: [{name: all of yaml, requests_per_minute: 600}]
agents:
  model: {type: chat, base_url: 'http://127.0.0.1:9', model: tiny, rate_limit: {name: model of yaml, tokens_per_minute: 1e6}}
steps:
  - name: say
    agent: {type: template, template: 'Hello {{ input }}'}
    config: {rate_limit: {name: greetings of yaml, requests_per_minute: 60, max_concurrent: 2}}
  - name: ask
    kind: conditional
    condition_expression: \"'no'\"
    branches: {yes: [{name: model, agent: model}]}
    default_branch: [{name: none, agent: {type: template, template: '{{ input }}'}}]
";
    let blueprint = Blueprint::parse(&Source::new("test.yaml", text)).unwrap_or_else(|said| panic!("{said}"));
    let of_all: Vec<_> = blueprint
        .rate_limits()
        .iter()
        .map(|limit| limit.name.to_string())
        .collect();
    assert_eq!(of_all, ["all of yaml"]);
    let runner = runner(text);
    let mut limits: Vec<_> = runner
        .plan()
        .nodes()
        .flat_map(|(_, node)| match &node.kind {
            Kind::Step(step) => step.rates.clone(),
            _ => Vec::new(),
        })
        .map(|limit| (limit.name.to_string(), limit.max_concurrent))
        .collect();
    limits.sort();
    assert_eq!(
        limits,
        [
            ("greetings of yaml".to_owned(), Some(2)),
            ("model of yaml".to_owned(), None)
        ]
    );
    let done = runner.run(Value::from("Ada"), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::from("Hello Ada")));
}
