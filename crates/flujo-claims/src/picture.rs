//! The table as a drawing (SVG).

use std::fmt::Write;

use crate::table::percent;
use crate::{Claim, Host};

const NAME: f64 = 330.0;
const BAR: f64 = 420.0;
const SAID: f64 = 210.0;
const LINE: f64 = 30.0;
const TOP: f64 = 64.0;
const WIDTH: f64 = NAME + BAR + SAID;

/// A bar for each claim: what was earned as a share of the plain twin's figure, its 95 % interval as a line over it, what
/// the seed says as a mark. Larger gains than the width can show end at its edge with their number.
pub fn picture(claims: &[Claim]) -> String {
    let rows = claims.len();
    #[allow(clippy::cast_precision_loss)] // a few rows
    let height = TOP + LINE * rows as f64 + 40.0;
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" role=\"img\" aria-label=\"What each optimisation earns\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"17\" font-weight=\"600\" fill=\"#1a1a1a\">What each optimisation earns against its \
         plain twin</text>\n\
         <text x=\"16\" y=\"46\" fill=\"#666666\">bar: median of the pairs, line: 95 % interval, mark: what the seed says</text>\n",
    );
    for (place, claim) in claims.iter().enumerate() {
        #[allow(clippy::cast_precision_loss)] // a few rows
        row(&mut svg, claim, TOP + LINE * place as f64);
    }
    axis(&mut svg, height);
    svg.push_str("</svg>\n");
    svg
}

/// Where a share lies: up to 1 on the first four fifths, beyond that ever closer to the edge.
fn place(share: f64) -> f64 {
    let share = share.max(0.0);
    let part = if share <= 1.0 {
        share * 0.8
    } else {
        1.0 - 0.2 / share
    };
    NAME + BAR * part
}

fn row(svg: &mut String, claim: &Claim, top: f64) {
    let (color, said) = if claim.holds {
        ("#2e7d4f", "holds")
    } else {
        ("#b3392f", "does not hold")
    };
    let middle = top + LINE / 2.0;
    let host = match claim.host {
        Host::Rust => "Rust",
        Host::Python => "Python",
    };
    let _ = writeln!(
        svg,
        "<text x=\"16\" y=\"{:.1}\" fill=\"#1a1a1a\">{} <tspan fill=\"#888888\">{host}</tspan></text>",
        middle + 4.0,
        escaped(&claim.name),
    );
    let _ = writeln!(
        svg,
        "<rect x=\"{NAME}\" y=\"{:.1}\" width=\"{:.1}\" height=\"16\" fill=\"{color}\" fill-opacity=\"0.8\"/>",
        top + 7.0,
        place(claim.difference) - NAME,
    );
    if let Some(seed) = claim.seed {
        let (low, high) = (place(claim.interval.0), place(claim.interval.1));
        let _ = writeln!(
            svg,
            "<line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\" stroke=\"#1a1a1a\" stroke-width=\"2\"/>"
        );
        let mark = place(seed);
        let _ = writeln!(
            svg,
            "<line x1=\"{mark:.1}\" x2=\"{mark:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#e08a00\" stroke-width=\"3\"/>",
            top + 3.0,
            top + LINE - 3.0,
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{color}\">{}, {said}</text>",
        NAME + BAR + 12.0,
        middle + 4.0,
        percent(claim.difference),
    );
}

fn axis(svg: &mut String, height: f64) {
    for share in [0.0, 0.25, 0.5, 0.75, 1.0, 2.0] {
        let x = place(share);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#888888\">{}</text>",
            height - 36.0,
            height - 18.0,
            percent(share),
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
