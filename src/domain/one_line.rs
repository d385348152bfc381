//! Text from others in the middle of ours: a name, a URL, a failure.

/// Returns the text on one line, cut where it has more characters. It can neither pretend to be another part of what
/// it stands in nor change how that reads.
pub fn one_line(text: &str, characters_max: usize) -> String {
    // Besides control characters, those that turn the direction of text, or end lines in some programs.
    let is_safe = |letter: char| {
        !letter.is_control()
            && !('\u{200e}'..='\u{200f}').contains(&letter)
            && !('\u{2028}'..='\u{202e}').contains(&letter)
            && !('\u{2066}'..='\u{2069}').contains(&letter)
    };
    let safe = text
        .chars()
        .map(|letter| if is_safe(letter) { letter } else { ' ' });
    let safe: String = safe
        .collect::<String>()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    match safe.char_indices().nth(characters_max) {
        Some((end, _)) => format!("{}…", &safe[..end]),
        None => safe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_on_its_line_in_its_direction_and_within_its_length() {
        for (text, expected) in [
            ("", ""),
            ("Acme", "Acme"),
            ("Acme & Söhne", "Acme & …"),
            ("é\r\n\r\né", "é é"),
            (" a\tb \u{1b}[2J", "a b [2J"),
            ("a\u{202e}b\u{2029}c", "a b c"),
            ("1234567", "1234567"),
            ("12345678", "1234567…"),
        ] {
            assert_eq!(one_line(text, 7), expected, "{text}");
        }
    }
}
