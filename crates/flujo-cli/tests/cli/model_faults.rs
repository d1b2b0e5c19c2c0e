//! A model server that is down, slow, answers garbage or far too much; and one that works, with its usage.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use crate::context::{TestContext, assert_said};

/// Answers every request the same way, on a thread that lives as long as the test.
pub(crate) fn server(answer: impl Fn(&mut dyn Write) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 8192];
            let _ = stream.read(&mut request);
            answer(&mut stream);
            open.push(stream); // a closed connection would be an answer as well
        }
    });
    address
}

fn blueprint(address: SocketAddr, more: &str) -> String {
    format!(
        "usage_limits: {{total_tokens_limit: 100}}
steps:
  - name: ask
    agent: {{type: chat, base_url: 'http://user:secret@{address}/v1', model: tiny{more}}}
    config: {{max_retries: 0}}
"
    )
}

pub(crate) fn reply(stream: &mut dyn Write, body: &str) {
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

pub(crate) const ANSWER: &str = r#"{"model": "tiny", "choices": [{"message": {"role": "assistant", "content": "blue"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 70, "completion_tokens": 20}}"#;

#[test]
fn a_server_that_is_down_is_named() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let context = TestContext::new();
    context.file("ask.yaml", blueprint(address, ""));
    let said = context.run("run ask.yaml --input why");
    assert!(!said.stderr.contains("secret"), "{}", said.stderr);
    assert_said!(said);
}

#[test]
fn a_server_that_is_slow_is_given_up() {
    let address = server(|_| {});
    let context = TestContext::new();
    context.file("ask.yaml", blueprint(address, ", timeout_s: 0.2"));
    assert_said!(context.run("run ask.yaml --input why"));
}

#[test]
fn a_server_that_answers_garbage_is_named() {
    let address = server(|stream| reply(stream, "<html>hello</html>"));
    let context = TestContext::new();
    context.file("ask.yaml", blueprint(address, ""));
    assert_said!(context.run("run ask.yaml --input why"));
}

#[test]
fn an_answer_of_50_mb_is_cut_off_at_its_bound() {
    let address = server(|stream| {
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
        );
        let block = vec![b' '; 1 << 20];
        for _ in 0..50 {
            if stream.write_all(&block).is_err() {
                return;
            }
        }
    });
    let context = TestContext::new();
    context.file("ask.yaml", blueprint(address, ""));
    assert_said!(context.run("run ask.yaml --input why"));
}

#[test]
fn tokens_and_cost_are_in_the_tree() {
    let address = server(|stream| reply(stream, ANSWER));
    let context = TestContext::new();
    let price = ", price: {prompt_per_million: 100, completion_per_million: 200}";
    context.file("ask.yaml", blueprint(address, price));
    assert_said!(context.run("run ask.yaml --input why --progress none"));
}

#[test]
fn a_limit_that_is_passed_ends_the_run_with_code_4() {
    let address = server(|stream| reply(stream, ANSWER));
    let context = TestContext::new();
    context.file("ask.yaml", blueprint(address, ""));
    assert_eq!(
        context.run("run ask.yaml --input why --max-tokens 90 -q").code,
        Some(0)
    );
    assert_said!(context.run("run ask.yaml --input why --max-tokens 89 --progress none"));
}

#[test]
fn p32_a_model_costs_what_the_nearest_settings_file_says_and_one_without_a_price_is_refused() {
    let address = server(|stream| reply(stream, ANSWER));
    let context = TestContext::new();
    let prices = |model: &str| {
        format!("[cost.providers.own.{model}]\nprompt_tokens_per_1k = 0.1\ncompletion_tokens_per_1k = 0.2\n")
    };
    let limited = blueprint(address, "").replace("total_tokens_limit: 100", "total_cost_usd_limit: 1");
    context
        .file("ask.yaml", limited)
        .file("flujo.toml", prices("tiny"));
    let said = context.run("run ask.yaml --input why --progress none");
    assert!(
        said.code == Some(0) && said.stderr.contains("$0.011"),
        "{:?} {}",
        said.code,
        said.stderr
    );
    context.file("flujo.toml", prices("other"));
    let said = context.run("run ask.yaml --input why --progress none");
    assert!(
        said.code == Some(2) && said.stderr.contains("add `[cost.providers.<provider>.<model>]`"),
        "{}",
        said.stderr
    );
    context.file("ask.yaml", blueprint(address, ""));
    assert_eq!(context.run("run ask.yaml --input why -q").code, Some(0));
    context.file(
        "flujo.toml",
        format!("[cost]\nstrict = true\n{}", prices("other")),
    );
    let said = context.run("run ask.yaml --input why -q");
    assert!(
        said.code == Some(2) && said.stderr.contains("strict = true"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_limit_of_one_step_ends_the_run_and_a_limit_of_cost_needs_a_price() {
    let address = server(|stream| reply(stream, ANSWER));
    let context = TestContext::new();
    let limited = |limit: &str| blueprint(address, "") + &format!("    usage_limits: {{{limit}}}\n");
    context.file("ask.yaml", limited("total_tokens_limit: 89"));
    assert_eq!(context.run("run ask.yaml --input why -q").code, Some(4));
    context.file("ask.yaml", limited("total_tokens_limit: 90"));
    assert_eq!(context.run("run ask.yaml --input why -q").code, Some(0));
    context.file("ask.yaml", limited("total_cost_usd_limit: 1"));
    let said = context.run("validate ask.yaml");
    assert!(
        said.code == Some(2) && said.stderr.contains("the agent has no price"),
        "{}",
        said.stderr
    );
    context.file("ask.yaml", blueprint(address, ""));
    let said = context.run("run ask.yaml --input why --max-cost-usd 1 --progress none");
    assert!(
        said.code == Some(1) && said.stderr.contains("step `ask` uses a model without a price"),
        "{}",
        said.stderr
    );
}
