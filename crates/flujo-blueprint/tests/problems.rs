//! Every rule: one short file that breaks it, and what is said about it.

use flujo_blueprint::{Blueprint, Source};

/// What is said about a blueprint, or "fine".
fn said_about(text: &str) -> String {
    match Blueprint::parse(&Source::new("review.yaml", text)) {
        Ok(_) => "fine".to_owned(),
        Err(problems) => problems.to_string(),
    }
}

const STEP: &str = "steps:\n  - {name: a, agent: {type: template, template: x}}\n";

#[test]
fn text_that_is_no_yaml_is_refused_with_its_place() {
    insta::assert_snapshot!(said_about("steps:\n  - name: 'a\n"));
}

#[test]
fn nesting_beyond_128_is_refused_with_a_cure() {
    let deep = format!("steps: {}{}", "[".repeat(500), "]".repeat(500));
    insta::assert_snapshot!(said_about(&deep));
    let block: String = (0..300).map(|depth| " ".repeat(depth) + "a:\n").collect();
    assert!(said_about(&block).contains("FLU-0004"), "{}", said_about(&block));
}

#[test]
fn an_alias_bomb_is_refused() {
    let levels = (1..9).map(|level| {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        format!("a{level}: &a{level} [{items}]\n")
    });
    let text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned() + &levels.collect::<String>();
    assert!(said_about(&text).contains("FLU-0005"), "{}", said_about(&text));
}

#[test]
fn a_second_document_is_refused() {
    insta::assert_snapshot!(said_about(&format!("{STEP}---\n{STEP}")));
}

#[test]
fn several_problems_are_reported_at_once_in_the_order_of_lines() {
    insta::assert_snapshot!(said_about(
        "version: 9
name: [x]
steps:
  - name: read
    agnt: reader
    config: {max_retries: many, timeout_s: -1, max_retrys: 2}
  - name: read
    agent: raeder
    updates_context: yes please
  - kind: prallel
    name: p
  - kind: loop
    name: l
agents:
  reader: {type: files, read: {pth: '{{ input }}'}}
  writer: {type: fles}
"
    ));
}

#[test]
fn an_empty_file_says_what_it_needs() {
    insta::assert_snapshot!(said_about(""));
    insta::assert_snapshot!(said_about("steps: []\n"));
    insta::assert_snapshot!(said_about("just text"));
}

#[test]
fn a_duplicate_key_is_refused_with_both_places() {
    insta::assert_snapshot!(said_about(
        "name: a\nname: b\nsteps:\n  - {name: a, agent: {type: template, template: x}}\n"
    ));
}

#[test]
fn a_step_without_agent_is_refused() {
    insta::assert_snapshot!(said_about("steps:\n  - name: a\n"));
}

#[test]
fn fallbacks_in_a_circle_are_refused_once_naming_the_circle() {
    insta::assert_snapshot!(said_about(
        "agents: {t: {type: template, template: x}}
steps:
  - {name: a, agent: t, fallback: b}
  - {name: b, agent: t, fallback: c}
  - {name: c, agent: t, fallback: a}
"
    ));
    insta::assert_snapshot!(said_about(
        "steps:\n  - {name: a, agent: {type: template, template: x}, fallback: a}\n"
    ));
}

#[test]
fn a_fallback_that_ends_is_fine() {
    let text = "agents: {t: {type: template, template: x}}
steps:
  - {name: a, agent: t, fallback: b}
  - {name: b, agent: t, fallback: {name: c, agent: t}}
";
    assert_eq!(said_about(text), "fine");
}

#[test]
fn unknown_branches_steps_and_imports_are_refused_with_the_nearest_name() {
    insta::assert_snapshot!(said_about(
        "agents: {t: {type: template, template: x}}
steps:
  - {name: a, agent: t, fallback: chose}
  - name: choose
    kind: conditional
    condition_expression: input.kind
    branches: {code: {name: c, agent: t}, text: {name: d, agent: t}}
    default_branch: txt
  - {name: e, uses: imports.other}
  - {name: f, uses: agents.tt}
  - {name: g, uses: 'pkg.mod:fn'}
"
    ));
}

