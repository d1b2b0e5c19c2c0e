//! Many runs, busy processors, a slow network: nothing is lost, mixed up or left behind, with either twin.
//!
//! A test takes a part of its load; `FLUJO_STRESS=full` (`make stress`) gives it all.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking, also in what several tests share

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flujo::{BoxError, Context, Flujo, Pipeline, RunError, Scope, Stage, parallel, step};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

fn load(part: usize, full: usize) -> usize {
    match std::env::var("FLUJO_STRESS").as_deref() {
        Ok("full") => full,
        _ => part,
    }
}

#[derive(Default, Clone, Debug, PartialEq, Context)]
struct Ledger {
    owner: u64,
    left: u64,
    right: u64,
}

/// A branch that writes the run's number into its own field and waits until all runs have come here.
fn branch(
    name: &'static str,
    arrived: &Arc<AtomicUsize>,
    all: usize,
    gate: &watch::Sender<bool>,
) -> Pipeline<u64, u64, Ledger> {
    let (arrived, gate) = (Arc::clone(arrived), gate.clone());
    step(name, move |n: u64, scope: Scope<Ledger>| {
        let (arrived, gate) = (Arc::clone(&arrived), gate.clone());
        async move {
            scope.context().update(|ledger| match name {
                "left" => ledger.left = n,
                _ => ledger.right = n,
            });
            if arrived.fetch_add(1, Ordering::SeqCst) + 1 == all {
                gate.send_replace(true);
            }
            gate.subscribe().wait_for(|open| *open).await?;
            Ok::<_, BoxError>(n)
        }
    })
    .into_pipeline()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_runs_in_flight_each_end_with_their_own_result_and_context() {
    let runs = load(2_000, 10_000);
    for optimized in [true, false] {
        let (arrived, gate) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(false));
        let sign = step("sign", |n: u64, scope: Scope<Ledger>| async move {
            scope.context().update(|ledger| ledger.owner = n);
            Ok::<_, BoxError>(n)
        });
        let both = ["left", "right"].map(|name| (name, branch(name, &arrived, runs * 2, &gate)));
        let flujo = Flujo::builder(sign >> parallel("both", both))
            .optimizations(optimized)
            .build()
            .unwrap();
        let mut under_way = JoinSet::new();
        for number in 0..runs as u64 {
            let flujo = flujo.clone();
            under_way.spawn(async move { (number, flujo.run(number).await) });
        }
        let mut seen = 0;
        while let Some(ended) = under_way.join_next().await {
            let (number, run) = ended.unwrap();
            let run = run.unwrap();
            let expected = Ledger {
                owner: number,
                left: number,
                right: number,
            };
            assert_eq!(run.context, expected);
            assert!(
                run.output.iter().all(|(_, output)| *output == number),
                "{:?}",
                run.output
            );
            seen += 1;
        }
        assert_eq!((seen, arrived.load(Ordering::SeqCst)), (runs, runs * 2));
        // The runtime takes a task off its list just after the task has told that it ended.
        while Handle::current().metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Computes for about a millisecond without ever waiting.
fn computed(seed: u64) -> u64 {
    (0..20_000_u64).fold(seed | 1, |number, round| {
        number.wrapping_mul(6_364_136_223_846_793_005).rotate_left(7) ^ round
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_that_only_compute_leave_the_others_their_turns_while_switches_are_thrown() {
    let (busy, light) = (load(200, 5_000) as u64, load(500, 20_000) as u64);
    let compute = || step("compute", |n: u64| async move { Ok::<_, BoxError>(computed(n)) });
    let heavy = Flujo::new(compute() >> compute() >> compute());
    let quick = Flujo::new(step("add", |n: u64| async move {
        tokio::task::yield_now().await;
        Ok::<_, BoxError>(n + 1)
    }));
    let mut under_way = JoinSet::new();
    for number in 0..busy {
        let heavy = heavy.clone();
        under_way.spawn(async move {
            let expected = computed(computed(computed(number)));
            assert_eq!(heavy.run(number).await.unwrap().output, expected);
        });
    }
    for number in 0..light {
        match number % 4 {
            0 => heavy.disable_optimizations(),
            2 => heavy.enable_optimizations(),
            _ => {}
        }
        assert_eq!(quick.run(number).await.unwrap().output, number + 1);
    }
    while let Some(ended) = under_way.join_next().await {
        ended.unwrap();
    }
    assert_eq!(heavy.performance_statistics().unwrap().execution_count, busy);
    assert_eq!(quick.performance_statistics().unwrap().execution_count, light);
}

/// Answers a line byte by byte, hangs, or breaks off, as the line asks; `-once` does so the first time only.
async fn slow_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut asked = String::new();
                stream.read_line(&mut asked).await?;
                let asked = asked.trim().to_owned();
                let times = {
                    let mut seen = seen.lock().unwrap();
                    let times = seen.entry(asked.clone()).or_default();
                    *times += 1;
                    *times
                };
                match asked.split(' ').next().unwrap_or_default() {
                    "hang" | "" => drop(stream.read_line(&mut String::new()).await?),
                    "break" => stream.write_all(b"half of an ans").await?,
                    "break-once" if times == 1 => stream.write_all(b"half of an ans").await?,
                    _ => {
                        for byte in format!("answer to {asked}\n").bytes() {
                            stream.write_all(&[byte]).await?;
                            stream.flush().await?;
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                }
                Ok::<_, std::io::Error>(())
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_network_costs_time_and_nothing_else() {
    let rounds = load(12, 150);
    let address = slow_server().await;
    for optimized in [true, false] {
        let round = if optimized { "a" } else { "b" };
        let connections = Arc::new(AtomicUsize::new(0));
        let open = Arc::clone(&connections);
        let fetch = || {
            let open = Arc::clone(&open);
            step("fetch", move |asked: String| {
                let open = Arc::clone(&open);
                async move {
                    let stream = TcpStream::connect(address).await?;
                    let _held = Held::new(open);
                    let mut stream = BufReader::new(stream);
                    stream.write_all(format!("{asked}\n").as_bytes()).await?;
                    let mut answer = String::new();
                    stream.read_line(&mut answer).await?;
                    if !answer.ends_with('\n') {
                        return Err(BoxError::from(format!("the answer broke off: {answer}")));
                    }
                    Ok(answer.trim().to_owned())
                }
            })
            .retries(1)
        };
        let build =
            |fetch: Pipeline<String, String>| Flujo::builder(fetch).optimizations(optimized).build().unwrap();
        // Only what never answers has a time limit: how slow an answer is depends on the machine.
        let patient = build(fetch().into_pipeline());
        let impatient = build(fetch().timeout(Duration::from_millis(500)).into_pipeline());
        let mut under_way = JoinSet::new();
        for number in 0..rounds {
            for kind in ["slow", "break-once", "break", "hang"] {
                let flujo = if kind == "hang" { &impatient } else { &patient }.clone();
                let asked = format!("{kind} {round}{number}");
                under_way.spawn(async move { (kind, asked.clone(), flujo.run(asked).await) });
            }
        }
        while let Some(ended) = under_way.join_next().await {
            let (kind, asked, run) = ended.unwrap();
            match (kind, run) {
                ("break", Err(failed @ RunError::Failed { .. })) => {
                    assert!(failed.to_string().contains("broke off"), "{failed}");
                }
                ("hang", Err(failed @ RunError::Failed { .. })) => {
                    assert!(failed.to_string().contains("time limit"), "{failed}");
                }
                (_, Ok(run)) => {
                    assert_eq!(run.output, format!("answer to {asked}"));
                    let attempts = run.steps.get("fetch").unwrap().attempts();
                    assert_eq!(attempts, if kind == "slow" { 1 } else { 2 }, "{asked}");
                }
                (_, Err(error)) => panic!("{asked}: {error}"),
            }
        }
        assert_eq!(
            connections.load(Ordering::SeqCst),
            0,
            "no connection is left open"
        );
    }
}

/// Counts itself while it is there.
struct Held(Arc<AtomicUsize>);

impl Held {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
