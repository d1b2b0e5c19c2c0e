//! The default recipe: a checklist, a solution, and a check of the one against the other, until it fits.

use flujo::{BoxError, Context, Flujo, Refinement, Scope, refine_until, step};

#[derive(Debug, Default, Context)]
struct Task {
    checklist: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    // Usually the three are model agents: `agent_step`.
    let review = step("review", |topic: String, scope: Scope<Task>| async move {
        scope
            .context()
            .update(|task| task.checklist = vec![topic, ".".into()]);
        Ok::<_, BoxError>("A note".to_owned())
    });
    let solution = step("solution", |draft: Refinement<String, Vec<String>>| async move {
        let missing = draft.feedback.unwrap_or_default();
        Ok::<_, BoxError>(missing.iter().fold(draft.input, |text, item| text + " " + item))
    });
    let validate = step("validate", |text: String, scope: Scope<Task>| async move {
        let mut items = scope.context().get()?.checklist;
        items.retain(|item| !text.contains(item.as_str()));
        Ok::<_, BoxError>(items)
    });
    let solve = refine_until("solve", solution, validate, |missing: &Vec<String>| {
        missing.is_empty()
    });
    let done = Flujo::new(review >> solve.max_loops(3))
        .run_with("tea".into(), &Task::default())
        .await?;
    assert_eq!(done.output, "A note tea .");
    Ok(())
}
