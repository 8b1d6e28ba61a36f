//! The length of a text as JSON.

/// The most bytes of a text as JSON, without the quotes.
pub fn encoded_length(text: &str) -> usize {
    let byte = |b: u8| match b {
        b'"' | b'\\' => 2,
        0..=31 => 6,
        _ => 1,
    };
    text.bytes().map(byte).sum()
}
