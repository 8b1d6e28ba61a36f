//! Texts cut into chunks, for search.
//!
//! A text is read as pieces: words, or the parts of a very long word, or sentences. Each has a weight in the unit of the
//! chunk's size, and a border behind it. A chunk takes the pieces that fit, and ends at the strongest border in its second
//! half. Time is linear in the text's length, and only the pieces of one chunk are in memory.

mod markdown;
mod pieces;
mod unit;

use std::collections::VecDeque;
use std::ops::Range;

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::memory::{Held, Reservation};

pub use self::pieces::BYTES_A_TOKEN;
use self::pieces::{Border, Piece, Pieces};
pub use self::unit::{By, Tokens};

/// The version of the rules by which texts are cut. It changes when equal texts and options give other chunks.
pub const RULES: u64 = 1;

/// How a text is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The unit of the two numbers.
    pub by: By,
    /// The most units of a chunk, at least 1.
    pub size: usize,
    /// The most units that a chunk repeats of the one before it, at most half of `size`.
    pub overlap: usize,
}

/// The largest size of a chunk in most units, and in tokens.
const MAX_SIZE: usize = 100_000;
const MAX_TOKENS: usize = 8192;

impl Rule {
    /// A rule within its bounds.
    ///
    /// # Errors
    ///
    /// A size or an overlap that is out of bounds.
    pub fn new(by: By, size: usize, overlap: usize) -> Result<Self> {
        let most = if by == By::Tokens { MAX_TOKENS } else { MAX_SIZE };
        if size == 0 || size > most {
            return Err(Error::invalid(format!("option size is {size}; give a number from 1 to {most}")));
        }
        let half = size / 2;
        if overlap > half {
            return Err(Error::invalid(format!(
                "option overlap is {overlap}; give a number from 0 to {half}, which is half of the size"
            )));
        }
        Ok(Rule { by, size, overlap })
    }
}

/// A chunk of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its place in the text, in bytes.
    pub bytes: Range<usize>,
    /// The place of its first character, counted from 1.
    pub start: usize,
    /// The number of its characters.
    pub length: usize,
}

/// Bytes of a chunk's JSON beside its text, at least.
const BESIDE: usize = 34;

/// The chunks of a text, in order, without white space at their ends. Nothing but white space lies between them. A text
/// of white space has none.
///
/// `tokens` is for [`By::Tokens`]. `largest`: the most bytes of the chunks as JSON. `check` ends a call that was killed.
///
/// # Errors
///
/// Those of `tokens` and `check`; memory; chunks beyond `largest`.
pub fn chunks(
    text: &str,
    rule: Rule,
    tokens: Option<&dyn Tokens>,
    largest: usize,
    check: &dyn Fn() -> Result<()>,
) -> Result<Held<Vec<Chunk>>> {
    let borders = match rule.by {
        By::Markdown => Some(markdown::borders(text, check)?),
        _ => None,
    };
    // The size without what a model adds to every text.
    let size = match tokens {
        Some(tokens) => {
            let added = tokens.count("")?;
            rule.size.checked_sub(added).filter(|size| *size > 0).ok_or_else(|| {
                Error::invalid(format!(
                    "option size is {}, and the model adds {added} tokens to every text; give a larger one",
                    rule.size
                ))
            })?
        }
        None => rule.size,
    };
    let mut cutter = Cutter {
        text,
        rule: Rule { size, overlap: rule.overlap.min(size / 2), ..rule },
        tokens: tokens.map(|tokens| (tokens, rule.size)),
        pieces: Pieces::new(text, rule.by, size, tokens, borders),
        check,
        buffer: VecDeque::new(),
        weight: 0,
        trailing: 0,
        begin: 0,
        chars: 0,
        passed: 0,
        share: Reservation::default(),
    };
    let (mut chunks, mut share) = (Vec::new(), Reservation::default());
    let mut bytes = 2_usize;
    while let Some(chunk) = cutter.next()? {
        bytes = bytes.saturating_add(chunk.bytes.len()).saturating_add(BESIDE);
        if bytes > largest {
            return Err(Error::result_too_large(&format!("the result would have {bytes} bytes or more"), largest));
        }
        if chunks.len() == chunks.capacity() {
            share.spend(chunks.capacity().max(8) * size_of::<Chunk>(), "the chunks")?;
        }
        chunks.push(chunk);
    }
    Ok(Held::new(chunks, share))
}

/// Makes one chunk after the other.
struct Cutter<'a> {
    text: &'a str,
    rule: Rule,
    /// The tokenizer, and the size with what the model adds.
    tokens: Option<(&'a dyn Tokens, usize)>,
    pieces: Pieces<'a>,
    check: &'a dyn Fn() -> Result<()>,
    /// The pieces from `begin` on.
    buffer: VecDeque<Piece>,
    /// The weight of the buffer, and of the white space at its end.
    weight: usize,
    trailing: usize,
    /// The place of the buffer in the text, in bytes and in characters.
    begin: usize,
    chars: usize,
    /// The end of the last chunk, in bytes.
    passed: usize,
    share: Reservation,
}

