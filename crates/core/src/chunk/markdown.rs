//! The blocks of a Markdown text.

use pulldown_cmark::{Event, Options, Parser, Tag};

use super::pieces::Border;
use mysql_ml_base::error::Result;
use mysql_ml_base::memory::{Held, Reservation};

/// The most bytes that the parser keeps for a character that may be markup.
const A_MARK: usize = 64;

/// Events between two checks.
const EVENTS: usize = 4096;

/// The places where the outermost blocks of a text begin, ascending: the beginnings of their lines. A heading begins a
/// section, unless only headings are before it in the section.
pub fn borders(text: &str, check: &dyn Fn() -> Result<()>) -> Result<Held<Vec<(usize, Border)>>> {
    let marks = text.bytes().filter(|byte| byte.is_ascii_punctuation() || matches!(byte, b'\n' | b'\r')).count();
    let _parser = Reservation::take(marks.saturating_mul(A_MARK), "the blocks of the text")?;
    let (mut borders, mut share) = (Vec::new(), Reservation::default());
    let options = Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let (mut depth, mut only_headings) = (0_usize, true);
    for (i, (event, range)) in Parser::new_ext(text, options).into_offset_iter().enumerate() {
        if i.is_multiple_of(EVENTS) {
            check()?;
        }
        let begins = depth == 0;
        let mut is_heading = false;
        match event {
            Event::Start(tag) => {
                depth += 1;
                is_heading = matches!(tag, Tag::Heading { .. });
            }
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                continue;
            }
            _ => {}
        }
        if !begins {
            continue;
        }
        let border = if is_heading && !only_headings { Border::Section } else { Border::Block };
        only_headings = is_heading;
        if borders.len() == borders.capacity() {
            share.spend(borders.capacity().max(8) * size_of::<(usize, Border)>(), "the blocks of the text")?;
        }
        borders.push((begin_of_line(text, range.start), border));
    }
    Ok(Held::new(borders, share))
}

/// The begin of the line of a place behind an indentation.
fn begin_of_line(text: &str, place: usize) -> usize {
    let before = text.get(..place).unwrap_or_default();
    before.trim_end_matches([' ', '\t']).len()
}
