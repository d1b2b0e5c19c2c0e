//! What entries look like when they are written down, now and in earlier versions.

use flujo_core::machine::{Answer, CallId};
use flujo_core::usage::{Cost, Usage};

use super::{Entry, Happened};
use crate::{Raw, RawValue};

/// A step's answer as versions wrote it that left nothing out.
const EARLIER: &[u8] =
    b"\x83\xa7machine\x00\xa4step\xa6step 0\xa8happened\x81\xa8Answered\x84\xa4call\x01\xa6answer\
    \x81\xa5Value\x82\xa5value\xc4\x09\x03\x01\0\0\0\0\0\0\0\xa5usage\x84\xa4cost\0\xa6tokens\0\xa8requests\0\
    \xa8unpriced\xc2\xa6writes\xc0\xa2at\xcd,\x80";

fn answered(machine: u32, usage: Usage, writes: Option<RawValue>) -> Entry<Raw> {
    let value = RawValue::Bytes(b"\x03\x01\0\0\0\0\0\0\0".as_slice().into());
    Entry {
        machine,
        step: Some("step 0".into()),
        happened: Happened::Answered {
            call: CallId(1),
            answer: Answer::Value { value, usage },
            writes,
            at: 11_392,
        },
    }
}

fn written(entry: &Entry<Raw>) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.write(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_earlier_versions_wrote_is_read_and_written_shorter() {
    let [entry] = &Entry::<Raw>::read_all(EARLIER).unwrap()[..] else {
        panic!("one entry was written");
    };
    let same = answered(0, Usage::ZERO, None);
    assert_eq!(format!("{entry:?}"), format!("{same:?}"));
    let short = written(entry);
    assert!(EARLIER.len() > 130 && short.len() < 80, "{} bytes", short.len());
    let again = Entry::<Raw>::read_all(&short).unwrap();
    assert_eq!(format!("{again:?}"), format!("[{same:?}]"));
}

#[test]
fn what_is_something_is_written() {
    let usage = Usage {
        cost: Cost::ZERO,
        tokens: 0,
        requests: 0,
        unpriced: true,
    };
    let writes = RawValue::Bytes(b"writes".as_slice().into());
    for entry in [
        answered(0, usage, None),
        answered(0, Usage::ZERO, Some(writes)),
        answered(7, Usage::ZERO, None),
    ] {
        let again = Entry::<Raw>::read_all(&written(&entry)).unwrap();
        assert_eq!(format!("{again:?}"), format!("[{entry:?}]"));
    }
}
