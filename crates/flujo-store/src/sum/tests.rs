//! A sum fits one body at one place.

use super::{Kind, earlier, fits, fits_numbered, numbered, of};

#[test]
fn a_sum_fits_what_it_was_made_of_alone() {
    for body in [&b""[..], b"a", &[7; 300], &vec![7; 100_000]] {
        let sum = of(Kind::Blob, "run", b"place", body);
        let fitting = |kind, run, place: &[u8], body: &[u8]| fits(sum, kind, run, place, body);
        assert!(fitting(Kind::Blob, "run", b"place", body));
        assert!(!fitting(Kind::Record, "run", b"place", body));
        assert!(!fitting(Kind::Blob, "other", b"place", body));
        // The same bytes, divided otherwise.
        assert!(!fitting(Kind::Blob, "runp", b"lace", body));
        assert!(!fitting(Kind::Blob, "run", b"plac", &[b"e", body].concat()));
        for at in [0, body.len() / 2, body.len().saturating_sub(1)] {
            let mut damaged = body.to_vec();
            if let Some(byte) = damaged.get_mut(at) {
                *byte ^= 1;
                assert!(!fitting(Kind::Blob, "run", b"place", &damaged));
            }
        }
        assert!(!fitting(Kind::Blob, "run", b"place", &[body, b"x"].concat()));
    }
    let first = numbered(Kind::Record, "run", 1, b"body");
    assert!(fits_numbered(first, Kind::Record, "run", 1, b"body"));
    assert!(!fits_numbered(first, Kind::Record, "run", 2, b"body"));
}

/// They are in files.
#[test]
fn sums_stay_what_they_are() {
    assert_eq!(of(Kind::Record, "run", b"place", b"body"), XXH3);
    let sum = earlier(Kind::Record, "run", b"place", b"body");
    assert_eq!(sum, BLAKE3);
    assert!(fits(sum, Kind::Record, "run", b"place", b"body"));
    assert!(!fits(sum, Kind::Record, "run", b"place", b"bodx"));
}

const XXH3: i64 = 8_730_133_688_457_819_710;
const BLAKE3: i64 = -5_524_276_794_283_440_931;
