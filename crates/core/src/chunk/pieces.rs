//! The pieces of a text, read part by part.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::vec::IntoIter;

use memchr::memchr2;
use unicode_segmentation::UnicodeSegmentation;

use super::unit::{By, Tokens};
use mysql_ml_base::error::Result;
use mysql_ml_base::memory::{Held, Reservation};

/// The most bytes that are read at once. The time of a search for sentences can grow with their square.
const PART: usize = 2048;

/// The most bytes of a word or of white space that count as one token.
pub const BYTES_A_TOKEN: usize = 24;

/// Whether a piece is a part of a long word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    First,
    Later,
}

/// What ends at a place, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Border {
    /// A character that the reader sees, or one of its code points, inside a word.
    Character,
    /// A word.
    Word,
    /// A sentence.
    Sentence,
    /// A line.
    Line,
    /// A paragraph, or another block of Markdown.
    Block,
    /// What stands under a heading. A chunk always ends here.
    Section,
}

/// A piece of a text.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Its length in bytes and in characters.
    pub bytes: u32,
    pub chars: u32,
    /// Its share of a chunk's size.
    pub weight: u32,
    /// Whether it is white space only.
    pub blank: bool,
    /// The border behind it.
    pub border: Border,
}

/// Reads the pieces of a text.
pub struct Pieces<'a> {
    text: &'a str,
    by: By,
    tokens: Option<&'a dyn Tokens>,
    /// The most units of a chunk; a longer word is several pieces.
    size: usize,
    /// The places of blocks and sections, ascending; `None`: blank lines end blocks.
    borders: Option<Peekable<IntoIter<(usize, Border)>>>,
    _borders: Reservation,
    /// The begin of the next part, and the end of its line.
    at: usize,
    line: usize,
}

fn is_blank(text: &str) -> bool {
    text.chars().all(char::is_whitespace)
}

/// Whether a chunk may end between two segments: not before a comma, and not behind a bracket.
fn is_between_words(before: &str, after: &str) -> bool {
    let words = || {
        before.chars().next_back().is_some_and(char::is_alphanumeric)
            && after.chars().next().is_some_and(char::is_alphanumeric)
    };
    is_blank(before) || is_blank(after) || words()
}

impl<'a> Pieces<'a> {
    pub fn new(
        text: &'a str,
        by: By,
        size: usize,
        tokens: Option<&'a dyn Tokens>,
        borders: Option<Held<Vec<(usize, Border)>>>,
    ) -> Self {
        let (borders, share) = borders.map(Held::into_parts).unzip();
        Pieces {
            text,
            by,
            tokens,
            size,
            borders: borders.map(|borders| borders.into_iter().peekable()),
            _borders: share.unwrap_or_default(),
            at: 0,
            line: 0,
        }
    }

    /// Appends the pieces of the next part; `false` at the end of the text.
    pub fn more(&mut self, pieces: &mut VecDeque<Piece>) -> Result<bool> {
        if self.at >= self.text.len() {
            return Ok(false);
        }
        if self.at >= self.line {
            self.line = self.end_of_line();
        }
        let whole = self.line - self.at <= PART;
        let part = self.text.get(self.at..self.end_of_part()).unwrap_or_default();
        let mut sentences: Vec<&str> = part.split_sentence_bounds().collect();
        // The last sentence goes on in the next part, unless it is longer than one.
        let is_cut = !whole && sentences.len() == 1;
        if !whole && !is_cut {
            sentences.pop();
        }
        let length: usize = sentences.iter().map(|sentence| sentence.len()).sum();
        let part = part.get(..length).unwrap_or_default();
        let ends = match self.tokens {
            Some(tokens) => tokens.ends(part)?,
            None => Vec::new(),
        };
        let mut maker = Maker { by: self.by, size: self.size, ends, used: 0, end: 0, pieces };
        let (by, at) = (self.by, self.at);
        let mut next = at;
        for sentence in sentences {
            next += sentence.len();
            let border = if next == self.line {
                behind_line(self.text, self.borders.as_mut(), at, next)
            } else if is_cut && by != By::Sentences {
                Border::Word
            } else {
                Border::Sentence
            };
            match by {
                By::Sentences => maker.push(sentence, Part::Whole, border),
                _ => maker.words(sentence, border),
            }
        }
        self.at = next.max(at + 1);
        Ok(true)
    }

    /// The end of the line at `at`, with its line break.
    fn end_of_line(&self) -> usize {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let Some(found) = memchr2(b'\n', b'\r', rest) else { return self.text.len() };
        let both = rest.get(found..found + 2) == Some(b"\r\n");
        self.at + found + if both { 2 } else { 1 }
    }