#[test]
fn a_template_with_a_mistake_is_pointed_at_inside_its_text() {
    insta::assert_snapshot!(said_about(
        "steps:
  - name: a
    input: 'Hello {{ input.name'
    agent:
      type: template
      template: |
        first line
        {% if %}
"
    ));
}

#[test]
fn a_template_that_names_what_is_not_there_is_refused() {
    insta::assert_snapshot!(said_about(
        "agents: {t: {type: template, template: x}}
steps:
  - {name: read, agent: t}
  - {name: b, agent: t, input: '{{ steps.raed.output }} {{ inptu }} {{ title }}'}
"
    ));
}

#[test]
fn python_forms_of_older_versions_are_refused_with_the_rewrite() {
    insta::assert_snapshot!(said_about(
        "agents: {t: {type: template, template: x}}
steps:
  - name: choose
    kind: conditional
    condition_expression: context.title is None
    branches: {true: {name: c, agent: t}, false: {name: d, agent: t}}
  - name: other
    kind: conditional
    condition_expression: str(input) == 'int(1)'
    branches: {true: {name: e, agent: t}}
"
    ));
}

#[test]
fn python_forms_that_work_are_accepted() {
    for expression in [
        "context.get('x') == 1",
        "len(input) > 3 and not context.done",
        "'a' if input else 'b'",
        "{{ context.title }}",
        "previous_step.items[0] == 'x'",
        "input | int(0) > 1",
        "input is none",
        "True",
    ] {
        let text = format!(
            "steps:
  - name: choose
    kind: conditional
    condition_expression: \"{expression}\"
    branches: {{true: {{name: c, agent: {{type: template, template: x}}}}}}
"
        );
        assert_eq!(said_about(&text), "fine", "{expression}");
    }
}

#[test]
fn validators_that_cannot_work_are_refused() {
    insta::assert_snapshot!(said_about(
        "steps:
  - name: a
    agent: {type: template, template: x}
    validators:
      - {expression: 'output | length <'}
      - {regex: '(unclosed'}
      - {json_schema: {type: strnig}}
      - {message: nothing to test}
      - {regex: a, expression: b}
"
    ));
}

#[test]
fn settings_of_agents_are_checked_and_pointed_at() {
    insta::assert_snapshot!(said_about(
        "agents:
  a: {type: command, args: []}
  b: {type: extract, regex: {pattern: '('}}
  c: {type: http, url: 'https://localhost', timeout_s: soon}
  d: {type: template}
  e: {type: files, glob: {include: ['../x']}}
  f: {model: gpt}
  g: {type: chat, model: m, api_key_env: SURELY_NOT_SET_ANYWHERE}
steps:
  - {name: s, agent: a}
"
    ));
}

#[test]
fn keys_of_another_kind_or_a_later_version_say_so() {
    insta::assert_snapshot!(said_about(
        "static_invariants: []
steps:
  - {name: a, agent: {type: template, template: x}, branches: {}}
  - {name: b, agent: {type: template, template: x}, plugins: [x]}
"
    ));
}

