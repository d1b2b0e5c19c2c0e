//! Reading the table `[cost]`, with the place of everything that is wrong.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{PriceFault, Prices};
use crate::chat::Price;

const PROMPT: &str = "prompt_tokens_per_1k";
const COMPLETION: &str = "completion_tokens_per_1k";
const ALLOWED: &str = "a price is a number of US dollars for 1,000 tokens, from 0 to 1,000,000";
const SHAPE: &str = "prices stand in `[cost.providers.<provider>.<model>]`, a name with a dot in quotes";

/// The most that 1,000 tokens may cost, in dollars; far from what can be counted in nano-dollars.
const MOST: f64 = 1e6;

type Table<'t> = DeTable<'t>;
type Key<'t> = Spanned<Cow<'t, str>>;

pub(super) fn parse(text: &str) -> Result<Prices, Vec<PriceFault>> {
    let mut reader = Reader {
        text,
        faults: Vec::new(),
    };
    let mut prices = Prices::default();
    match Table::parse(text) {
        Ok(table) => {
            if let Some((_, cost)) = entry(table.get_ref(), "cost") {
                reader.cost(cost, &mut prices);
            }
        }
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            let message = format!("this isn't TOML: {}", error.message());
            reader.fault(start, message, "correct the file, or remove it");
        }
    }
    if reader.faults.is_empty() {
        return Ok(prices);
    }
    reader.faults.sort_by_key(|fault| (fault.line, fault.column));
    Err(reader.faults)
}

fn entry<'a, 't>(table: &'a Table<'t>, name: &str) -> Option<(&'a Key<'t>, &'a Spanned<DeValue<'t>>)> {
    table.iter().find(|(key, _)| key.get_ref() == name)
}

struct Reader<'t> {
    text: &'t str,
    faults: Vec<PriceFault>,
}

impl Reader<'_> {
    fn fault(&mut self, offset: usize, message: String, hint: &str) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        self.faults.push(PriceFault {
            line: before.matches('\n').count() + 1,
            column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
            message,
            hint: hint.to_owned(),
        });
    }

    /// A value that has to be a table.
    fn table<'a, 't>(
        &mut self,
        path: &str,
        value: &'a Spanned<DeValue<'t>>,
        hint: &str,
    ) -> Option<&'a Table<'t>> {
        if let DeValue::Table(table) = value.get_ref() {
            return Some(table);
        }
        let message = format!("`{path}` is {}, but has to be a table", shown(value.get_ref()));
        self.fault(value.span().start, message, hint);
        None
    }

    fn cost(&mut self, cost: &Spanned<DeValue<'_>>, prices: &mut Prices) {
        let Some(cost) = self.table("cost", cost, SHAPE) else {
            return;
        };
        for (key, value) in cost {
            match (&**key.get_ref(), value.get_ref()) {
                ("strict", DeValue::Boolean(strict)) => prices.strict = *strict,
                ("strict", other) => {
                    let message = format!("`cost.strict` is {}", shown(other));
                    self.fault(value.span().start, message, "it is true or false");
                }
                ("providers", _) => self.providers(value, prices),
                (other, _) => self.fault(
                    key.span().start,
                    format!("there is no key `cost.{other}`"),
                    "known keys: `providers`, `strict`",
                ),
            }
        }
    }

    fn providers(&mut self, value: &Spanned<DeValue<'_>>, prices: &mut Prices) {
        let Some(providers) = self.table("cost.providers", value, SHAPE) else {
            return;
        };
        for (provider, models) in providers {
            let path = format!("cost.providers.{}", provider.get_ref());
            let Some(models) = self.table(&path, models, SHAPE) else {
                continue;
            };
            for (model, value) in models {
                let path = format!("{path}.{}", model.get_ref());
                let Some(table) = self.table(&path, value, SHAPE) else {
                    continue;
                };
                if let Some(price) = self.price(&path, model.span().start, table) {
                    let known = prices.providers.entry(provider.get_ref().to_string());
                    known.or_default().insert(model.get_ref().to_string(), price);
                }
            }
        }
    }

    fn price(&mut self, path: &str, place: usize, table: &Table<'_>) -> Option<Price> {
        for (key, value) in table {
            let key_name: &str = key.get_ref();
            if [PROMPT, COMPLETION].contains(&key_name) {
                continue;
            }
            let message = format!("there is no key `{path}.{key_name}`");
            let hint = if matches!(value.get_ref(), DeValue::Table(_)) {
                SHAPE.to_owned()
            } else {
                format!("known keys: `{PROMPT}`, `{COMPLETION}`")
            };
            self.fault(key.span().start, message, &hint);
        }
        let prompt = self.dollars(path, PROMPT, table);
        let completion = self.dollars(path, COMPLETION, table);
        let missing = match (&prompt, &completion) {
            (Given::Missing, Given::Missing) => Some(format!("`{PROMPT}` and `{COMPLETION}`")),
            (Given::Missing, _) => Some(format!("`{PROMPT}`")),
            (_, Given::Missing) => Some(format!("`{COMPLETION}`")),
            _ => None,
        };
        // A part of a name with a dot that isn't in quotes has been told of already.
        let split = table
            .values()
            .any(|value| matches!(value.get_ref(), DeValue::Table(_)));
        if let Some(missing) = missing.filter(|_| !split) {
            let hint = format!("give both, 0 where it costs nothing: {ALLOWED}");
            self.fault(place, format!("the price `{path}` lacks {missing}"), &hint);
        }
        match (prompt, completion) {
            (Given::Dollars(prompt), Given::Dollars(completion)) => Some(Price {
                prompt_per_million: prompt * 1e3,
                completion_per_million: completion * 1e3,
            }),
            _ => None,
        }
    }

    fn dollars(&mut self, path: &str, name: &str, table: &Table<'_>) -> Given {
        let Some((_, value)) = entry(table, name) else {
            return Given::Missing;
        };
        let number = match value.get_ref() {
            DeValue::Float(number) => number.as_str().replace('_', "").parse::<f64>().ok(),
            DeValue::Integer(number) if number.radix() == 10 => {
                number.as_str().replace('_', "").parse::<f64>().ok()
            }
            _ => None,
        };
        match number {
            Some(number) if (0.0..=MOST).contains(&number) => Given::Dollars(number),
            _ => {
                let message = format!("`{path}.{name}` is {}", shown(value.get_ref()));
                self.fault(value.span().start, message, ALLOWED);
                Given::Unusable
            }
        }
    }
}

enum Given {
    Dollars(f64),
    Unusable,
    Missing,
}

/// A value as it is written, shortened to its kind where it's long.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.len() <= 60 => format!("the text {text:?}"),
        DeValue::String(_) => "a text".to_owned(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
