//! The page of each rule says what it should, and its examples are what they claim to be.

use flujo_blueprint::{Blueprint, Rule, Source};

/// The rules that a blueprint broken as the page's first example breaks.
fn broken(text: &str) -> Vec<Rule> {
    match Blueprint::parse(&Source::new("page.yaml", text)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.into_iter().map(|problem| problem.rule).collect(),
    }
}

#[test]
fn every_page_has_its_rule_as_title_and_says_something() {
    for rule in Rule::ALL {
        let page = rule.explanation();
        assert!(page.starts_with(&format!("# {rule}: ")), "{rule}");
        assert!(page.len() > 120, "{rule}");
        assert_eq!(Rule::find(&rule.id().to_lowercase()), Some(*rule));
    }
}

#[test]
fn what_a_page_calls_wrong_breaks_exactly_that_rule_and_what_it_calls_right_breaks_none() {
    let mut pages = 0;
    for rule in Rule::ALL {
        let mut examples = rule.explanation().split("```yaml\n").skip(1);
        let mut next = || examples.next().and_then(|rest| rest.split("```").next());
        let (Some(wrong), Some(right)) = (next(), next()) else {
            continue;
        };
        assert_eq!(broken(wrong), [*rule], "wrong example of {rule}");
        assert_eq!(broken(right), [], "right example of {rule}");
        pages += 1;
    }
    assert!(pages >= 20, "only {pages} pages have examples");
}
