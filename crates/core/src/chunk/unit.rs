//! What a chunk's size counts.

use mysql_ml_base::error::Result;

/// The unit of a chunk's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Characters, which are Unicode code points.
    Characters,
    /// Words by Unicode's rules, those with a letter or digit.
    Words,
    /// Sentences by Unicode's rules. Chunks end behind sentences only.
    Sentences,
    /// Characters. Borders are those of Markdown blocks, and a heading begins a chunk.
    Markdown,
    /// Tokens of a model.
    Tokens,
}

/// A model's tokenizer.
pub trait Tokens {
    /// The ends of a text's tokens, in bytes, ascending.
    fn ends(&self, text: &str) -> Result<Vec<usize>>;

    /// The number of tokens that the model reads for a text, with those that it adds.
    fn count(&self, text: &str) -> Result<usize>;
}
