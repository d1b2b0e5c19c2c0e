//! Pipelines that don't fit together are refused by the compiler, in words.

#[test]
fn mismatches_are_compile_errors_that_say_what_does_not_fit() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
