//! A router that chooses which branches run.

use flujo::{BoxError, Flujo, parallel, step};

#[tokio::main]
pub(crate) async fn main() -> Result<(), BoxError> {
    let say = |what: &'static str| step("say", move |_: String| async move { Ok::<_, BoxError>(what) });
    let router = step("router", |text: String| async move {
        let chosen = ["tea", "milk"].into_iter().filter(|word| text.contains(*word));
        Ok::<_, BoxError>(chosen.map(str::to_owned).collect::<Vec<_>>())
    });
    let pipeline = parallel("order", [("milk", say("pour")), ("tea", say("brew"))]).routed_by(router);
    let flujo = Flujo::new(pipeline);
    assert_eq!(
        flujo.run("tea, please".into()).await?.output,
        [("tea".to_owned(), "brew")]
    );
    assert!(flujo.run("nothing".into()).await?.output.is_empty());
    Ok(())
}
