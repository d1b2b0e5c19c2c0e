//! What of a context has been read.

use super::*;
use crate::value::Value;

fn fields(names: &[&str]) -> ReadSet {
    ReadSet::Fields(names.iter().map(|name| Arc::from(*name)).collect())
}

fn context() -> Context {
    let mut context = Context::new();
    context.set("a", Value::Int(1));
    context.set("b", Value::map([("c", Value::Int(2))]));
    context
}

#[test]
fn what_is_read_or_written_of_a_watched_context_and_its_forks_is_noted_and_nothing_else() {
    let context = context();
    let (mut watched, reads) = context.watched();
    assert_eq!(reads.seen(), fields(&[]));
    assert_eq!(context.get("a"), Some(&Value::Int(1)));
    watched.set("d", Value::Null);
    watched.set_path("b.e", Value::Null).unwrap();
    assert!(!watched.same(&context) && !watched.has_fields_of(&context));
    assert_eq!(
        reads.seen(),
        fields(&["b", "d"]),
        "what a write changes depends on what was there"
    );
    let fork = watched.clone();
    assert_eq!(fork.get("nothing"), None);
    assert_eq!(fork.get_path("b.c"), Some(&Value::Int(2)));
    assert_eq!(reads.seen(), fields(&["b", "d", "nothing"]));
    assert_eq!(fork.iter().count(), 3);
    assert_eq!(reads.seen(), ReadSet::Whole);
}

#[test]
fn who_watches_around_is_told_too_and_a_context_that_takes_over_watches_as_before() {
    let (outer, around) = context().watched();
    let (inner, reads) = outer.watched();
    inner.get("a");
    assert_eq!((reads.seen(), around.seen()), (fields(&["a"]), fields(&["a"])));
    let mut base = outer.clone();
    base.take_over(inner);
    base.get("b");
    assert_eq!(
        (reads.seen(), around.seen()),
        (fields(&["a"]), fields(&["a", "b"]))
    );
}

#[test]
fn fields_have_digests_by_path_and_content() {
    let context = context();
    let mut other = context.clone();
    other.set("a", Value::Float(1.0));
    assert_ne!(context.digest("a"), other.digest("a"));
    assert_eq!(context.digest("b.c"), CacheKey::of(&Value::Int(2)).ok());
    assert_eq!(context.digest("no"), other.digest("b.no"));
    assert_ne!(context.digest("no"), CacheKey::of(&Value::Null).ok());
    assert_ne!(context.whole(), other.whole());
    other.set("a", Value::Int(1));
    assert_eq!(context.whole(), other.whole());
    other.set("a", Value::opaque(1_u8));
    assert_eq!((other.digest("a"), other.whole()), (None, None));
}
