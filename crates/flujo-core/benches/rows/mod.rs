//! Rows of a benchmark: a table for people, or with `-- --json` one JSON object a line with `name`, `value`, `unit`,
//! `baseline`, `ratio`, `reach`, `holds`, `against`.

use std::io::Write;

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) baseline: f64,
    pub(crate) reach: &'static str,
    pub(crate) holds: bool,
    pub(crate) against: &'static str,
}

pub(crate) fn print(rows: impl IntoIterator<Item = Row>) -> std::io::Result<()> {
    let json = std::env::args().any(|argument| argument == "--json");
    let mut out = std::io::stdout().lock();
    for row in rows {
        let Row {
            name,
            value,
            unit,
            baseline,
            reach,
            holds,
            against,
        } = row;
        let ratio = value / baseline;
        if json {
            writeln!(
                out,
                "{{\"name\": \"{name}\", \"value\": {value:.1}, \"unit\": \"{unit}\", \"baseline\": {baseline:.1}, \
                 \"ratio\": {ratio:.2}, \"reach\": \"{reach}\", \"holds\": {holds}, \"against\": \"{against}\"}}"
            )?;
        } else {
            let holds = if holds { "holds" } else { "DOES NOT HOLD" };
            writeln!(
                out,
                "{name:56} {value:8.1} {unit}  baseline {baseline:8.1}  {ratio:6.2} x  {reach}: {holds}"
            )?;
        }
    }
    Ok(())
}
