//! What is large is apart, and has its place.

use std::io::Write;

use super::*;

#[test]
fn what_is_small_is_written_as_it_is() {
    let mut parted = Parted::default();
    parted.write_all(b"one").unwrap();
    parted.write_all(&vec![7; LARGE - 1]).unwrap();
    let size = parted.len();
    let (body, blobs) = parted.into_body();
    assert_eq!((body.len(), size), (LARGE + 2, LARGE + 2));
    assert!(blobs.is_empty());
    assert!(referring(&body).is_none());
}

#[test]
fn what_is_large_is_apart_and_has_its_place() {
    let mut parted = Parted::default();
    parted.write_all(b"one ").unwrap();
    parted.write_all(&vec![1; LARGE]).unwrap();
    let mut more = Parted::default();
    more.write_all(&vec![2; LARGE]).unwrap();
    more.write_all(b" two").unwrap();
    parted.append(more);
    assert_eq!(parted.len(), 2 * LARGE + 8);
    let (body, blobs) = parted.into_body();
    assert_eq!(blobs.len(), 2);
    assert_eq!(body.len(), 1 + 4 + 2 * (AT + NAME) + 8);
    let Referring { blobs: places, rest } = referring(&body).unwrap();
    assert_eq!(rest, b"one  two");
    let names: Vec<_> = blobs.iter().map(|blob| (4, blob.id)).collect();
    assert_eq!(places, names);
}

#[test]
fn a_body_that_is_cut_short_or_refers_beyond_its_end_is_none_of_ours() {
    let mut parted = Parted::default();
    parted.write_all(&vec![1; LARGE]).unwrap();
    let (body, _) = parted.into_body();
    for length in 0..body.len() {
        assert!(referring(&body[..length]).is_none(), "{length}");
    }
    let mut beyond = body.to_vec();
    beyond[5] = 9;
    assert!(referring(&beyond).is_none());
}
