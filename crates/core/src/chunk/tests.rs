use std::cell::Cell;
use std::time::{Duration, Instant};

use super::*;
use mysql_ml_base::error::Kind;

const UNITS: [By; 4] = [By::Characters, By::Words, By::Sentences, By::Markdown];

fn cut(text: &str, by: By, size: usize, overlap: usize) -> Vec<Chunk> {
    chunks(text, Rule { by, size, overlap }, None, usize::MAX, &|| Ok(())).unwrap().into_parts().0
}

fn texts(text: &str, by: By, size: usize, overlap: usize) -> Vec<&str> {
    cut(text, by, size, overlap).into_iter().map(|chunk| &text[chunk.bytes]).collect()
}

/// What holds for every text and rule.
fn holds(text: &str, by: By, size: usize, overlap: usize) {
    let made = cut(text, by, size, overlap);
    assert_eq!(made, cut(text, by, size, overlap), "the same each time");
    let (mut begin, mut end) = (0, 0);
    for (i, chunk) in made.iter().enumerate() {
        let own = &text[chunk.bytes.clone()];
        let say = || format!("chunk {i} {own:?} of {text:?} by {by:?} {size} {overlap}");
        assert!(!own.is_empty() && own.trim() == own, "{}", say());
        let by_characters: String = text.chars().skip(chunk.start - 1).take(chunk.length).collect();
        assert_eq!(by_characters, own, "{}", say());
        if i > 0 {
            assert!(chunk.bytes.start > begin && chunk.bytes.end > end, "{}", say());
        }
        if chunk.bytes.start > end {
            assert_eq!(text[end..chunk.bytes.start].trim(), "", "{}", say());
        }
        if overlap == 0 {
            assert!(chunk.bytes.start >= end, "{}", say());
        }
        if matches!(by, By::Characters | By::Markdown) {
            assert!(chunk.length <= size, "{}", say());
        }
        (begin, end) = (chunk.bytes.start, chunk.bytes.end);
    }
    assert_eq!(text[end..].trim(), "", "by {by:?} {size} {overlap}: the end of {text:?}");
}

#[test]
fn chunks_are_places_in_the_text_and_lose_white_space_only() {
    let long = "word ".repeat(900) + &"x".repeat(5000) + " end";
    let accents = "a\u{300}\u{301}\u{302} e\u{308} ".repeat(40);
    let texts = [
        "",
        "   \r\n\t\n ",
        "a",
        "  One. Two!  Three? ",
        "Zeile eins\r\nZeile zwei\r\n\r\nNeuer Absatz\r\n",
        "\r\r\n\n\rA\rB\u{2028}C\u{85}D\u{a0}",
        "👩‍👩‍👧‍👦👩‍👩‍👧‍👦 family 🇩🇪🇫🇷 flags 👍🏽 thumbs. Ünïcödé ﬁne.",
        "这是一个很长的句子，没有空格。第二句！第三句？还有一些文字",
        "a\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}\u{307}\u{308}",
        "# Title\n\nText under it.\n\n## Part\n\n- one\n- two\n\n```\ncode\n\n# no heading\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        "Mr. Smith went to 3.5 places (e.g. Rome). \"Really?\" he asked.",
        &long,
        &accents,
        &"1. ".repeat(3000),
        &" ".repeat(6000),
        &format!("a{}b", " ".repeat(6000)),
        &"语".repeat(3000),
    ];
    for text in texts {
        for by in UNITS {
            for (size, overlap) in [(1, 0), (2, 1), (3, 0), (7, 3), (20, 10), (100, 25), (5000, 0)] {
                holds(text, by, size, overlap);
            }
        }
    }
}

