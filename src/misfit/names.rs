//! Names that are not known, and the ones that were meant.

/// No known name is as long as this.
const NAME_BYTES_MAX: usize = 64;

/// That there is no such field or setting, and which one may be meant.
pub fn not_known(thing: &str, meant: Option<&str>) -> String {
    match meant {
        Some(meant) => format!("there is no such {thing} here; did you mean {meant}?"),
        None => format!("there is no such {thing} here"),
    }
}

/// The known name that somebody meant who wrote `name`, where it is clear enough.
pub fn misspelled<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let plain = |name: &str| -> Vec<char> {
        let letters = name.chars().filter(|c| !"-_".contains(*c));
        letters.map(|c| c.to_ascii_lowercase()).collect()
    };
    let written = plain(name);
    let rated = known.into_iter().filter_map(|one| {
        let meant = plain(one);
        let allowed = match meant.len().min(written.len()) {
            0..4 => 0,
            4..8 => 1,
            _ => 2,
        };
        let distance = distance(&written, &meant);
        (distance <= allowed).then_some((distance, one))
    });
    rated
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, one)| one)
}

/// How many letters must be put in, left out, replaced or swapped with their neighbour to make one
/// of the other (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut least = (rows[i][j] + usize::from(a != b))
                .min(rows[i][j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_meant_where_it_is_close() {
        let known = ["throttleRate", "url", "uid", "eventTypes", "requestHeaders"];
        for (name, meant) in [
            ("trottleRate", Some("throttleRate")),
            ("throttle_rate", Some("throttleRate")),
            ("ThrottleRate", Some("throttleRate")),
            ("eventType", Some("eventTypes")),
            ("evnetTypes", Some("eventTypes")),
            ("request_headers", Some("requestHeaders")),
            ("URL", Some("url")),
            ("uri", None),
            ("id", None),
            ("surprise", None),
            ("", None),
        ] {
            assert_eq!(misspelled(name, known), meant, "{name}");
        }
        assert_eq!(misspelled(&"x".repeat(1 << 20), known), None);
    }
}
