//! Questions to people, typed.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

use std::time::Duration;

use flujo::{
    BoxError, Context, Flujo, InvalidRun, PausedRun, Payload, ResumeError, RunError, Status, human, parallel,
    step,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Verdict {
    good: bool,
    why: String,
}

#[derive(Debug, Default, Context)]
struct Review {
    why: String,
    notes: Vec<String>,
}

fn paused<O: Payload, C>(result: Result<flujo::Run<O, C>, RunError>) -> (PausedRun, RunError) {
    match result {
        Err(error @ RunError::Paused { .. }) => (error.paused().expect("it is paused").clone(), error),
        Err(other) => panic!("it pauses, but {other}"),
        Ok(_) => panic!("it pauses"),
    }
}

fn good() -> Verdict {
    Verdict {
        good: true,
        why: "clear".into(),
    }
}

#[tokio::test]
async fn an_answer_arrives_as_its_type_and_may_be_written_into_the_context() {
    let ask = human("review", |text: &String, review: &Review| {
        format!("{text} after {}?", review.notes.len())
    })
    .answered_by::<Verdict>()
    .sink(|verdict: &Verdict, review: &mut Review| review.why.clone_from(&verdict.why));
    let say = step("say", |verdict: Verdict| async move {
        Ok::<_, BoxError>(verdict.good)
    });
    let flujo = Flujo::new(ask >> say);
    let review = Review {
        why: String::new(),
        notes: vec!["one".into()],
    };
    let (run, error) = paused(flujo.run_with("fine".into(), &review).await);
    assert_eq!(run.pauses()[0].message, "fine after 1?");
    assert_eq!(
        error.to_string(),
        "the run waits for answers: step `review` asks as `review#2`"
    );
    let partial = error.partial().expect("it began");
    assert_eq!(
        partial.steps.get("review").map(|step| step.status()),
        Some(Status::Running)
    );
    let done = flujo.resume(&run, good()).await.expect("it ends");
    assert!(done.output);
    assert_eq!(done.context.why, "clear");
}

#[tokio::test]
async fn an_answer_of_another_type_or_one_that_is_rejected_leaves_the_question_open() {
    let ask = human("review", |text: &String| text.clone())
        .answered_by::<Verdict>()
        .validate(|verdict| {
            if verdict.why.is_empty() {
                Err("say why".into())
            } else {
                Ok(())
            }
        });
    let flujo = Flujo::new(ask);
    let (run, _) = paused(flujo.run("fine".into()).await);
    let (run, _) = paused(flujo.resume(&run, 7).await);
    let why = run.pauses()[0].rejected.clone().expect("a reason");
    assert!(
        why.contains("Verdict") || why.contains("map") || why.contains("integer"),
        "{why}"
    );
    let (run, _) = paused(
        flujo
            .resume(
                &run,
                Verdict {
                    good: true,
                    why: String::new(),
                },
            )
            .await,
    );
    assert!(
        run.pauses()[0]
            .rejected
            .as_deref()
            .is_some_and(|why| why.contains("say why"))
    );
    assert_eq!(flujo.resume(&run, good()).await.expect("it ends").output, good());
    let again = flujo.resume(&run, good()).await.expect_err("it has ended");
    assert!(
        matches!(
            &again,
            RunError::Invalid(InvalidRun::Resume(ResumeError::AlreadyAnswered { .. }))
        ),
        "{again}"
    );
}

#[tokio::test]
async fn several_questions_are_answered_by_their_ids() {
    let ask = |name: &'static str| human(name, |number: &u32| number.to_string()).answered_by::<u32>();
    let both = parallel("both", (("a", ask("first")), ("b", ask("second"))));
    let flujo = Flujo::new(both);
    let (run, _) = paused(flujo.run(1).await);
    let error = flujo.resume(&run, 5).await.expect_err("which one?");
    assert!(matches!(
        error,
        RunError::Invalid(InvalidRun::Resume(ResumeError::Ambiguous { .. }))
    ));
    let answers = run
        .pauses()
        .iter()
        .map(|pause| (pause.id.clone(), if pause.lane == "both[a]" { 10 } else { 20 }));
    assert_eq!(
        flujo.resume_with(&run, answers).await.expect("it ends").output,
        (10, 20)
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_s_answer_is_the_default_and_a_paused_run_can_be_cancelled() {
    let ask = human("ask", |text: &String| text.clone())
        .answered_by::<u32>()
        .timeout(Duration::from_mins(1))
        .default_answer(3);
    let flujo = Flujo::new(ask);
    let (run, _) = paused(flujo.run("how many?".into()).await);
    tokio::time::advance(Duration::from_mins(1)).await;
    let none: [(String, u32); 0] = [];
    assert_eq!(flujo.resume_with(&run, none).await.expect("it ends").output, 3);
    let (run, _) = paused(flujo.run("how many?".into()).await);
    assert!(matches!(
        flujo.cancel(&run).await,
        Err(RunError::Cancelled { .. })
    ));
}

#[tokio::test]
async fn a_question_that_names_no_type_is_answered_by_text_in_the_middle_of_a_pipeline() {
    let shout = step("shout", |text: String| async move {
        Ok::<_, BoxError>(text.to_uppercase())
    });
    let flujo = Flujo::new(human("ask", |text: &String| text.clone()) >> shout);
    let (run, _) = paused(flujo.run("who?".into()).await);
    let (run, _) = paused(flujo.resume(&run, 7).await);
    assert!(run.pauses()[0].rejected.is_some(), "a number is no text");
    assert_eq!(
        flujo.resume(&run, "me".to_owned()).await.expect("it ends").output,
        "ME"
    );
}
