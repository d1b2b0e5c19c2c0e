//! Writing to the two streams. A reader that has gone away is no error; panics become one plain sentence.

use std::io::Write;

/// One or more lines for people, to standard error.
pub(crate) fn note(text: &str) {
    let mut stream = std::io::stderr().lock();
    let _ = stream.write_all(text.as_bytes()).and_then(|()| {
        if text.ends_with('\n') {
            Ok(())
        } else {
            stream.write_all(b"\n")
        }
    });
}

/// A prompt on a line of its own, to standard error.
pub(crate) fn prompt(text: &str) {
    let mut stream = std::io::stderr().lock();
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

/// Data, to standard output.
pub(crate) fn data(bytes: &[u8]) {
    let mut stream = std::io::stdout().lock();
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
}

/// Text as data, with a line break at its end.
pub(crate) fn data_line(text: &str) {
    let mut bytes = text.as_bytes().to_vec();
    if bytes.last() != Some(&b'\n') {
        bytes.push(b'\n');
    }
    data(&bytes);
}

/// A name or message on one line, without characters that a terminal would obey.
pub(crate) fn one_line(text: &str) -> String {
    let shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    shown
        .split(' ')
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Without `--debug`, a panic is one line that says what to do instead of a trace.
pub(crate) fn explain_panics(debug: bool) {
    if debug {
        return;
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(|place| format!(" at {}:{}", place.file(), place.line()));
        note(&format!(
            "internal error{}; run again with --debug, and report what it says",
            place.unwrap_or_default()
        ));
    }));
}
