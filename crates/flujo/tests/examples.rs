//! Every example runs; each checks its own results.

macro_rules! run {
    ($($name:ident: $file:literal),* $(,)?) => {$(
        #[path = $file]
        mod $name;
    )*

    mod runs {$(
        #[test]
        fn $name() {
            super::$name::main().unwrap();
        }
    )*}

        const NAMED: &[&str] = &[$($file),*];
    };
}

run! {
    a_life_for_a_construct: "../examples/a_life_for_a_construct.rs",
    agentic: "../examples/agentic.rs",
    asking_people: "../examples/asking_people.rs",
    branching: "../examples/branching.rs",
    caching: "../examples/caching.rs",
    default_pipeline: "../examples/default_pipeline.rs",
    failure_routes: "../examples/failure_routes.rs",
    importing: "../examples/importing.rs",
    invariants: "../examples/invariants.rs",
    looping: "../examples/looping.rs",
    mapping: "../examples/mapping.rs",
    parallel_and_gather: "../examples/parallel_and_gather.rs",
    refining: "../examples/refining.rs",
    routing: "../examples/routing.rs",
    state_machine: "../examples/state_machine.rs",
    streaming: "../examples/streaming.rs",
}

#[test]
fn no_example_is_forgotten() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(files, NAMED.len());
}
