//! Horizontal bars as SVG.

use std::fmt::Write as _;

/// One bar, in milliseconds.
pub(super) struct Bar {
    pub(super) name: String,
    /// The server's part, which no distance function can avoid.
    pub(super) handing_over: f64,
    pub(super) rest: f64,
}

const NAMES: f64 = 300.0;
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 24.0;
const SERVER: &str = "#9aa7b5";
const REST: &str = "#d9822b";

/// The plot as SVG.
pub(super) fn svg(bars: &[Bar]) -> String {
    let longest = bars.iter().map(|b| b.handing_over + b.rest).fold(1.0, f64::max);
    let (width, height) = (NAMES + WIDTH + 90.0, HEIGHT * (bars.len() as f64 + 1.5));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let mut y = 4.0;
    for bar in bars {
        let (server, rest) = (bar.handing_over / longest * WIDTH, bar.rest / longest * WIDTH);
        let total = bar.handing_over + bar.rest;
        let (text, top, tall) = (y + HEIGHT * 0.65, y + 2.0, HEIGHT - 6.0);
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{text:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{top:.1}\" width=\"{server:.1}\" height=\"{tall}\" fill=\"{SERVER}\"/>\
             <rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{rest:.1}\" height=\"{tall}\" fill=\"{REST}\"/>\
             <text x=\"{:.1}\" y=\"{text:.1}\">{total:.0} ms</text>",
            NAMES - 8.0,
            bar.name,
            NAMES + server,
            NAMES + server + rest + 6.0,
        );
        y += HEIGHT;
    }
    let y = y + HEIGHT * 0.6;
    let _ = writeln!(
        out,
        "<rect x=\"{NAMES}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{SERVER}\"/><text x=\"{}\" y=\"{y:.1}\">the server hands rows over</text>\
         <rect x=\"{}\" y=\"{:.1}\" width=\"12\" height=\"12\" fill=\"{REST}\"/><text x=\"{}\" y=\"{y:.1}\">distances, sorting</text>\n</svg>",
        y - 10.0,
        NAMES + 18.0,
        NAMES + 200.0,
        y - 10.0,
        NAMES + 218.0,
    );
    out
}