    /// The end of the part at `at`: that of the line, or one between words.
    fn end_of_part(&self) -> usize {
        if self.line - self.at <= PART {
            return self.line;
        }
        let most = (0..4).map(|back| self.at + PART - back).find(|end| self.text.is_char_boundary(*end));
        let most = most.unwrap_or(self.line);
        let part = self.text.get(self.at..most).unwrap_or_default();
        let blank = part.char_indices().rev().find(|(_, c)| c.is_whitespace()).map(|(i, c)| i + c.len_utf8());
        let word = || part.split_word_bound_indices().next_back().map(|(i, _)| i).filter(|i| *i > 0);
        let character = || part.grapheme_indices(true).next_back().map(|(i, _)| i).filter(|i| *i > 0);
        self.at + blank.or_else(word).or_else(character).unwrap_or(part.len())
    }
}

/// The border behind a line from `begin`, or its last part, to `end`.
fn behind_line(
    text: &str,
    borders: Option<&mut Peekable<IntoIter<(usize, Border)>>>,
    begin: usize,
    end: usize,
) -> Border {
    match borders {
        Some(borders) => {
            let mut border = Border::Line;
            while let Some((_, other)) = borders.next_if(|(place, _)| *place <= end) {
                border = border.max(other);
            }
            border
        }
        None if text.get(begin..end).is_some_and(is_blank) => Border::Block,
        None => Border::Line,
    }
}

/// Makes the pieces of a part.
struct Maker<'m> {
    by: By,
    size: usize,
    /// The ends of the part's tokens, and the number of those before `end`.
    ends: Vec<usize>,
    used: usize,
    /// The end of the last piece, in bytes of the part.
    end: usize,
    pieces: &'m mut VecDeque<Piece>,
}

impl Maker<'_> {
    /// The tokens of the next piece, which is `text`.
    fn tokens(&self, text: &str) -> usize {
        let end = self.end + text.len();
        self.ends.get(self.used..).unwrap_or_default().iter().take_while(|token| **token <= end).count()
    }

    /// Whether the next piece, which is `text`, may be a chunk.
    fn fits(&self, text: &str) -> bool {
        match self.by {
            By::Characters | By::Markdown => text.len() <= self.size || text.chars().count() <= self.size,
            By::Words | By::Sentences => true,
            By::Tokens => self.tokens(text) <= self.size,
        }
    }

    fn push(&mut self, text: &str, part: Part, border: Border) {
        let chars = text.chars().count();
        let blank = is_blank(text);
        let tokens = self.tokens(text);
        let weight = match self.by {
            By::Characters | By::Markdown => chars,
            By::Words => usize::from(part != Part::Later && text.contains(char::is_alphanumeric)),
            By::Sentences => usize::from(!blank),
            // Some vocabularies have one token for any unknown word, and none for white space.
            By::Tokens => tokens.max(if part == Part::Whole { text.len() / BYTES_A_TOKEN } else { 1 }),
        };
        self.used += tokens;
        self.end += text.len();
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.pieces.push_back(Piece {
            bytes: small(text.len()),
            chars: small(chars),
            weight: small(weight),
            blank,
            border,
        });
    }

    /// The words of a sentence, and what is between them.
    fn words(&mut self, sentence: &str, behind: Border) {
        let mut words = sentence.split_word_bounds().peekable();
        while let Some(word) = words.next() {
            let border = match words.peek() {
                None => behind,
                Some(next) if is_between_words(word, next) => Border::Word,
                Some(_) => Border::Character,
            };
            if self.fits(word) {
                self.push(word, Part::Whole, border);
            } else {
                self.characters(word, border);
            }
        }
    }

    /// The characters of a word that is longer than a chunk.
    fn characters(&mut self, word: &str, behind: Border) {
        let mut part = Part::First;
        let mut characters = word.graphemes(true).peekable();
        while let Some(character) = characters.next() {
            let behind = if characters.peek().is_some() { Border::Character } else { behind };
            if self.fits(character) {
                self.push(character, part, behind);
                part = Part::Later;
                continue;
            }
            let mut points = character.char_indices().peekable();
            while let Some((begin, _)) = points.next() {
                let (end, border) = match points.peek() {
                    Some((end, _)) => (*end, Border::Character),
                    None => (character.len(), behind),
                };
                self.push(character.get(begin..end).unwrap_or_default(), part, border);
                part = Part::Later;
            }
        }
    }
}