#[test]
fn random_texts_hold_too() {
    let mut rng = fastrand::Rng::with_seed(9);
    let parts =
        ["a", "word", " ", "\n", "\r\n", ". ", "é", "e\u{301}", "👩‍👧", "语", "# ", "\n\n", "-", "```\n", "\t", "?", "9"];
    for _ in 0..2000 {
        let text: String = (0..rng.usize(0..60)).map(|_| parts[rng.usize(0..parts.len())]).collect();
        let size = rng.usize(1..30);
        for by in UNITS {
            holds(&text, by, size, rng.usize(0..=size / 2));
        }
    }
}

#[test]
fn the_strongest_border_of_the_second_half_ends_a_chunk() {
    let text = "One two three. Four five six.\n\nSeven eight nine ten eleven twelve.";
    assert_eq!(
        texts(text, By::Characters, 40, 0),
        ["One two three. Four five six.", "Seven eight nine ten eleven twelve."]
    );
    assert_eq!(
        texts(text, By::Characters, 20, 0),
        ["One two three.", "Four five six.", "Seven eight nine ten", "eleven twelve."]
    );
    // A border in the first half would leave small chunks.
    assert_eq!(texts("A.\n\nbb cc dd ee", By::Characters, 12, 0), ["A.\n\nbb cc dd", "ee"]);
    // Neither a comma nor a bracket is parted from its word.
    assert_eq!(texts("aaa, (bbb), ccc", By::Characters, 7, 0), ["aaa,", "(bbb),", "ccc"]);
    // A word that is too long is cut between what a reader sees as characters.
    assert_eq!(texts("e\u{301}e\u{301}e\u{301}", By::Characters, 3, 0), ["e\u{301}", "e\u{301}", "e\u{301}"]);
}

#[test]
fn words_and_sentences_are_counted_by_unicodes_rules() {
    assert_eq!(texts("It's 3.5 km, more or less.", By::Words, 3, 0), ["It's 3.5 km,", "more or less."]);
    assert_eq!(texts("One. Two? Three! Four", By::Sentences, 2, 0), ["One. Two?", "Three! Four"]);
    assert_eq!(texts("One. Two. Three. Four.", By::Sentences, 2, 1), ["One. Two.", "Two. Three.", "Three. Four."]);
    // A line break ends a sentence.
    assert_eq!(texts("one\ntwo\n\nthree", By::Sentences, 1, 0), ["one", "two", "three"]);
}

#[test]
fn a_chunk_repeats_the_end_of_the_one_before() {
    assert_eq!(texts("a b c d e f g", By::Words, 4, 2), ["a b c d", "c d e f", "e f g"]);
    assert_eq!(texts("aaa bbb ccc ddd", By::Characters, 7, 3), ["aaa bbb", "bbb ccc", "ccc ddd"]);
    // No room for anything new beside what would be repeated: nothing is.
    assert_eq!(texts("aaa bbb cccccc", By::Characters, 7, 3), ["aaa bbb", "cccccc"]);
}

#[test]
fn a_heading_begins_a_chunk() {
    let text = "Before.\n\n# One\n\n## Half\n\nText.\n\n```\n# code\n```\n\nTwo\n===\n\n- # item\n";
    assert_eq!(
        texts(text, By::Markdown, 1000, 500),
        ["Before.", "# One\n\n## Half\n\nText.\n\n```\n# code\n```", "Two\n===\n\n- # item"]
    );
    // A section that is too long ends at a block, and a list between items.
    let text = "# A\n\nFirst paragraph here.\n\n- item one\n- item two\n- item three\n";
    assert_eq!(
        texts(text, By::Markdown, 30, 0),
        ["# A\n\nFirst paragraph here.", "- item one\n- item two", "- item three"]
    );
    // Front matter is a block.
    assert_eq!(texts("---\ntitle: x\n---\n\n# A\n", By::Markdown, 1000, 0), ["---\ntitle: x\n---", "# A"]);
}

/// A tokenizer with a token for each two letters of a word, which adds one before and one behind a text.
struct Pairs(Cell<usize>);

