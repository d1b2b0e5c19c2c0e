//! An agentic loop: what the planner is told, and what becomes of its commands.

use flujo_core::context::Context;
use flujo_core::value::Value;
use flujo_tokio::{AgenticLoop, Done, Handler, Runner, Step};

fn command(entries: &[(&'static str, &'static str)]) -> Value {
    Value::map(entries.iter().map(|(key, value)| (*key, Value::from(*value))))
}

/// A planner that gives these commands, one each time it is asked.
fn planner(commands: Vec<Value>) -> Step {
    Step::new(
        "plan",
        Handler::processor(move |prompt, _| {
            let turn = prompt
                .get("command_log")
                .and_then(Value::as_list)
                .map_or(0, <[Value]>::len);
            Ok(commands
                .get(turn)
                .or(commands.last())
                .cloned()
                .unwrap_or_default())
        }),
    )
    .retries(0)
}

async fn run(agentic: AgenticLoop) -> (Runner, Done) {
    let runner = match Runner::builder(agentic).build() {
        Ok(runner) => runner,
        Err(error) => unreachable!("{error}"),
    };
    let done = runner.run(Value::from("goal"), Context::new()).await;
    (runner, done)
}

fn results(done: &Done) -> Vec<Value> {
    let log = done.finish.context.get("command_log").and_then(Value::as_list);
    let result = |turn: &Value| turn.get("execution_result").cloned().unwrap_or_default();
    log.unwrap_or_default().iter().map(result).collect()
}

#[tokio::test]
async fn each_command_is_carried_out_and_logged_until_the_planner_has_finished() {
    let shout = Step::new(
        "shout",
        Handler::processor(|text, _| Ok(Value::from(text.as_str().unwrap_or_default().to_uppercase()))),
    );
    let broken = Step::new("broken", Handler::processor(|_, _| Err("no luck".into()))).retries(0);
    let commands = vec![
        command(&[
            ("type", "run_agent"),
            ("agent_name", "shout"),
            ("input_data", "hey"),
        ]),
        command(&[
            ("type", "run_agent"),
            ("agent_name", "broken"),
            ("input_data", ""),
        ]),
        command(&[
            ("type", "run_agent"),
            ("agent_name", "nobody"),
            ("input_data", ""),
        ]),
        command(&[("type", "finish"), ("final_answer", "done")]),
    ];
    let agentic = AgenticLoop::new("work", planner(commands))
        .agent("shout", shout)
        .agent("broken", broken);
    let (_, done) = run(agentic).await;
    assert_eq!(
        done.output(),
        Some(&Value::from("done")),
        "{:?}",
        done.finish.outcome
    );
    let results = results(&done);
    assert_eq!(results[0], Value::from("HEY"));
    let said = |place: usize| results[place].as_str().unwrap_or_default().to_owned();
    assert!(said(1).contains("no luck"), "{}", said(1));
    assert!(
        said(2).contains("the agents are `shout`, `broken`"),
        "{}",
        said(2)
    );
}

#[tokio::test]
async fn a_planner_that_gives_no_command_is_asked_again_then_fails_the_loop() {
    let agentic = AgenticLoop::new("work", planner(vec![Value::from("hello")])).retries(1);
    let (_, done) = run(agentic).await;
    assert_eq!(done.status(), "failed");
    let said = format!("{:?}", done.finish.outcome);
    assert!(said.contains("no `type`"), "{said}");
}

#[tokio::test]
async fn a_planner_asks_a_person_and_goes_on_with_the_answer() {
    let commands = vec![
        command(&[("type", "ask_human"), ("question", "which one?")]),
        command(&[("type", "finish"), ("final_answer", "the one")]),
    ];
    let (runner, done) = run(AgenticLoop::new("work", planner(commands))).await;
    let Some(paused) = &done.paused else {
        unreachable!("{:?}", done.finish.outcome)
    };
    assert_eq!(paused.pauses()[0].message, "which one?");
    let resumed = match runner.resume(paused, Value::from("that")) {
        Ok(run) => run.await,
        Err(error) => unreachable!("{error}"),
    };
    assert_eq!(resumed.output(), Some(&Value::from("the one")));
    assert_eq!(results(&resumed)[0], Value::from("that"));
}

#[tokio::test]
async fn an_agentic_loop_in_an_agentic_loop_has_a_log_of_its_own() {
    let call = |agent| command(&[("type", "run_agent"), ("agent_name", agent), ("input_data", "x")]);
    let finish = |answer| command(&[("type", "finish"), ("final_answer", answer)]);
    let note = Step::new("note", Handler::processor(|text, _| Ok(text.clone()))).sink_to("noted");
    let within =
        AgenticLoop::new("within", planner(vec![call("note"), finish("inner answer")])).agent("note", note);
    let around = planner(vec![call("within"), call("within"), finish("outer answer")]);
    let (_, done) = run(AgenticLoop::new("around", around).agent("within", within)).await;
    assert_eq!(
        done.output(),
        Some(&Value::from("outer answer")),
        "{:?}",
        done.finish.outcome
    );
    let answers = ["inner answer", "inner answer", "outer answer"].map(Value::from);
    assert_eq!(results(&done), answers);
    let context = &done.finish.context;
    assert_eq!(context.get("noted"), Some(&Value::from("x")), "{context:?}");
}
