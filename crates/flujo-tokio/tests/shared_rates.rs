//! Rate limits that are shared with other processes, on the tokio host; the count is kept by a stand-in that says what it is
//! told to. What a real server says is tested where it is asked.

#![allow(clippy::expect_used)] // also in what the tests share: a panic is how a test fails

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flujo_core::config::Part;
use flujo_core::context::Context;
use flujo_core::rate::{ALONE, Answer, CallEnd, RateLimit, SharedCount, Verdict};
use flujo_core::value::Value;
use flujo_tokio::{Handler, Runner, Step};

#[derive(Default)]
struct Count {
    verdicts: Mutex<Vec<Verdict>>,
    told: Mutex<Vec<String>>,
}

impl SharedCount for Count {
    fn name(&self) -> &'static str {
        "stand-in"
    }

    fn ask(&self, _: &RateLimit, call: u64, tokens: u64, answer: Answer) {
        self.told
            .lock()
            .expect("told")
            .push(format!("ask {call} {tokens}"));
        answer(
            self.verdicts
                .lock()
                .expect("verdicts")
                .pop()
                .unwrap_or(Verdict::Admitted),
        );
    }

    fn tell(&self, _: &RateLimit, call: u64, end: CallEnd) {
        self.told
            .lock()
            .expect("told")
            .push(format!("tell {call} {end:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_begins_when_the_count_lets_it_and_its_end_is_told() {
    let count = Arc::new(Count::default());
    count
        .verdicts
        .lock()
        .expect("verdicts")
        .push(Verdict::Wait(Duration::from_secs(5)));
    let shared: Arc<dyn SharedCount> = Arc::<Count>::clone(&count);
    let limit = RateLimit::new("shared with a stand-in")
        .requests_per_minute(60.0)
        .shared_by(shared);
    let step = Step::new("call", Handler::function(|input| async move { Ok(input) }));
    let runner = Runner::builder(step.rate_limit(limit)).build().expect("a runner");
    let begin = tokio::time::Instant::now();
    assert_eq!(
        runner.run(Value::from(1), Context::new()).await.status(),
        "completed"
    );
    assert_eq!(begin.elapsed().as_secs(), 5);
    let told = count.told.lock().expect("told").clone();
    assert_eq!(
        told,
        ["ask 1 1", "ask 1 1", "tell 1 Used { tokens: 0, hold: None }"]
    );
}

#[tokio::test(start_paused = true)]
async fn when_nobody_counts_for_all_the_process_goes_on_by_itself_and_the_monitor_says_so() {
    let count = Arc::new(Count::default());
    let shared: Arc<dyn SharedCount> = Arc::<Count>::clone(&count);
    count
        .verdicts
        .lock()
        .expect("verdicts")
        .push(Verdict::Alone(Arc::from("it is away")));
    let limit = RateLimit::new("kept alone")
        .requests_per_minute(60.0)
        .shared_by(shared);
    let step = Step::new("call", Handler::function(|input| async move { Ok(input) }));
    let runner = Runner::builder(step.rate_limit(limit)).build().expect("a runner");
    let usage = || {
        runner.performance_statistics().optimizations[&Part::Usage]
            .reason
            .to_string()
    };
    assert_eq!(
        runner.run(Value::from(1), Context::new()).await.status(),
        "completed"
    );
    assert!(
        usage().contains(ALONE) && usage().contains("it is away"),
        "{}",
        usage()
    );
    assert_eq!(runner.performance_statistics().alerts.len(), 1);
    assert_eq!(
        count.told.lock().expect("told").len(),
        1,
        "what it let through itself is told to nobody"
    );
    assert_eq!(
        runner.run(Value::from(1), Context::new()).await.status(),
        "completed"
    );
    assert!(!usage().contains(ALONE), "{}", usage());
}
