//! A step whose results are kept: what was made once is found by whoever asks the same again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flujo::{BoxError, Cache, CachePolicy, CacheScope, Context, Cost, Flujo, Scope, Usage, step};

#[derive(Clone, Default, Context)]
struct Caller {
    language: String,
    request: u64,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), BoxError> {
    let asked = Arc::new(AtomicU32::new(0));
    let model = {
        let asked = Arc::clone(&asked);
        move |question: String, scope: Scope<Caller>| {
            asked.fetch_add(1, Ordering::Relaxed);
            async move {
                scope.add_usage(Usage::new(Cost::from_dollars(0.02).unwrap_or_default(), 100));
                let language = scope.context().get()?.language;
                Ok::<_, BoxError>(format!("{question} ({language})"))
            }
        }
    };
    // The number of the request says nothing about the answer, so that it is left out of what the answer depends on.
    let policy = CachePolicy::default()
        .ttl(Duration::from_mins(10))
        .scope(CacheScope::declared(["context.language"])?);
    let cache = Cache::builder().max_size(10_000).build();
    let flujo = Flujo::builder(step("ask", model).cached(policy))
        .cache(&cache)
        .build()?;

    for (request, (language, times)) in (1..).zip([("en", 1), ("en", 1), ("de", 2), ("en", 2)]) {
        let language = language.to_owned();
        let caller = Caller { language, request };
        let done = flujo.run_with("Why?".to_owned(), &caller).await?;
        assert_eq!(done.output, format!("Why? ({})", caller.language));
        assert_eq!(asked.load(Ordering::Relaxed), times);
        if request == 2 {
            // A result that was found costs nothing, and says what it saved.
            let step = done.steps.get("ask").ok_or("no such step")?;
            assert_eq!(
                (done.usage.tokens, step.saved().map(|saved| saved.tokens)),
                (0, Some(100))
            );
            assert!(done.steps.to_string().contains("from the cache"));
        }
    }
    let found = cache.statistics().steps;
    assert_eq!((found.hits, found.misses), (2, 2));
    Ok(())
}
