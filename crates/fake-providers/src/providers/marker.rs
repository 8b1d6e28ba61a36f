//! Markers: instructions in a test's prompt that select the answer of a chat endpoint.
//!
//! A marker is `[[NAME]]` or `[[NAME:ARGUMENT]]`. An argument may have several lines. It ends at the first `]]`; when
//! more brackets follow at once, the last two of them end the marker, so that `[[answer:[1]]]` means `[1]`.
//! Brackets around an unknown name, or around an argument that does not fit, are ordinary text.

use std::time::Duration;

use super::packed::Flaw;

/// The longest time that a marker delays an answer.
const MAX_DELAY: Duration = Duration::from_secs(600);

/// One instruction of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Marker {
    /// `[[answer:TEXT]]`: exactly this text.
    Answer(String),
    /// `[[once:TEXT]]`: this text, unless the dialogue has gone on.
    Once(String),
    /// `[[cut]]`: half of the answer, as if the model had reached its limit of tokens.
    Cut,
    /// `[[refuse]]`: the provider's refusal.
    Refuse,
    /// `[[tool]]`: a call of a tool and no text.
    Tool,
    /// `[[empty]]`: nothing at all.
    Empty,
    /// `[[status:CODE]]`: an error with this HTTP status.
    Status(u16),
    /// `[[slow:MS]]`: the answer after this many milliseconds.
    Slow(Duration),
    /// `[[fenced]]`: the answer inside a Markdown code fence.
    Fenced,
    /// `[[rows:FLAW]]`: an answer about several rows with this flaw.
    Rows(Flaw),
}

impl Marker {
    fn parse(inside: &str) -> Option<Self> {
        let marker = match inside.split_once(':') {
            Some(("answer", text)) => Self::Answer(text.to_owned()),
            Some(("once", text)) => Self::Once(text.to_owned()),
            Some(("status", code)) => {
                // Informational statuses would not be the final answer.
                Self::Status(code.parse().ok().filter(|code| (200..1000).contains(code))?)
            }
            Some(("rows", flaw)) => Self::Rows(Flaw::parse(flaw)?),
            Some(("slow", ms)) => Self::Slow(Duration::from_millis(ms.parse().ok()?).min(MAX_DELAY)),
            Some(_) => return None,
            None => match inside {
                "cut" => Self::Cut,
                "refuse" => Self::Refuse,
                "tool" => Self::Tool,
                "empty" => Self::Empty,
                "fenced" => Self::Fenced,
                _ => return None,
            },
        };
        Some(marker)
    }
}

/// A text, split into markers and the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marked {
    /// The markers, in their order.
    pub(super) markers: Vec<Marker>,
    /// The text without them.
    pub(super) rest: String,
}

/// Takes the markers out of a text.
pub(super) fn take(text: &str) -> Marked {
    let mut out = Marked::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[[") {
        out.rest.push_str(before);
        match split_end(after).and_then(|(inside, tail)| Some((Marker::parse(inside)?, tail))) {
            Some((marker, tail)) => {
                out.markers.push(marker);
                rest = tail;
            }
            None => {
                out.rest.push_str("[[");
                rest = after;
            }
        }
    }
    out.rest.push_str(rest);
    if !out.markers.is_empty() {
        out.rest = out.rest.trim().to_owned();
    }
    out
}

/// The text before the end of a marker, and the text after it.
fn split_end(text: &str) -> Option<(&str, &str)> {
    let first = text.find("]]")?;
    let run = text.get(first..)?.bytes().take_while(|byte| *byte == b']').count();
    Some((text.get(..first + run - 2)?, text.get(first + run..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(text: &str) -> (Vec<Marker>, String) {
        let marked = take(text);
        (marked.markers, marked.rest)
    }

    #[test]
    fn markers_are_taken_out_of_the_text() {
        assert_eq!(rest("plain [text]"), (vec![], "plain [text]".into()));
        assert_eq!(rest(" plain "), (vec![], " plain ".into()), "a text without markers stays as it is");
        assert_eq!(rest("[[cut]] is it red? "), (vec![Marker::Cut], "is it red?".into()));
        assert_eq!(
            rest("a [[slow:20]]b[[fenced]]"),
            (vec![Marker::Slow(Duration::from_millis(20)), Marker::Fenced], "a b".into())
        );
        assert_eq!(rest("[[answer:{\"a\":\n[1]}]] x"), (vec![Marker::Answer("{\"a\":\n[1]}".into())], "x".into()));
        assert_eq!(rest("[[answer:[1]]]"), (vec![Marker::Answer("[1]".into())], String::new()));
        assert_eq!(rest("[[once:]]"), (vec![Marker::Once(String::new())], String::new()));
        assert_eq!(rest("[[status:503]]"), (vec![Marker::Status(503)], String::new()));
    }

    #[test]
    fn what_is_no_marker_is_text() {
        for text in
            ["[[unknown]]", "[[status:abc]]", "[[status:100]]", "[[slow:]]", "[[cut", "[[]]", "[[answer]]", "]]"]
        {
            assert_eq!(rest(text), (vec![], text.to_owned()));
        }
        assert_eq!(rest("[[a [[cut]]"), (vec![Marker::Cut], "[[a".into()));
    }
}
