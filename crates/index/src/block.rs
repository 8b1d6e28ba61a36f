//! Blocks: codes and the keys of their rows as bytes.
//!
//! A block has a header of 16 bytes, all numbers little-endian: the magic `vb`, the format's version, 0; the layout's
//! fingerprint; the number of codes; the length of all keys. Then come the factors, each as an array of f32; the codes
//! as 64-bit words, the first word of all codes, the second of all, and so on; the end of each key as u32; the keys.

use mysql_ml_base::error::{Error, Kind, Result};

use crate::code::{Code, Factors};
use crate::layout::{check_version, Layout, VERSION};

const MAGIC: [u8; 2] = *b"vb";
const HEADER: usize = 16;

/// The largest block, bytes: the largest packet of MySQL.
const LARGEST: usize = 1 << 30;

/// Makes a block.
pub struct BlockBuilder {
    layout: Layout,
    factors: Vec<Factors>,
    words: Vec<u64>,
    ends: Vec<u32>,
    keys: Vec<u8>,
}

impl BlockBuilder {
    /// An empty block.
    pub fn new(layout: &Layout) -> Self {
        BlockBuilder { layout: *layout, factors: Vec::new(), words: Vec::new(), ends: Vec::new(), keys: Vec::new() }
    }

    /// Adds a code with the key of its row. Errors for a code of another layout, and beyond 1 GiB.
    pub fn push(&mut self, key: &[u8], code: &Code) -> Result<()> {
        if code.words.len() != self.layout.words() {
            return Err(Error::internal("a code of another layout"));
        }
        if self.bytes() + code_bytes(&self.layout) + key.len() > LARGEST {
            return Err(Error::new(
                Kind::TooLarge,
                "a block of the vector index exceeds 1 GiB; fold fewer rows at once",
            ));
        }
        self.keys.extend_from_slice(key);
        self.ends.push(self.keys.len() as u32);
        self.factors.push(code.factors);
        self.words.extend_from_slice(&code.words);
        Ok(())
    }

    /// The number of codes.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no codes.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The length of the block in bytes.
    pub fn bytes(&self) -> usize {
        HEADER + self.len() * code_bytes(&self.layout) + self.keys.len()
    }

    /// The bytes of the block.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes());
        bytes.extend(MAGIC);
        bytes.extend([VERSION, 0]);
        bytes.extend(self.layout.fingerprint().to_le_bytes());
        bytes.extend((self.ends.len() as u32).to_le_bytes());
        bytes.extend((self.keys.len() as u32).to_le_bytes());
        let factors: [fn(&Factors) -> f32; 4] = [|f| f.square, |f| f.rescale, |f| f.error, |f| f.cross];
        for factor in factors.iter().take(Code::factor_count(&self.layout)) {
            bytes.extend(self.factors.iter().flat_map(|f| factor(f).to_le_bytes()));
        }
        let words = self.layout.words();
        for word in 0..words {
            bytes.extend(self.words.iter().skip(word).step_by(words).flat_map(|word| word.to_le_bytes()));
        }
        bytes.extend(self.ends.iter().flat_map(|end| end.to_le_bytes()));
        bytes.extend(self.keys);
        bytes
    }
}

/// The bytes of a code without its key.
fn code_bytes(layout: &Layout) -> usize {
    Code::factor_count(layout) * 4 + layout.words() * 8 + 4
}

/// A block that was read. It borrows the bytes and allocates nothing.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    layout: Layout,
    pub(crate) factors: &'a [[u8; 4]],
    /// `[words of a code, codes]`.
    pub(crate) words: &'a [[u8; 8]],
    ends: &'a [[u8; 4]],
    keys: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads a block. Errors for bytes that are no block of this layout and version.
    pub fn parse(layout: &Layout, bytes: &'a [u8]) -> Result<Block<'a>> {
        let (header, body) = bytes.split_first_chunk::<HEADER>().ok_or_else(broken)?;
        let [m0, m1, version, zero, f0, f1, f2, f3, c0, c1, c2, c3, k0, k1, k2, k3] = *header;
        if [m0, m1, zero] != [MAGIC[0], MAGIC[1], 0] {
            return Err(broken());
        }
        check_version(version)?;
        if u32::from_le_bytes([f0, f1, f2, f3]) != layout.fingerprint() {
            return Err(Error::invalid("a block of the vector index has another layout; rebuild the index"));
        }
        let size = |bytes| usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| broken());
        let (count, keys) = (size([c0, c1, c2, c3])?, size([k0, k1, k2, k3])?);
        let whole = count.checked_mul(code_bytes(layout)).and_then(|codes| codes.checked_add(keys));
        if whole != Some(body.len()) {
            return Err(broken());
        }
        let (factors, body) = body.split_at_checked(count * Code::factor_count(layout) * 4).ok_or_else(broken)?;
        let (words, body) = body.split_at_checked(count * layout.words() * 8).ok_or_else(broken)?;
        let (ends, keys) = body.split_at_checked(count * 4).ok_or_else(broken)?;
        let block = Block {
            layout: *layout,
            factors: factors.as_chunks().0,
            words: words.as_chunks().0,
            ends: ends.as_chunks().0,
            keys,
        };
        let mut last = 0;
        let mut ascending = true;
        for end in block.ends {
            let end = u32::from_le_bytes(*end);
            ascending &= last <= end;
            last = end;
        }
        if !ascending || usize::try_from(last) != Ok(keys.len()) {
            return Err(broken());
        }
        Ok(block)
    }

    /// The number of codes.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no codes.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The keys in the order of the codes.
    pub fn keys(&self) -> impl Iterator<Item = &'a [u8]> + 'a {
        let block = *self;
        (0..self.len()).map(move |at| block.key(at))
    }

    /// The key of a code; empty without such a code.
    pub(crate) fn key(&self, at: usize) -> &'a [u8] {
        let end = |at: usize| self.ends.get(at).map_or(0, |end| u32::from_le_bytes(*end) as usize);
        let begin = at.checked_sub(1).map_or(0, end);
        self.keys.get(begin..end(at)).unwrap_or_default()
    }

    /// Keys with their codes, for another block of the same list.
    pub fn codes(&self) -> impl Iterator<Item = (&'a [u8], Code)> + 'a {
        let block = *self;
        (0..self.len()).map(move |at| (block.key(at), block.code(at)))
    }

    fn code(&self, at: usize) -> Code {
        let factor = |n: usize| {
            let bytes = (n < Code::factor_count(&self.layout)).then(|| self.factors.get(n * self.len() + at)).flatten();
            bytes.map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
        };
        Code {
            factors: Factors { square: factor(0), rescale: factor(1), error: factor(2), cross: factor(3) },
            words: self
                .words
                .iter()
                .skip(at)
                .step_by(self.len().max(1))
                .map(|word| u64::from_le_bytes(*word))
                .collect(),
        }
    }
}

/// The error of bytes that are no block.
pub(crate) fn broken() -> Error {
    Error::invalid("a block of the vector index is damaged; rebuild the index")
}
