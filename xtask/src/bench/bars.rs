//! Horizontal bars as SVG.

use std::fmt::Write as _;

/// A bar: its name and its value.
pub type Bar<'a> = (&'a str, f64);

/// The lengths of the bars.
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    /// Proportional to their values.
    Linear,
    /// Proportional to the values' logarithms, for values that are far apart.
    Logarithmic,
}

const NAMES: f64 = 300.0;
const LENGTH: f64 = 340.0;
const HEIGHT: f64 = 26.0;
/// Colours of the library's bars and of the others.
const OURS: &str = "#d9822b";
const OTHERS: &str = "#9aa7b5";

/// Bars under a title that names the unit. Bars with `ours` in their names are highlighted.
pub fn svg(title: &str, bars: &[Bar<'_>], scale: Scale, ours: &str) -> String {
    let most = bars.iter().map(|(_, v)| *v).fold(1.0, f64::max);
    let part = |value: f64| match scale {
        Scale::Linear => value / most,
        Scale::Logarithmic => value.max(1.0).log10() / most.log10().max(f64::MIN_POSITIVE),
    };
    let (width, height) = (NAMES + LENGTH + 80.0, HEIGHT * (bars.len() as f64 + 1.6));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#fff\"/>\n"
    );
    for (i, (name, value)) in bars.iter().enumerate() {
        let top = 6.0 + HEIGHT * i as f64;
        let text = top + 14.0;
        let long = part(*value) * LENGTH;
        let colour = if name.contains(ours) { OURS } else { OTHERS };
        let number = if *value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") };
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{text:.0}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{NAMES:.0}\" y=\"{top:.0}\" width=\"{long:.1}\" height=\"20\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{text:.0}\">{number}</text>",
            NAMES - 8.0,
            name.replace('&', "&amp;").replace('<', "&lt;").replace('`', ""),
            NAMES + long + 6.0,
        );
    }
    let note = if scale == Scale::Logarithmic { ", logarithmic" } else { "" };
    let _ = writeln!(out, "<text x=\"{NAMES:.0}\" y=\"{:.0}\">{title}{note}</text>\n</svg>", height - 12.0);
    out
}
