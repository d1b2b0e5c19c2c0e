//! Scopes as they are declared.

use super::*;

#[test]
fn a_scope_names_fields_and_resources_and_refuses_anything_else() {
    let scope = CacheScope::declared(["context.user.language", "resources.prices"]).unwrap();
    let (fields, resources) = (vec![Arc::from("user.language")], vec![Arc::from("prices")]);
    assert_eq!(scope, CacheScope::Declared { fields, resources });
    for name in ["", "user", "context", "context.", "context..a", "other.a"] {
        assert_eq!(CacheScope::declared([name]).unwrap_err().name, name);
    }
    assert_eq!(CacheScope::named("input"), Ok(CacheScope::Input));
    assert!(
        CacheScope::named("context.a")
            .unwrap_err()
            .to_string()
            .contains("`context.a`")
    );
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Uncached::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Uncached::ALL.len());
}
