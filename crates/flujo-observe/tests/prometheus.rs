//! Metrics as a real Prometheus reads them. `scripts/services.sh` installs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // also in what the tests share

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::context::Context;
use flujo_core::usage::{Cost, Usage};
use flujo_core::value::Value;
use flujo_observe::{Metrics, MetricsEndpoint};
use flujo_tokio::{Handler, Pipeline, Runner, Step};

/// A GET; the status line and the body.
fn get(address: SocketAddr, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((
        head.lines().next().unwrap_or_default().to_owned(),
        body.to_owned(),
    ))
}

/// Fails in five ways, each time with another text.
struct Moody;

macro_rules! errors {
    ($($name:ident)*) => {
        $(#[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct $name(String);)*
    };
}
errors!(Alpha Beta Gamma Delta Epsilon);

fn moody() -> Step {
    let fail = Handler::function(|input: Value| async move {
        let run = input.as_int().unwrap();
        let text = format!("run {run} went wrong in its own way");
        Err(match run % 10 {
            0 => Alpha(text).into(),
            1 => Beta(text).into(),
            2 => Gamma(text).into(),
            3 => Delta(text).into(),
            4 => Epsilon(text).into(),
            _ => return Ok(input),
        })
    });
    Step::new("moody", fail).retries(0)
}

impl Agent for Moody {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            Ok(AgentOutput {
                usage: Usage::new(Cost::from_dollars(0.001).unwrap(), 10),
                ..request.input.into()
            })
        })
    }
}

fn runner() -> Runner {
    let same = || Handler::function(|input: Value| async move { Ok(input) });
    let pipeline = Pipeline::from(Step::agent("ask", std::sync::Arc::new(Moody)))
        .then(Step::new("a \"quoted\" step", same()))
        .then(moody());
    Runner::builder(pipeline).name("review").build().unwrap()
}

fn run(runner: &Runner, runs: std::ops::Range<i64>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for input in runs {
            runner.run(Value::from(input), Context::new()).await;
        }
    });
}

fn metrics(runner: &Runner) -> Metrics {
    let metrics = Metrics::default();
    let runner = runner.clone();
    metrics.add("review", move || runner.performance_statistics());
    metrics
}

fn series(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0).collect()
}

#[test]
fn ten_thousand_runs_have_the_series_of_ten_and_a_small_scrape() {
    let runner = runner();
    let metrics = metrics(&runner);
    run(&runner, 0..10);
    let few = metrics.text();
    run(&runner, 10..10_000);
    let many = metrics.text();
    assert_eq!(series(&few), series(&many));
    assert!(many.len() < 100_000, "{} bytes", many.len());
    assert!(many.contains("flujo_runs_total{pipeline=\"review\"} 10000\n"));
    assert!(many.contains("flujo_tokens_total{pipeline=\"review\"} 100000\n"));
    assert!(many.contains("flujo_cost_usd_total{pipeline=\"review\"} 10\n"));
    let errors: Vec<_> = many
        .lines()
        .filter(|line| line.starts_with("flujo_errors_total{"))
        .collect();
    assert_eq!(errors.len(), 5);
    assert!(errors.iter().all(|line| line.ends_with("\"} 1000")), "{errors:?}");
    assert!(!many.contains("went wrong"));
}

#[test]
fn two_pipelines_of_one_name_stay_apart() {
    let runner = runner();
    let metrics = metrics(&runner);
    metrics.add("review", move || runner.performance_statistics());
    let text = metrics.text();
    let all = series(&text);
    let different: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
    assert!(text.contains("pipeline=\"review-2\""));
}

#[test]
fn the_endpoint_answers_what_it_should_and_a_taken_port_is_said() {
    let endpoint = MetricsEndpoint::serve("127.0.0.1:0", Metrics::default()).unwrap();
    let (status, _) = get(endpoint.address(), "/metrics").unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK");
    let (status, body) = get(endpoint.address(), "/").unwrap();
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("HTTP/1.1 404 Not Found", "see /metrics\n")
    );
    let address = endpoint.address().to_string();
    let error = MetricsEndpoint::serve(&address, Metrics::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains(&address), "{error}");
    drop(endpoint);
    assert!(get(address.parse().unwrap(), "/metrics").is_err());
}

struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn scraping(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 100ms\n  scrape_timeout: 100ms\nscrape_configs:\n- job_name: flujo\n  \
             static_configs:\n  - targets: ['{target}']\n"
        );
        std::fs::write(&config, text).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is there: run scripts/services.sh");
        Self {
            process,
            address,
            _folder: folder,
        }
    }

    /// Asks until the answer is this.
    fn expect(&self, query: &str, value: &str) {
        let deadline = Instant::now() + Duration::from_mins(1);
        let mut last = String::new();
        while Instant::now() < deadline {
            if let Ok((_, body)) = get(self.address, &format!("/api/v1/query?query={query}")) {
                if body.contains(&format!(",\"{value}\"]")) {
                    return;
                }
                last = body;
            }
            std::thread::sleep(Duration::from_millis(50)); // another process, which tells nobody when it is done
        }
        panic!("{query} never was {value}, but {last}");
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_the_endpoint_and_answers_queries() {
    let runner = runner();
    run(&runner, 0..20);
    let endpoint = MetricsEndpoint::serve("127.0.0.1:0", metrics(&runner)).unwrap();
    let prometheus = Prometheus::scraping(endpoint.address());
    prometheus.expect("flujo_runs_total", "20");
    prometheus.expect("up", "1");
    prometheus.expect("sum(flujo_errors_total)", "10");
    prometheus.expect("flujo_step_duration_seconds_count%7Bstep%3D%22ask%22%7D", "20");
    prometheus.expect(
        "count(flujo_step_duration_seconds%7Bquantile%3D%220.99%22%7D)",
        "3",
    );
    run(&runner, 20..30);
    prometheus.expect("flujo_runs_total", "30");
}
