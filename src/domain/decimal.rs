//! Numbers of JSON, compared exactly: beyond 2^53, in decimals and with exponents.
//!
//! A number is never made a binary one. Pure.

use std::cmp::Ordering;

/// The largest exponent of a number to compare with: far beyond what anybody counts, and far below
/// what the sums here can hold.
const EXPONENT_MAX: i64 = 1_000_000_000;

/// A number that others are compared with.
#[derive(Clone, Debug)]
pub struct Number {
    is_negative: bool,
    scale: i64,
    digits: Box<[u8]>,
}

/// A number as digits `d₁d₂d₃…` and a scale: `0.d₁d₂d₃… × 10^scale`. The first digit and the last are
/// not 0; zero has no digits. The digits are those of `first` and then those of `rest`.
struct Parts<'a> {
    is_negative: bool,
    scale: i64,
    first: &'a [u8],
    rest: &'a [u8],
}

impl Number {
    /// The number of a JSON text; none where its exponent is too large to be meant.
    pub fn parse(text: &str) -> Option<Number> {
        let parts = Parts::of(text);
        (parts.scale.abs() <= EXPONENT_MAX).then(|| Number {
            is_negative: parts.is_negative,
            scale: parts.scale,
            digits: [parts.first, parts.rest].concat().into(),
        })
    }

    /// How the number of a JSON text compares with this one.
    pub fn order_of(&self, text: &str) -> Ordering {
        let own = Parts {
            is_negative: self.is_negative,
            scale: self.scale,
            first: &self.digits,
            rest: &[],
        };
        Parts::of(text).order(&own)
    }
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Parts<'a> {
        let bytes = text.as_bytes();
        let (is_negative, bytes) = match bytes {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, bytes),
        };
        let is_exponent = |byte: &u8| matches!(byte, b'e' | b'E');
        let (mantissa, exponent) = match bytes.iter().position(is_exponent) {
            Some(at) => (&bytes[..at], exponent(&bytes[at + 1..])),
            None => (bytes, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
            Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
            None => (mantissa, &[][..]),
        };
        let whole = without_leading_zeros(whole);
        let (fraction, scale) = match whole.is_empty() {
            true => {
                let significant = without_leading_zeros(fraction);
                let zeros = fraction.len() - significant.len();
                (significant, -(zeros as i64))
            }
            false => (fraction, whole.len() as i64),
        };
        let rest = without_trailing_zeros(fraction);
        let first = match rest.is_empty() {
            true => without_trailing_zeros(whole),
            false => whole,
        };
        let is_zero = first.is_empty() && rest.is_empty();
        Parts {
            is_negative: is_negative && !is_zero,
            scale: if is_zero {
                0
            } else {
                scale.saturating_add(exponent)
            },
            first,
            rest,
        }
    }

    fn is_zero(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }

    fn order(&self, other: &Parts<'_>) -> Ordering {
        let sign = |parts: &Parts<'_>| match parts {
            _ if parts.is_zero() => 0,
            Parts { is_negative, .. } => {
                if *is_negative {
                    -1
                } else {
                    1
                }
            }
        };
        let by_sign = sign(self).cmp(&sign(other));
        if by_sign != Ordering::Equal || self.is_zero() {
            return by_sign;
        }
        let digits = |parts: &Parts<'a>| (parts.first, parts.rest);
        let (own, others) = (digits(self), (other.first, other.rest));
        let by_size = self.scale.cmp(&other.scale).then_with(|| {
            let own = own.0.iter().chain(own.1);
            own.cmp(others.0.iter().chain(others.1))
        });
        match self.is_negative {
            true => by_size.reverse(),
            false => by_size,
        }
    }
}

/// The exponent behind the `e`; the largest that there is where it is larger.
fn exponent(bytes: &[u8]) -> i64 {
    let (is_negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, bytes),
    };
    let size = digits.iter().fold(0_i64, |size, digit| {
        let digit = i64::from(digit.wrapping_sub(b'0'));
        size.saturating_mul(10).saturating_add(digit)
    });
    if is_negative { -size } else { size }
}

fn without_leading_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

fn without_trailing_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().rev().take_while(|digit| **digit == b'0');
    &digits[..digits.len() - zeros.count()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(one: &str, other: &str) -> Ordering {
        Number::parse(other).expect("a number").order_of(one)
    }

    #[test]
    fn numbers_are_compared_exactly() {
        // In order, and equal ones together.
        let rows: &[&[&str]] = &[
            &["-1e400"],
            &["-9007199254740993", "-9007199254740993.0"],
            &["-9007199254740992"],
            &["-1.5", "-15e-1", "-0.15E+1"],
            &["-1", "-1.0", "-10e-1"],
            &["-1e-400"],
            &[
                "0",
                "-0",
                "0.0",
                "0e5",
                "-0.000E-7",
                "0e99999999999999999999",
            ],
            &["1e-400"],
            &["0.1", "0.10", "1e-1", "100E-3"],
            &["0.30000000000000000000000000000001"],
            &["0.30000000000000000000000000000002"],
            &["1", "1.0", "1.00", "0.1e1", "1E0", "1e+0"],
            &["1.1", "1.10", "11e-1"],
            &["9.99"],
            &["10", "1e1", "10.000"],
            &["100", "1e2", "0.001e5"],
            &["9007199254740992"],
            &["9007199254740993", "9007199254740993.000"],
            &["9007199254740994"],
            &["12345678901234567890123"],
            &["12345678901234567890124", "1.2345678901234567890124e22"],
            &["1e400"],
            &["1e401", "10e400"],
        ];
        for (place, row) in rows.iter().enumerate() {
            for (other_place, others) in rows.iter().enumerate() {
                for (one, other) in row
                    .iter()
                    .flat_map(|one| others.iter().map(move |o| (one, o)))
                {
                    assert_eq!(order(one, other), place.cmp(&other_place), "{one} {other}");
                }
            }
        }
    }

    #[test]
    fn an_exponent_without_end_is_beyond_every_number_and_none_to_compare_with() {
        for (text, expected) in [
            ("1e99999999999999999999", Ordering::Greater),
            ("-1e99999999999999999999", Ordering::Less),
            ("1e-99999999999999999999", Ordering::Less),
            ("0.0001e9223372036854775807", Ordering::Greater),
        ] {
            assert_eq!(order(text, "1e400"), expected, "{text}");
            assert!(Number::parse(text).is_none(), "{text}");
        }
        assert_eq!(order("1e-99999999999999999999", "0"), Ordering::Greater);
    }

    proptest! {
        #[test]
        fn whole_numbers_are_in_their_order(one: i128, other: i128, zeros in 0usize..4) {
            let spelled = format!("{other}.{}", "0".repeat(zeros + 1));
            prop_assert_eq!(order(&one.to_string(), &spelled), one.cmp(&other));
            prop_assert_eq!(order(&format!("{one}e3"), &format!("{one}000")), Ordering::Equal);
        }

        #[test]
        fn a_point_moves_with_the_exponent(digits in "[1-9][0-9]{0,20}", by in 0usize..30) {
            let zeros = "0".repeat(by);
            prop_assert_eq!(order(&format!("0.{zeros}{digits}e{by}"), &format!("0.{digits}")), Ordering::Equal);
        }

        #[test]
        fn no_text_panics(one in "[-+.eE0-9]{0,30}", other in "[-+.eE0-9]{0,30}") {
            if let Some(number) = Number::parse(&one) {
                number.order_of(&other);
            }
        }
    }
}
