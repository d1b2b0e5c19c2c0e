//! What the HTTP agent promises, against a real server with every fault.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking, also in what several tests share

use std::time::Duration;

use crate::loopback::{Reply, Server, nowhere, reply, run};
use flujo_agents::http::{Format, HttpConfig};
use flujo_core::agent::Retry;
use flujo_core::value::Value;

fn config(url: &str) -> HttpConfig {
    HttpConfig::get(format!("{url}/items"))
}

#[tokio::test]
async fn a_request_is_made_from_templates_and_the_reply_is_the_output() {
    let server = Server::start([reply("200 OK", &[], r#"{"found": [1, 2]}"#)]).await;
    let mut config = HttpConfig::get(format!(
        "{}/search?q={{{{ input.word | urlencode }}}}",
        server.url
    ));
    config.method = "post".into();
    config.headers.insert("X-Word".into(), "{{ input.word }}".into());
    config.body = Some("{{ input | tojson }}".into());
    config.response = Format::Json;
    let output = run(
        &config.build().unwrap(),
        Value::map([("word", Value::from("a b"))]),
    )
    .await
    .unwrap();

    assert_eq!(
        output.value.get("found"),
        Some(&Value::list([Value::Int(1), Value::Int(2)]))
    );
    assert_eq!(output.usage.requests, 1);
    let request = server.request(0);
    assert!(
        request.starts_with("POST /search?q=a%20b HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("x-word: a b\r\n"), "{request}");
    assert!(request.ends_with(r#"{"word": "a b"}"#), "{request}");
}

#[tokio::test]
async fn a_server_that_is_down_is_named_with_the_cause_and_without_credentials() {
    let url = nowhere().await.replace("http://", "http://ada:geheim@");
    let error = run(&config(&format!("{url}/a?token=geheim#")).build().unwrap(), ())
        .await
        .unwrap_err();
    assert!(
        error.message.contains("can't connect to http://127.0.0.1:"),
        "{error}"
    );
    assert!(error.message.to_lowercase().contains("refused"), "{error}");
    assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
    assert_eq!(error.retry, Retry::Allowed);
    assert_eq!(error.usage.requests, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up_at_the_time_limit() {
    let server = Server::start([Reply::Stall(Vec::new())]).await;
    let mut config = config(&server.url);
    config.timeout_s = 30.0;
    let error = run(&config.build().unwrap(), ()).await.unwrap_err();
    assert!(error.message.contains("within 30 s"), "{error}");
    assert_eq!(error.retry, Retry::Allowed);
    assert_eq!(error.usage.requests, 1);
}

#[tokio::test]
async fn overload_may_be_tried_again_after_the_time_the_server_asks_for() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let server = Server::start([reply(status, &["Retry-After: 7"], "")]).await;
        let error = run(&config(&server.url).build().unwrap(), ()).await.unwrap_err();
        assert_eq!(error.retry, Retry::After(Duration::from_secs(7)));
        assert!(error.message.contains("wait 7 s"), "{error}");
        assert_eq!(error.usage.requests, 1);
    }
}

#[tokio::test]
async fn a_request_that_is_wrong_is_not_tried_again_and_the_servers_reason_is_shown() {
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
    ] {
        let body = r#"{"error": {"message": "the tenant is unknown"}}"#;
        let server = Server::start([reply(status, &[], body)]).await;
        let error = run(&config(&server.url).build().unwrap(), ()).await.unwrap_err();
        assert_eq!(error.retry, Retry::Never, "{status}");
        assert!(
            error.message.contains(&status[..3]) && error.message.contains("the tenant is unknown"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_reply_larger_than_the_bound_is_an_error_whether_announced_or_not() {
    let announced = Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n".to_vec());
    let endless = Reply::Endless(
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(),
        vec![b'x'; 64 * 1024],
    );
    let server = Server::start([announced, endless]).await;
    let mut config = config(&server.url);
    config.max_response_bytes = 1_000_000;
    let agent = config.build().unwrap();
    for _ in 0..2 {
        let error = run(&agent, ()).await.unwrap_err();
        assert!(error.message.contains("larger than 1000000 bytes"), "{error}");
        assert!(error.message.contains("max_response_bytes"), "{error}");
        assert_eq!(error.retry, Retry::Never);
    }
}

#[tokio::test]
async fn a_reply_that_is_not_text_is_an_error_unless_bytes_are_asked_for() {
    let body = || {
        Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n\xff\xfe".to_vec())
    };
    let server = Server::start([body(), body()]).await;
    let mut config = config(&server.url);
    let error = run(&config.build().unwrap(), ()).await.unwrap_err();
    assert!(
        error.message.contains("isn't UTF-8 text") && error.message.contains("bytes"),
        "{error}"
    );
    config.response = Format::Bytes;
    let output = run(&config.build().unwrap(), ()).await.unwrap();
    assert_eq!(output.value, Value::Bytes([0xff, 0xfe].into()));
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let server = Server::start([reply(
        "302 Found",
        &["Location: http://localhost:1/elsewhere"],
        "",
    )])
    .await;
    let error = run(&config(&server.url).build().unwrap(), ()).await.unwrap_err();
    assert!(error.message.contains("redirects to another host"), "{error}");
    assert_eq!(error.retry, Retry::Never);
}

#[tokio::test]
async fn the_idempotency_key_goes_into_the_header_that_is_named() {
    let server = Server::start([reply("200 OK", &[], "done")]).await;
    let mut config = config(&server.url);
    config.idempotency_header = Some("Idempotency-Key".into());
    let agent = config.build().unwrap();
    let request = flujo_core::agent::AgentRequest {
        idempotency_key: "run-1/pay".into(),
        ..Default::default()
    };
    flujo_core::agent::Agent::run(&agent, request).await.unwrap();
    assert!(server.request(0).contains("idempotency-key: run-1/pay\r\n"));
}

#[test]
fn settings_that_cannot_work_are_refused_before_anything_is_sent() {
    let refused = |change: &dyn Fn(&mut HttpConfig)| {
        let mut config = HttpConfig::get("http://localhost/");
        change(&mut config);
        config.build().unwrap_err().to_string()
    };
    assert!(refused(&|c| c.url = "ftp://host/".into()).contains("`url`: must start with `http://`"));
    assert!(refused(&|c| c.method = "GE T".into()).contains("`method`"));
    assert!(
        refused(&|c| c.timeout_s = -1.0).contains("`timeout_s`: must be a number of seconds greater than 0")
    );
    assert!(refused(&|c| c.timeout_s = f64::NAN).contains("`timeout_s`"));
    assert!(refused(&|c| c.body = Some("{{ oops".into())).contains("`body`"));
    let unset = refused(&|c| c.api_key_env = Some("FLUJO_TEST_VARIABLE_THAT_IS_NOT_SET".into()));
    assert!(
        unset.contains("`FLUJO_TEST_VARIABLE_THAT_IS_NOT_SET` isn't set"),
        "{unset}"
    );
}
