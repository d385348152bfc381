//! Whether a template's next value lands inside a string literal of the JSON that it writes.
//!
//! Outside of a string literal a value is written as a JSON value, inside of one as that string's
//! escaped content. The text that was written so far decides, and not the template's own text: with
//! loops and conditions one place of a template can be both. So the text of a rendering is collected
//! here, on the thread that renders. minijinja's machine has no room for a state of ours.

use std::cell::RefCell;
use std::fmt;
use std::io;

use memchr::{memchr, memchr2};
use minijinja::{Error, Output};

use super::toll::Toll;

/// The end of a JSON text that is being written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    #[default]
    Outside,
    /// In a string literal.
    Inside,
    /// In a string literal, behind the backslash of an escape.
    Escape,
}

impl Place {
    /// Returns the place behind this further text.
    pub fn after(self, text: &[u8]) -> Place {
        let (mut place, mut rest) = (self, text);
        loop {
            let at = match place {
                Place::Outside => memchr(b'"', rest),
                Place::Inside => memchr2(b'"', b'\\', rest),
                Place::Escape => (!rest.is_empty()).then_some(0),
            };
            let Some(at) = at else {
                return place;
            };
            place = match (place, rest[at]) {
                (Place::Outside, _) | (Place::Escape, _) => Place::Inside,
                (Place::Inside, b'"') => Place::Outside,
                (Place::Inside, _) => Place::Escape,
            };
            rest = &rest[at + 1..];
        }
    }
}

/// The text of a rendering, as far as it is written.
#[derive(Default)]
struct Text {
    limited: Limited,
    place: Place,
    /// The machine wrote something to the output, be it nothing.
    heard: bool,
}

thread_local! {
    static TEXT: RefCell<Text> = RefCell::default();
}

/// Collects the JSON text that is written to the [`Collector`], of `bytes_max` bytes at most.
pub fn collected(
    bytes_max: usize,
    render: impl FnOnce(Collector) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    TEXT.replace(Text {
        limited: Limited::new(bytes_max),
        ..Text::default()
    });
    let rendered = render(Collector);
    let text = TEXT.take();
    rendered.map(|()| text.limited.bytes)
}

/// Writes a value that minijinja's machine prints to `out`, by this function. In a block such as
/// `{% set %}`, whose text is collected apart, a value is in no string literal.
pub fn write_printed(
    out: &mut Output,
    write: impl FnOnce(&mut dyn fmt::Write, Place) -> Result<(), Error>,
) -> Result<(), Error> {
    TEXT.with_borrow_mut(|text| text.heard = false);
    out.write_str("")?;
    let place = TEXT.with_borrow(|text| text.heard.then_some(text.place));
    let Some(place) = place else {
        return write(out, Place::Outside);
    };
    if place == Place::Escape {
        // The backslash takes away the value's first character, and the text has to be read on.
        return write(out, place);
    }
    // A value leaves the place as it is. It goes past the machine, which would charge for an object as if it
    // were spelled anew. The text is taken out meanwhile, because lazy values run code of the machine.
    let mut limited = TEXT.with_borrow_mut(|text| std::mem::take(&mut text.limited));
    let written = write(&mut limited, place);
    TEXT.with_borrow_mut(|text| text.limited = limited);
    written
}

/// The output of a rendering; the text is kept apart from it.
pub struct Collector;

impl io::Write for Collector {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        TEXT.with_borrow_mut(|text| {
            text.heard = true;
            text.place = text.place.after(bytes);
            text.limited.write_all(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Text that does not become longer than it may.
#[derive(Default)]
pub struct Limited {
    pub bytes: Vec<u8>,
    bytes_max: usize,
}

impl Limited {
    pub fn new(bytes_max: usize) -> Limited {
        Limited {
            bytes: Vec::with_capacity(bytes_max.min(64)),
            bytes_max,
        }
    }
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max || !Toll::pay(bytes.len()) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        io::Write::write_all(self, text.as_bytes()).map_err(|_| fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_decide() {
        use Place::*;
        for (text, expected) in [
            ("", Outside),
            ("{", Outside),
            ("\\", Outside),
            ("{\"", Inside),
            ("{\"a\\", Escape),
            ("{\"a\\\"", Inside),
            ("{\"a\\\\", Inside),
            ("{\"a\\\\\"", Outside),
            ("{\"a\": \"", Inside),
            ("\"é\"", Outside),
        ] {
            assert_eq!(Outside.after(text.as_bytes()), expected, "{text}");
            for cut in 0..=text.len() {
                let (before, after) = text.as_bytes().split_at(cut);
                assert_eq!(Outside.after(before).after(after), expected, "{text}");
            }
        }
    }
}
