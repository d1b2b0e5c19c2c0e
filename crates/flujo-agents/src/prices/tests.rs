//! What is a price, and what is said of what is none.

use std::path::Path;

use super::{Prices, PricesError};
use crate::chat::{Chat, Price};
use flujo_core::agent::{Agent, Pricing};

fn parse(text: &str) -> Result<Prices, PricesError> {
    Prices::parse(Path::new("flujo.toml"), text)
}

fn said(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

const TWO: &str = "
max_tokens = 5
[cost.providers.openai.gpt-4o]
prompt_tokens_per_1k = 0.0025
completion_tokens_per_1k = 0.01
[cost.providers.local.\"small:8b\"]
prompt_tokens_per_1k = 0
completion_tokens_per_1k = 0
";

#[test]
fn p32_a_price_is_found_by_provider_and_model() {
    let prices = parse(TWO).unwrap();
    let gpt = Price {
        prompt_per_million: 2.5,
        completion_per_million: 10.0,
    };
    for (provider, model) in [
        (Some("openai"), "gpt-4o"),
        (None, "gpt-4o"),
        (None, "openai:gpt-4o"),
    ] {
        assert_eq!(prices.of(provider, model), Some(gpt), "{provider:?} {model}");
    }
    assert_eq!(gpt.cost(1_000, 100).unwrap().nanos(), 3_500_000);
    assert_eq!(gpt.cost(1, 1).unwrap().nanos(), 12_500);
}

#[test]
fn p32_a_price_of_zero_is_known_and_one_that_is_not_there_is_unknown() {
    let prices = parse(TWO).unwrap();
    let free = prices.of(None, "small:8b").unwrap();
    assert_eq!(free.cost(1_000, 1_000).unwrap().nanos(), 0);
    assert_eq!(prices.of(None, "gpt-5"), None);
    assert_eq!(prices.of(Some("azure"), "gpt-4o"), None);
    let chat = |model| {
        let builder = Chat::builder("http://localhost/v1", model).prices(&prices);
        builder.build().unwrap().pricing()
    };
    assert_eq!(chat("small:8b"), Pricing::Known);
    assert_eq!(chat("gpt-5"), Pricing::Unknown);
}

#[test]
fn of_two_providers_with_different_prices_one_has_to_be_named() {
    let text = TWO.replace("local.\"small:8b\"", "azure.gpt-4o");
    let prices = parse(&text).unwrap();
    assert_eq!(prices.of(None, "gpt-4o"), None);
    assert_eq!(
        prices
            .of(Some("azure"), "gpt-4o")
            .unwrap()
            .cost(9, 9)
            .unwrap()
            .nanos(),
        0
    );
    let builder = Chat::builder("http://localhost/v1", "gpt-4o").prices(&prices);
    let chat = builder.provider("azure").build().unwrap();
    assert_eq!(chat.pricing(), Pricing::Known);
}

#[test]
fn p32_what_is_no_price_is_refused_with_its_line_key_value_and_what_is_allowed() {
    for (value, shown) in [
        ("-0.1", "-0.1"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("1e300", "1e300"),
        ("\"0.1\"", "the text \"0.1\""),
        ("true", "true"),
        ("[1]", "a list"),
        ("0x10", "0x10"),
    ] {
        let text = format!(
            "[cost.providers.openai.gpt-4o]\nprompt_tokens_per_1k = 0.1\ncompletion_tokens_per_1k = {value}\n"
        );
        let expected = format!(
            "flujo.toml:3: `cost.providers.openai.gpt-4o.completion_tokens_per_1k` is {shown}; a price is a number of US \
             dollars for 1,000 tokens, from 0 to 1,000,000"
        );
        assert_eq!(said(&text), expected);
    }
}

#[test]
fn p32_a_price_with_a_hole_is_refused() {
    assert_eq!(
        said("\n[cost.providers.openai.gpt-4o]\nprompt_tokens_per_1k = 0.1\n"),
        "flujo.toml:2: the price `cost.providers.openai.gpt-4o` lacks `completion_tokens_per_1k`; give both, 0 where it \
         costs nothing: a price is a number of US dollars for 1,000 tokens, from 0 to 1,000,000"
    );
    assert!(said("[cost.providers.openai.gpt-4o]\n").contains("lacks `prompt_tokens_per_1k` and"));
}

#[test]
fn a_table_of_another_shape_is_refused_all_at_once_in_the_order_of_lines() {
    let said = said(
        "[cost]\nstrict = 1\ncurrency = 'EUR'\n[cost.providers]\nopenai = 3\n[cost.providers.a.gpt-4.1]\n\
         prompt_tokens_per_1k = 1\ncompletion_tokens_per_1k = 1\n",
    );
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert!(
        lines[0].starts_with("flujo.toml:2: `cost.strict` is 1;"),
        "{said}"
    );
    assert!(
        lines[1].starts_with("flujo.toml:3: there is no key `cost.currency`;"),
        "{said}"
    );
    assert!(
        lines[2].starts_with("flujo.toml:5: `cost.providers.openai` is 3,"),
        "{said}"
    );
    assert!(
        lines[3].starts_with("flujo.toml:6: there is no key `cost.providers.a.gpt-4.1`"),
        "{said}"
    );
    assert!(lines[3].ends_with("a name with a dot in quotes"), "{said}");
}

#[test]
fn the_nearest_file_holds_and_what_else_is_in_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("a/b");
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::write(folder.path().join("flujo.toml"), TWO).unwrap();
    assert!(Prices::nearest(&inner).unwrap().of(None, "gpt-4o").is_some());
    std::fs::write(folder.path().join("a/flujo.toml"), "anything = 1\n").unwrap();
    assert!(Prices::nearest(&inner).unwrap().is_empty());
    std::fs::write(inner.join("flujo.toml"), "= 1\n").unwrap();
    let said = Prices::nearest(&inner).unwrap_err().to_string();
    assert!(said.contains("flujo.toml:1: this isn't TOML"), "{said}");
    std::fs::write(inner.join("flujo.toml"), [0xff, 0xfe]).unwrap();
    let said = Prices::nearest(&inner).unwrap_err().to_string();
    assert!(said.contains("can't be read"), "{said}");
}