impl Tokens for Pairs {
    fn ends(&self, text: &str) -> Result<Vec<usize>> {
        self.0.set(self.0.get() + text.len());
        let mut ends = Vec::new();
        let mut open = false;
        for (i, c) in text.char_indices() {
            let end = i + c.len_utf8();
            if c.is_whitespace() {
                open = false;
            } else if open {
                *ends.last_mut().unwrap() = end;
                open = false;
            } else {
                ends.push(end);
                open = true;
            }
        }
        Ok(ends)
    }

    fn count(&self, text: &str) -> Result<usize> {
        Ok(self.ends(text)?.len() + 2)
    }
}

#[test]
fn tokens_count_with_those_that_the_model_adds() {
    let tokens = Pairs(Cell::new(0));
    let cut = |text: &str, size, overlap| {
        let rule = Rule { by: By::Tokens, size, overlap };
        let made = chunks(text, rule, Some(&tokens), usize::MAX, &|| Ok(()))?;
        Ok(made.iter().map(|chunk| text[chunk.bytes.clone()].to_owned()).collect::<Vec<_>>())
    };
    let made: Vec<String> = cut("abcd ab abcdef a", 6, 0).unwrap();
    assert_eq!(made, ["abcd ab", "abcdef a"]);
    let error: Error = cut("abcd", 2, 0).unwrap_err();
    assert!(error.message().contains("adds 2 tokens"), "{error}");
    // A long text: each chunk fits, and the tokenizer reads the text a few times only.
    let text = "some words and more of them ".repeat(1000) + &"x".repeat(3000);
    tokens.0.set(0);
    let made = cut(&text, 64, 16).unwrap();
    assert!(tokens.0.get() < 4 * text.len(), "{} bytes of {}", tokens.0.get(), text.len());
    for chunk in &made {
        assert!(tokens.count(chunk).unwrap() <= 64, "{chunk}");
    }
    assert!(made.len() < 500, "{}", made.len());
}

#[test]
fn results_are_bounded_before_they_are_made_and_a_kill_is_heard() {
    let text = "a ".repeat(100_000);
    let rule = Rule { by: By::Characters, size: 1, overlap: 0 };
    let error = chunks(&text, rule, None, 1 << 20, &|| Ok(())).err().unwrap();
    assert!(error.kind() == Kind::TooLarge && error.message().contains("bytes or more"), "{error}");
    let asked = Cell::new(0);
    let killed = || {
        asked.set(asked.get() + 1);
        if asked.get() > 3 {
            Err(Error::interrupted(1317))
        } else {
            Ok(())
        }
    };
    for by in UNITS {
        asked.set(0);
        let error = chunks(&text, Rule { by, size: 100, overlap: 0 }, None, usize::MAX, &killed).err().unwrap();
        assert_eq!(error.sql_code(), 1317, "{by:?}");
    }
}

#[test]
fn time_grows_with_the_length_of_a_text_and_not_with_its_square() {
    // Each of these takes a splitter hours that looks ahead, or at the rest of the text, for every place.
    let hostile = ["a\n", ". ", "。", "a.\n\n", "# a\n", "[", "> ", "- a\n", "e\u{301}", "\r\n", "1.", "x", "( "];
    for text in hostile {
        let text = text.repeat((1 << 18) / text.len());
        for by in UNITS {
            let began = Instant::now();
            let stop = || match began.elapsed() > Duration::from_secs(20) {
                true => Err(Error::interrupted(1317)),
                false => Ok(()),
            };
            let rule = Rule { by, size: 1000, overlap: 200 };
            let made = chunks(&text, rule, None, usize::MAX, &stop);
            assert!(made.is_ok(), "{by:?} takes more than 20 s for {}", &text[..4]);
        }
    }
    // A full stop and much white space behind it: the search for a sentence looks ahead from every space.
    let text = (". ".to_owned() + &" ".repeat(4000)).repeat(20);
    holds(&text, By::Characters, 100, 0);
}