impl Cutter<'_> {
    fn next(&mut self) -> Result<Option<Chunk>> {
        loop {
            (self.check)()?;
            if !self.fill()? {
                return Ok(None);
            }
            let mut cut = self.choose(self.rule.size);
            if let Some((tokens, most)) = self.tokens {
                // The tokens of a chunk are not quite those of its pieces.
                let mut size = self.rule.size;
                while cut > 0 {
                    let excess = tokens.count(self.upto(cut).trim())?.saturating_sub(most);
                    if excess == 0 {
                        break;
                    }
                    size = size.saturating_sub(excess).max(1);
                    cut = self.choose(size).min(cut - 1);
                }
            }
            let chunk = self.chunk(cut);
            if chunk.bytes.end <= self.passed {
                // What is repeated leaves no room for the next piece.
                let repeated = self.passed;
                self.drop_while(|begin, _| begin < repeated);
                continue;
            }
            self.passed = chunk.bytes.end;
            let kept = self.kept(cut);
            let mut count = 0;
            self.drop_while(|_, _| {
                count += 1;
                count <= kept
            });
            return Ok(Some(chunk));
        }
    }

    /// Reads until the buffer begins with a piece that is not blank and is heavier than a chunk, or the text ends.
    /// Returns whether there is a piece.
    fn fill(&mut self) -> Result<bool> {
        loop {
            self.drop_while(|_, piece| piece.blank);
            if self.weight - self.trailing > self.rule.size {
                return Ok(true);
            }
            let (capacity, before) = (self.buffer.capacity(), self.buffer.len());
            if !self.pieces.more(&mut self.buffer)? {
                return Ok(!self.buffer.is_empty());
            }
            (self.check)()?;
            let grown = self.buffer.capacity().saturating_sub(capacity);
            self.share.spend(grown * size_of::<Piece>(), "the pieces of a chunk")?;
            for piece in self.buffer.range(before..) {
                let weight = piece.weight as usize;
                self.weight += weight;
                self.trailing = if piece.blank { self.trailing + weight } else { 0 };
            }
        }
    }

    fn drop_while(&mut self, mut which: impl FnMut(usize, &Piece) -> bool) {
        while let Some(piece) = self.buffer.front().copied().filter(|piece| which(self.begin, piece)) {
            self.begin += piece.bytes as usize;
            self.chars += piece.chars as usize;
            self.weight -= piece.weight as usize;
            self.buffer.pop_front();
        }
        self.trailing = self.trailing.min(self.weight);
    }

    /// The last piece of a chunk of at most `size`.
    fn choose(&self, size: usize) -> usize {
        let (mut weight, mut filled, mut last) = (0, 0, 0);
        let mut strongest: Option<(Border, usize)> = None;
        for (i, piece) in self.buffer.iter().enumerate() {
            weight += piece.weight as usize;
            if !piece.blank {
                // White space at the end does not count.
                filled = weight;
            }
            if filled > size && i > 0 {
                let strongest = strongest.filter(|_| self.rule.by != By::Sentences);
                return strongest.map_or(last, |(_, at)| at);
            }
            last = i;
            if piece.border == Border::Section {
                return i;
            }
            if filled * 2 >= size && strongest.is_none_or(|(border, _)| piece.border >= border) {
                strongest = Some((piece.border, i));
            }
        }
        last
    }

    /// The text up to piece `cut`.
    fn upto(&self, cut: usize) -> &str {
        let bytes: usize = self.buffer.iter().take(cut + 1).map(|piece| piece.bytes as usize).sum();
        self.text.get(self.begin..self.begin + bytes).unwrap_or_default()
    }

    fn chunk(&self, cut: usize) -> Chunk {
        let whole = self.upto(cut);
        let text = whole.trim_start();
        let (blank, _) = whole.split_at(whole.len() - text.len());
        let text = text.trim_end();
        let begin = self.begin + blank.len();
        Chunk {
            bytes: begin..begin + text.len(),
            start: self.chars + blank.chars().count() + 1,
            length: text.chars().count(),
        }
    }

    /// The number of pieces before the next chunk.
    fn kept(&self, cut: usize) -> usize {
        let piece = |i: usize| self.buffer.get(i);
        let mut kept = cut + 1;
        if self.rule.overlap == 0 || piece(cut).is_some_and(|piece| piece.border == Border::Section) {
            return kept;
        }
        let mut weight = 0;
        for i in (1..=cut).rev() {
            // White space at the end does not count.
            weight += piece(i).filter(|piece| weight > 0 || !piece.blank).map_or(0, |piece| piece.weight as usize);
            if weight > self.rule.overlap {
                break;
            }
            let begins = piece(i).is_some_and(|piece| !piece.blank)
                && piece(i - 1).is_some_and(|piece| piece.border > Border::Character);
            if begins {
                kept = i;
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests;
