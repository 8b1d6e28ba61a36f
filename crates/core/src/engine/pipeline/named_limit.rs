//! Limits that providers name in their refusals.

/// A limit named in a refusal.
#[derive(Debug, PartialEq)]
pub(super) enum Named {
    /// Of texts in a request.
    Texts(usize),
    /// Of tokens in a request.
    Tokens(u64),
}

/// The limit in a provider's message that a request with these texts and tokens exceeds. Only quoted text is the
/// provider's.
pub(super) fn named_limit(message: &str, texts: usize, tokens: u64) -> Option<Named> {
    let words = message.split_once('"')?.1.to_lowercase();
    let of_texts = ["batch", "inputs", "texts", "requests", "instances", "items", "documents", "array", "list"];
    let of_all = ["per request", "per batch", "in total", "total tokens", "all inputs", "max_num_batched_tokens"];
    let limiting = ["max", "most", "limit", "than", "up to", "<=", "only", "allowed", "exceed"];
    let mut at = 0;
    for piece in words.split_inclusive(|c: char| !c.is_ascii_digit() && c != ',') {
        let start = at;
        at += piece.len();
        let digits: String = piece.chars().filter(char::is_ascii_digit).collect();
        let Ok(number) = digits.parse::<u64>() else { continue };
        let near = |from: usize, to: usize| {
            words.char_indices().filter(|(i, _)| (from..to).contains(i)).map(|(_, c)| c).collect::<String>()
        };
        let before = near(start.saturating_sub(32), start);
        if !limiting.iter().any(|word| before.contains(word)) {
            continue;
        }
        let after = near(at.saturating_sub(1), at + 24);
        if after.contains("token") || before.contains("token") {
            if number > 0 && number < tokens && of_all.iter().any(|word| words.contains(word)) {
                return Some(Named::Tokens(number));
            }
        } else if !after.contains("char") && !after.contains("byte") && of_texts.iter().any(|word| words.contains(word))
        {
            match usize::try_from(number) {
                Ok(number) if number > 0 && number < texts => return Some(Named::Texts(number)),
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_found_in_providers_words() {
        let of =
            |words: &str| named_limit(&format!("http://127.0.0.1:8080/x: it answered 413 \"{words}\""), 500, 400_000);
        assert_eq!(of("batch size 500 > maximum allowed batch size 32"), Some(Named::Texts(32)));
        assert_eq!(of("at most 100 requests can be in one batch"), Some(Named::Texts(100)));
        assert_eq!(
            of("Invalid 'input': array too long. Expected an array with maximum length 96"),
            Some(Named::Texts(96))
        );
        assert_eq!(of("Requested 400000 tokens, max 300,000 tokens per request"), Some(Named::Tokens(300_000)));
        assert_eq!(of("This model's maximum context length is 8192 tokens, however you requested 9000 tokens"), None);
        assert_eq!(of("input 3 of the batch is invalid"), None);
        assert_eq!(of("text must have at most 200 characters; inputs"), None);
        assert_eq!(of("bad request"), None);
        assert_eq!(named_limit("no words of the provider's, of at most 3 inputs", 500, 1), None);
    }
}
