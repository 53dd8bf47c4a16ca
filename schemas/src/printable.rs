//! What may be shown of a text that a stranger has written.

/// A character as a terminal or a log may be given it: what would move the cursor, end a line, set a colour or turn the text round
/// (control characters, and those that set the direction of writing) is U+FFFD.
///
/// ```
/// let shown: String = "\u{1b}[31mred".chars().map(florin_schema::printable).collect();
/// assert_eq!(shown, "\u{fffd}[31mred");
/// ```
pub const fn printable(character: char) -> char {
    match character {
        // Unicode's category Cc.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // The two that end lines, and those of UAX #9 that set a direction.
        | '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        _ => character,
    }
}

/// A text of several lines as a terminal may be given it, parts of which are a stranger's: each character as [`printable`] has it, but for
/// the ends of lines and tabs, which stay.
///
/// ```
/// assert_eq!(florin_schema::printable_lines("one\ttwo\n\u{1b}[2J"), "one\ttwo\n\u{fffd}[2J");
/// ```
pub fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\t') { c } else { printable(c) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_and_no_control_does() {
        for character in ('\0'..=char::MAX).filter(|character| character.is_control()) {
            assert_eq!(printable(character), char::REPLACEMENT_CHARACTER, "{character:?}");
        }
        let words = "Größe: 3 µs, 残高 — \u{1f4b0}";
        assert_eq!(words.chars().map(printable).collect::<String>(), words);
        assert_eq!(printable('\u{202e}'), char::REPLACEMENT_CHARACTER);
    }
}
