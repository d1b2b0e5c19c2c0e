//! Rate limits on the tokio host: against a real server that counts, over runs and branches, and as steps, agents and
//! runners have them.

#![allow(clippy::expect_used)] // also in what the tests share: a panic is how a test fails

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture, Retry};
use flujo_core::context::Context;
use flujo_core::machine::{Answer, FailureKind, Outcome};
use flujo_core::value::Value;
use flujo_tokio::{BuildError, Handler, MapOver, Parallel, Pipeline, RateLimit, Runner, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_mins(1);

/// An HTTP server that answers so many requests in any minute and refuses the others, with the time to wait.
struct Server {
    address: std::net::SocketAddr,
    answered: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

impl Server {
    async fn start(a_minute: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let server = Self {
            address: listener.local_addr().expect("it has an address"),
            answered: Arc::default(),
            refused: Arc::default(),
        };
        let (answered, refused) = (Arc::clone(&server.answered), Arc::clone(&server.refused));
        let lately = Arc::new(Mutex::new(VecDeque::<Instant>::new()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let lately = Arc::clone(&lately);
                let (answered, refused) = (Arc::clone(&answered), Arc::clone(&refused));
                tokio::spawn(async move {
                    let now = Instant::now();
                    let wait = {
                        let mut lately = lately.lock().expect("nobody panics");
                        while lately.front().is_some_and(|first| now - *first >= MINUTE) {
                            lately.pop_front();
                        }
                        let wait = (lately.len() >= a_minute).then(|| MINUTE.saturating_sub(now - lately[0]));
                        if wait.is_none() {
                            lately.push_back(now);
                        }
                        wait
                    };
                    let count = if wait.is_some() { refused } else { answered };
                    count.fetch_add(1, Ordering::Relaxed);
                    reply(stream, wait).await;
                });
            }
        });
        server
    }

    fn counts(&self) -> (usize, usize) {
        (
            self.answered.load(Ordering::Relaxed),
            self.refused.load(Ordering::Relaxed),
        )
    }
}

async fn reply(mut stream: TcpStream, wait: Option<Duration>) {
    let mut request = [0; 512];
    let _ = stream.read(&mut request).await;
    let text = match wait {
        None => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".to_owned(),
        Some(wait) => format!(
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            wait.as_secs() + 1
        ),
    };
    let _ = stream.write_all(text.as_bytes()).await;
}

/// Asks the server, and says what it says.
struct Client {
    address: std::net::SocketAddr,
    limit: Option<RateLimit>,
}

impl Agent for Client {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        let failed = |error: std::io::Error| AgentError::new(error.to_string());
        Box::pin(async move {
            let mut stream = TcpStream::connect(self.address).await.map_err(failed)?;
            let line = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(line).await.map_err(failed)?;
            let mut reply = String::new();
            stream.read_to_string(&mut reply).await.map_err(failed)?;
            match reply.split_once("Retry-After: ") {
                None => Ok(request.input.into()),
                Some((_, after)) => {
                    let seconds = after.lines().next().and_then(|seconds| seconds.parse().ok());
                    let mut error = AgentError::new("429 Too Many Requests");
                    error.retry = Retry::After(Duration::from_secs(seconds.unwrap_or(1)));
                    Err(error)
                }
            }
        })
    }

    fn rate_limit(&self) -> Option<RateLimit> {
        self.limit.clone()
    }
}

fn items(count: i64) -> Value {
    Value::from((0..count).map(Value::from).collect::<Vec<_>>())
}

fn asking(server: &Server, limit: Option<RateLimit>, retries: u32) -> Pipeline {
    let client = Client {
        address: server.address,
        limit,
    };
    MapOver::new("all", Step::agent("ask", Arc::new(client)).retries(retries))
        .max_concurrency(16)
        .into()
}

fn runner(pipeline: impl Into<Pipeline>) -> Runner {
    Runner::builder(pipeline).build().expect("the pipeline can run")
}

