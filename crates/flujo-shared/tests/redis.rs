//! Results on a real Redis server.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::net::TcpListener;
use std::time::Duration;

use crate::support::redis_server::RedisProcess;
use crate::support::{HOUR, bytes_of, conforms};
use flujo_core::cache::CacheKey;
use flujo_shared::cache::{RedisStore, ResultStore, StoreError};
use flujo_shared::server::{ServerError, ServerOptions};
use redis::{Client, Connection, cmd};

const KEY: CacheKey = CacheKey(1);

fn store(server: &RedisProcess) -> RedisStore {
    RedisStore::new(&server.address(), patient()).unwrap()
}

/// The machine may be busy with other tests.
fn patient() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.connect_timeout = Duration::from_mins(1);
    options.operation_timeout = Duration::from_mins(1);
    options
}

fn impatient() -> ServerOptions {
    let mut options = patient();
    options.operation_timeout = Duration::from_millis(20);
    options
}

fn administrator(server: &RedisProcess) -> Connection {
    Client::open(server.address()).unwrap().get_connection().unwrap()
}

fn is_unreachable<T: std::fmt::Debug>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unreachable { .. }))
}

#[test]
fn a_redis_server_is_a_store() {
    let server = RedisProcess::start();
    let hour = i64::try_from(HOUR.as_millis()).unwrap();
    conforms(store(&server), |key| {
        let (mut redis, name) = (administrator(&server), format!("flujo:result:{key}"));
        let left: i64 = cmd("PTTL").arg(&name).query(&mut redis).unwrap();
        cmd("PEXPIRE")
            .arg(&name)
            .arg(left - hour)
            .exec(&mut redis)
            .unwrap();
    });
}

#[test]
fn the_server_itself_lets_results_expire() {
    let server = RedisProcess::start();
    store(&server).put(KEY, b"x", Some(HOUR)).unwrap();
    let key = format!("flujo:result:{KEY}");
    let left: i64 = cmd("PTTL").arg(key).query(&mut administrator(&server)).unwrap();
    assert!((1..=3_600_000).contains(&left), "{left}");
}

#[test]
fn clearing_lets_nothing_go_that_others_keep_on_the_server() {
    let server = RedisProcess::start();
    let ours = store(&server).with_prefix("ours[*]:");
    let theirs = store(&server).with_prefix("ours[x]:");
    ours.put(KEY, b"ours", None).unwrap();
    theirs.put(KEY, b"theirs", None).unwrap();
    ours.clear().unwrap();
    assert_eq!(
        (bytes_of(&ours, 1), bytes_of(&theirs, 1)),
        (None, Some(b"theirs".to_vec()))
    );
}

#[test]
fn a_server_that_dies_is_told_of_and_asked_again_when_it_is_back() {
    let mut server = RedisProcess::start();
    let store = store(&server);
    store.put(KEY, b"x", None).unwrap();
    server.kill();
    for _ in 0..3 {
        assert!(is_unreachable(&store.get(KEY)));
        assert!(is_unreachable(&store.put(KEY, b"y", None)));
    }
    server.start_again();
    assert_eq!(store.get(KEY), Ok(None), "it came back empty");
    store.put(KEY, b"z", None).unwrap();
    assert_eq!(bytes_of(&store, 1), Some(b"z".to_vec()));
    // A connection that lies idle while the server dies and comes back is replaced, and nobody is told.
    server.kill();
    server.start_again();
    assert_eq!(store.get(KEY), Ok(None));
}

#[test]
fn a_server_that_was_never_there_is_no_error_until_it_is_asked() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    drop(listener);
    let store = RedisStore::new(&address, patient()).unwrap();
    assert!(is_unreachable(&store.get(KEY)));
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("redis://{}", silent.local_addr().unwrap());
    let mut options = ServerOptions::default();
    options.connect_timeout = Duration::from_millis(20);
    let store = RedisStore::new(&address, options).unwrap();
    assert!(is_unreachable(&store.get(KEY)));
}

#[test]
fn an_answer_that_comes_too_late_is_not_taken_for_the_next_one() {
    let server = RedisProcess::start();
    let patient = store(&server);
    patient.put(KEY, b"one", None).unwrap();
    patient.put(CacheKey(2), b"two", None).unwrap();
    let store = RedisStore::new(&server.address(), impatient()).unwrap();
    // Asked once, so that a connection lies idle; how long that took on a busy machine doesn't matter.
    while store.get(KEY).is_err() {}
    server.stands_still();
    assert!(is_unreachable(&store.get(KEY)));
    server.goes_on();
    let second = std::iter::repeat_with(|| store.get(CacheKey(2))).find_map(Result::ok);
    assert_eq!(&*second.unwrap().unwrap().bytes, b"two");
}

#[test]
fn a_wrong_type_under_a_key_is_a_refusal_and_the_connection_stays_good() {
    let server = RedisProcess::start();
    let store = store(&server);
    let key = format!("flujo:result:{KEY}");
    cmd("LPUSH")
        .arg(key)
        .arg("a list")
        .exec(&mut administrator(&server))
        .unwrap();
    let refused = store.get(KEY).unwrap_err();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    assert_eq!(store.get(CacheKey(2)), Ok(None));
}

#[test]
fn a_full_server_refuses() {
    let server = RedisProcess::with(&["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"]);
    let store = store(&server);
    let put = |key| store.put(CacheKey(key), &vec![0; 100_000], None);
    let refused = (0..20).find_map(|key| put(key).err()).unwrap();
    assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
}

#[test]
fn names_and_passwords_of_an_address_are_never_shown() {
    let server = RedisProcess::with(&["--requirepass", "correct-horse"]);
    let with = |login: &str| {
        let address = server.address().replace("redis://", &format!("redis://{login}@"));
        RedisStore::new(&address, patient()).unwrap()
    };
    let right = with(":correct-horse");
    right.put(KEY, b"x", None).unwrap();
    let wrong = with("somebody:battery-staple");
    let error = wrong.get(KEY).unwrap_err();
    let texts = [
        format!("{right:?} {wrong:?} {} {}", right.address(), wrong.address()),
        format!("{error} {error:?}"),
    ];
    for text in texts {
        for secret in ["correct-horse", "somebody", "battery-staple"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.contains(&server.port().to_string()), "{text}");
    }
}

#[test]
fn a_wrong_address_is_refused_without_being_shown() {
    for address in [
        "",
        "secret",
        "http://user:secret@host",
        "redis://user:secret@host:port",
        "redis://user:secret@host/database",
        "redis://user:secret@host/?protocol=secret",
    ] {
        let error = RedisStore::new(address, patient()).unwrap_err();
        assert!(matches!(error, ServerError::Address { .. }), "{address}: {error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}