#[test]
fn a_kind_that_was_taken_for_a_key_is_told_how_it_is_written() {
    insta::assert_snapshot!(said_about(
        "steps:
  - name: both
    parallel:
      left: [{name: l, agent: {type: template, template: x}}]
  - name: ask
    human: {message: ok?}
  - name: route
    branches: {}
  - name: again
    kind: hitl
    human: {message: ok?}
"
    ));
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_read_or_refused() {
    let whole = "version: \"0.1\"
agents:
  t: &t {type: template, template: 'é {{ input }}'}
  f: {type: files, read: {root: \"{{ context.root or '.' }}\"}}
steps:
  - {name: a, agent: t, fallback: {name: b, agent: *t}}
  - name: c
    kind: map
    map:
      body:
        - name: d
          agent: f
          validators:
            - expression: output | length < 3
              message: |-
                {{ output }}
  - name: e
    kind: conditional
    condition_expression: input is none
    branches: {true: [{name: g, <<: {agent: t}}]}
    default_branch: {name: h, agent: t}
";
    assert_eq!(said_about(whole), "fine");
    for (end, _) in whole.char_indices() {
        let said = said_about(&whole[..end]);
        assert!(
            said == "fine" || said.contains("[FLU-"),
            "cut off at {end}: {said}"
        );
    }
}

#[test]
fn what_is_wrong_with_loops_states_and_questions_is_said_where_it_stands() {
    let text = "steps:
  - name: again
    kind: loop
    loop:
      body: {name: one, agent: {type: template, template: x}}
      max_loops: 0
  - name: flow
    kind: state_machine
    start_state: drft
    end_states: [done]
    states:
      draft: {name: two, agent: {type: template, template: x}}
    transitions:
      - {from: draft, to: dne}
      - {from: draft, on: sucess, to: done}
  - name: ask
    kind: hitl
    mesage: really?
    input_schema: {type: nonsense}
  - name: pick
    kind: gather
    wait_for: []
";
    let said = said_about(text);
    for expected in [
        "the loop has no `exit_expression`",
        "`max_loops` must be at least 1",
        "there is no state `drft`",
        "there is no state `dne`",
        "`on` can't be `sucess`",
        "unknown key `mesage`",
        "this isn't a JSON schema",
        "there is nothing to gather",
    ] {
        assert!(said.contains(expected), "{expected:?}: {said}");
    }
}

#[test]
fn what_is_said_of_a_cache_is_checked() {
    let text = "steps:
  - {name: a, agent: {type: template, template: x}, cache: {scope: [mark]}}
  - {name: b, agent: {type: template, template: x}, cache: {ttl: 5}}
  - {name: c, agent: {type: template, template: x}, cache: sometimes}
  - name: d
    kind: cache
    cache: true
    wrapped_step: {name: e, agent: {type: template, template: x}}
";
    let said = said_about(text);
    for expected in [
        "can't hold `mark`",
        "unknown key `ttl`",
        "`cache` must be",
        "a step of kind `cache` has `cache` too",
    ] {
        assert!(said.contains(expected), "{expected:?}: {said}");
    }
}

#[test]
fn a_redis_address_that_is_none_is_refused_where_it_stands_and_its_password_is_not_shown() {
    let text = "rate_limits:
  - {name: a, requests_per_minute: 1, redis: 'redis://me:hush@host:many/0'}
steps:
  - name: say
    agent: {type: template, template: x}
    config: {rate_limit: {name: b, max_concurrent: 1, redis: 'http://me:hush@host'}}
  - name: ask
    agent: {type: chat, model: x, rate_limit: {name: c, max_concurrent: 1, redis: 'me:hush@host'}}
  - name: ask again
    agent: {type: chat, model: x, rate_limit: {name: d, max_concurrent: 1, redis: 6379}}
";
    let said = said_about(text);
    let wrong = "the Redis address is wrong: it isn't a Redis URL; it looks like redis://host:6379/0";
    for expected in [
        "2:46: the Redis address is wrong: ",
        &format!("6:62: {wrong}"),
        &format!("8:83: {wrong}"),
        "10:83: `redis` of a rate limit must be the address of a server",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!said.contains("hush"), "{said}");
}

#[test]
fn rate_limits_that_cannot_be_kept_are_refused_where_they_stand() {
    let text = "rate_limits:
  - {name: nothing}
  - {name: none, requests_per_minute: 0}
  - {requests_per_minute: 60}
steps:
  - name: say
    agent: {type: template, template: x}
    config: {rate_limit: {name: a, requests_a_minute: 60}}
  - name: ask
    agent: {type: chat, model: x, rate_limit: {name: b, requests_per_minute: -1}}
";
    let said = said_about(text);
    for expected in [
        "2:5: rate limit `nothing` limits nothing",
        "3:5: rate limit `none`: requests_per_minute must be a number above 0",
        "`name`",
        "`requests_a_minute`",
        "the chat agent can't use `rate_limit`: rate limit `b`",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}
