//! Forms of expressions that older versions had and that are written otherwise here.

/// Forms that expressions of Flujo 0.6 could have and that are written otherwise here.
pub(super) fn old_form(text: &str) -> Option<(&'static str, &'static str)> {
    let forms = [
        ("is not None", "write `is not none`"),
        ("is None", "write `is none`"),
        (
            "isinstance(",
            "write a test: `x is string`, `x is number`, `x is mapping`, `x is sequence`",
        ),
        (
            "lambda ",
            "write the condition itself; names are `input`, `context`, `steps`",
        ),
        ("str(", "write a filter: `x | string`"),
        ("int(", "write a filter: `x | int`"),
        ("float(", "write a filter: `x | float`"),
        ("bool(", "write `x` where truth is asked for"),
        ("any(", "write filters: `x | select | list | length > 0`"),
        ("all(", "write filters: `x | reject | list | length == 0`"),
        ("sum(", "write a filter: `x | sum`"),
        ("min(", "write a filter: `x | min`"),
        ("max(", "write a filter: `x | max`"),
        ("sorted(", "write a filter: `x | sort`"),
        ("round(", "write a filter: `x | round`"),
        ("abs(", "write a filter: `x | abs`"),
        ("list(", "write a filter: `x | list`"),
        ("f'", "join with `~`: `'a ' ~ x`"),
        ("f\"", "join with `~`: `'a ' ~ x`"),
        (":=", "write the value where it is used"),
        (
            " for ",
            "write filters: `x | map(attribute='name') | list`, `x | selectattr('name') | list`",
        ),
    ];
    let text = outside_quotes(text);
    forms.into_iter().find(|(form, _)| {
        text.match_indices(form).any(|(place, _)| {
            // `point(` isn't `int(`, and `x | int(0)` is a filter.
            let before = &text[..place];
            let joined = before
                .chars()
                .next_back()
                .is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.');
            let is_name = form.starts_with(|c: char| c.is_alphanumeric());
            !(is_name && joined || before.trim_end().ends_with('|'))
        })
    })
}

/// The text with the contents of its quoted parts blanked out.
fn outside_quotes(text: &str) -> String {
    let mut quote = None;
    text.chars()
        .map(|c| match quote {
            Some(open) if c == open => {
                quote = None;
                c
            }
            Some(_) => ' ',
            None => {
                if c == '"' || c == '\'' {
                    quote = Some(c);
                }
                c
            }
        })
        .collect()
}