#[tokio::test(start_paused = true)]
async fn two_hundred_items_against_a_server_of_sixty_a_minute_are_never_refused() {
    let server = Server::start(60).await;
    let limit = RateLimit::new("two hundred").requests_per_minute(60);
    let begun = Instant::now();
    let done = runner(asking(&server, Some(limit), 0))
        .run(items(200), Context::default())
        .await;
    assert!(matches!(done.finish.outcome, Outcome::Completed(_)));
    assert_eq!(server.counts(), (200, 0));
    assert!(begun.elapsed() >= 3 * MINUTE);
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_the_server_refuses() {
    let server = Server::start(60).await;
    let done = runner(asking(&server, None, 0))
        .run(items(200), Context::default())
        .await;
    assert!(matches!(done.finish.outcome, Outcome::Failed(_)));
    assert!(server.counts().1 > 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_holds_all_who_share_the_limit_until_the_server_is_ready() {
    // The limit is wrong: the server allows half of it. Whoever is refused waits, and nobody else tries meanwhile.
    let server = Server::start(30).await;
    let limit = RateLimit::new("half").requests_per_minute(60).max_concurrent(1);
    let pipeline = asking(&server, Some(limit), 1);
    let done = runner(pipeline).run(items(90), Context::default()).await;
    assert!(matches!(done.finish.outcome, Outcome::Completed(_)));
    assert_eq!(server.counts(), (90, 2));
}

/// A step that waits for a second, and how many of it run at once at most.
fn slow(most: &Arc<AtomicUsize>) -> Handler {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::clone(most));
    Handler::function(move |input: Value| {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(input)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn runs_of_several_runners_share_a_limit_by_its_name() {
    let most = Arc::default();
    let step = Step::new("slow", slow(&most)).rate_limit(RateLimit::new("shared").max_concurrent(2));
    let (one, other) = (runner(step.clone()), runner(step));
    let runs = (0..6).map(|n| if n % 2 == 0 { &one } else { &other }.run(n.into(), Context::default()));
    let begun = Instant::now();
    let runs: Vec<_> = runs.map(tokio::spawn).collect();
    for run in runs {
        run.await.expect("nobody panics");
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert_eq!(begun.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_runners_limit_holds_for_every_step_beside_that_of_the_step() {
    let most = Arc::default();
    let limit = |name: &str, calls| RateLimit::new(name.to_owned()).max_concurrent(calls);
    let steps = Parallel::new("all")
        .branch("one", Step::new("one", slow(&most)))
        .branch(
            "two",
            Step::new("two", slow(&most)).rate_limit(limit("of a step", 1)),
        )
        .branch(
            "three",
            Step::new("three", slow(&most)).rate_limit(limit("of a step", 1)),
        );
    let runner = Runner::builder(steps).rate_limit(limit("of a runner", 2)).build();
    let begun = Instant::now();
    let done = runner
        .expect("it can run")
        .run(Value::Null, Context::default())
        .await;
    assert!(matches!(done.finish.outcome, Outcome::Completed(_)));
    assert_eq!(begun.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_runners_limit_holds_for_agents_that_plugins_of_constructs_ask_for() {
    let most = Arc::default();
    let another = Value::opaque(slow(&most));
    let asks = Handler::inline(move |decision| {
        Ok(match decision.value().as_str() {
            Some("first") => Answer::Redirect {
                agent: another.clone(),
                identity: 1,
                unpriced: false,
                rated: false,
            },
            _ => Answer::Done,
        })
    });
    let first = Step::new("first", Handler::function(|_| async { Ok(Value::from("first")) }));
    let whole = Step::body("whole", first).plugin(asks);
    let runner = Runner::builder(whole).rate_limit(RateLimit::new("of agents").max_concurrent(1));
    let runner = runner.build().expect("it can run");
    let begun = Instant::now();
    let runs = (0..3).map(|n: i64| tokio::spawn(runner.run(n.into(), Context::default())));
    for run in runs.collect::<Vec<_>>() {
        let done = run.await.expect("nobody panics");
        assert!(matches!(done.finish.outcome, Outcome::Completed(_)));
    }
    assert_eq!((most.load(Ordering::SeqCst), begun.elapsed().as_secs()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_leaves_the_line_and_a_deadline_ends_the_waiting() {
    let most = Arc::default();
    let limit = RateLimit::new("dropped").max_concurrent(1);
    let step = Step::new("slow", slow(&most)).rate_limit(limit);
    let one = runner(step.clone());
    let first = tokio::spawn(one.run(1.into(), Context::default()));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let dropped =
        tokio::time::timeout(Duration::from_millis(100), one.run(2.into(), Context::default())).await;
    assert!(dropped.is_err());
    let short = runner(step.deadline(Duration::from_millis(500)));
    let late = short.run(3.into(), Context::default()).await;
    assert!(
        matches!(&late.finish.outcome, Outcome::Failed(failure) if failure.kind == FailureKind::Deadline)
    );
    first.await.expect("nobody panics");
    let begun = Instant::now();
    one.run(4.into(), Context::default()).await;
    assert_eq!(begun.elapsed().as_secs(), 1);
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn limits_that_cannot_be_kept_are_refused_when_the_runner_is_built() {
    let echo = || Step::new("echo", Handler::function(|input: Value| async move { Ok(input) }));
    let build = |limit| {
        Runner::builder(echo().rate_limit(limit))
            .build()
            .err()
            .expect("it is refused")
    };
    let zero = build(RateLimit::new("zero").requests_per_minute(0));
    assert!(matches!(zero, BuildError::Rate(_)) && zero.to_string().contains("rate limit `zero`"));
    let kept = Runner::builder(echo().rate_limit(RateLimit::new("twice").max_concurrent(1))).build();
    let other = build(RateLimit::new("twice").max_concurrent(2));
    assert!(
        other
            .to_string()
            .contains("`twice` is defined as 2 at once here and as 1 at once elsewhere")
    );
    drop(kept);
    let body = Step::body("part", echo()).rate_limit(RateLimit::new("part").max_concurrent(1));
    let body = Runner::builder(body).build().err().expect("it is refused");
    assert!(body.to_string().contains("step `part` calls no agent itself"));
}
