//! The lines of the table that is printed.

use super::timing::Times;

/// A line of the table.
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// neftpipe's figure.
    pub here: String,
    /// The figure of what is compared with, where there is one.
    pub beside: Option<String>,
    /// The first over the second.
    pub ratio: Option<f64>,
    /// The target.
    pub wanted: &'static str,
}

impl Figure {
    /// As a row of Markdown.
    pub fn row(&self) -> String {
        let ratio = self.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let beside = self.beside.as_deref().unwrap_or("–");
        format!("| {} | {} | {beside} | {ratio} | {} |", self.what, self.here, self.wanted)
    }
}

/// A figure by itself.
pub fn plain(what: &str, here: String, wanted: &'static str) -> Figure {
    Figure { what: what.to_owned(), here, beside: None, ratio: None, wanted }
}

/// Tokens a second of ours, and of transformers.
pub fn rates(what: &str, own: &Times, other: &Times, wanted: &'static str) -> Figure {
    compared(what, own, other, "tokens/s", wanted)
}

/// A figure of ours beside that of transformers, where there is one.
pub fn compared(what: &str, own: &Times, other: &Times, unit: &str, wanted: &'static str) -> Figure {
    let there = !other.is_empty();
    let beside = there.then(|| format!("transformers: {}", other.spread(0, unit)));
    Figure { beside, ratio: there.then(|| own.over(other)), ..plain(what, own.spread(0, unit), wanted) }
}

/// A share of what the machine can do, where that is known.
pub fn share(what: &str, shares: &Times, wanted: &'static str) -> Option<Figure> {
    (!shares.is_empty()).then(|| plain(what, format!("{:.0}%", shares.median() * 100.0), wanted))
}
