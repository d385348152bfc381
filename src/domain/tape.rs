//! JSON as a flat list of its values, in one pass over the text.
//!
//! A [`Tape`] is made of a text that a parser has found to be JSON, and knows only the places in it.
//! Nothing is copied: texts keep their escapes and numbers their spelling until somebody asks for
//! them. A text that is no JSON makes no tape, or one of other values, and no panic.

use std::borrow::Cow;

/// The values of a text, each before those inside it.
#[derive(Debug)]
pub struct Tape {
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    /// Where its text begins and ends; that of a string without its quotes.
    from: u32,
    to: u32,
    /// The place of the first node that is not inside this one.
    next: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    True,
    False,
    Number,
    Text,
    /// A text with escapes in it.
    EscapedText,
    List,
    Object,
}

impl Tape {
    pub fn of(text: &str) -> Option<Tape> {
        let bytes = text.as_bytes();
        // So that every place fits its type.
        u32::try_from(bytes.len()).ok()?;
        let mut nodes = Vec::with_capacity(bytes.len() / 12 + 1);
        let mut open: Vec<usize> = Vec::with_capacity(16);
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let kind = match byte {
                b' ' | b'\n' | b'\r' | b'\t' | b',' | b':' => {
                    at += 1;
                    continue;
                }
                b'}' | b']' => {
                    let next = nodes.len() as u32;
                    let node: &mut Node = &mut nodes[open.pop()?];
                    at += 1;
                    (node.to, node.next) = (at as u32, next);
                    continue;
                }
                b'{' => Kind::Object,
                b'[' => Kind::List,
                b'"' => Kind::Text,
                b'n' => Kind::Null,
                b't' => Kind::True,
                b'f' => Kind::False,
                _ => Kind::Number,
            };
            let place = nodes.len();
            let (kind, from, to) = match kind {
                Kind::Object | Kind::List => {
                    open.push(place);
                    (kind, at, at + 1)
                }
                Kind::Text => {
                    let (end, is_escaped) = text_end(bytes, at + 1)?;
                    let kind = if is_escaped { Kind::EscapedText } else { kind };
                    (kind, at + 1, end)
                }
                _ => (kind, at, word_end(bytes, at + 1)),
            };
            at = to + usize::from(matches!(kind, Kind::Text | Kind::EscapedText));
            nodes.push(Node {
                kind,
                from: from as u32,
                to: to as u32,
                next: place as u32 + 1,
            });
        }
        let is_one = nodes.first()?.next as usize == nodes.len();
        (is_one && open.is_empty()).then_some(Tape { nodes })
    }

    /// The value of the whole text, which is the one that the tape was made of.
    pub fn value<'a>(&'a self, text: &'a str) -> Value<'a> {
        Value {
            text,
            nodes: &self.nodes,
            at: 0,
        }
    }
}

/// The place of the quote that ends a string, and whether there are escapes before it.
fn text_end(bytes: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut is_escaped = false;
    loop {
        match bytes.get(at)? {
            b'"' => return Some((at, is_escaped)),
            b'\\' => {
                is_escaped = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
}

/// The end of a number or a word.
fn word_end(bytes: &[u8], from: usize) -> usize {
    let is_end = |byte: &u8| {
        matches!(
            byte,
            b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' | b':'
        )
    };
    let more = bytes[from..].iter().position(is_end);
    more.map_or(bytes.len(), |more| from + more)
}

/// One value of a tape.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    text: &'a str,
    nodes: &'a [Node],
    at: usize,
}

impl<'a> Value<'a> {
    fn node(self) -> Node {
        self.nodes[self.at]
    }

    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Its text: of a string without its quotes, and with its escapes.
    pub fn raw(self) -> &'a str {
        let node = self.node();
        let text = self.text.get(node.from as usize..node.to as usize);
        text.unwrap_or_default()
    }

    /// Where it stands in the whole text, with the quotes of a string.
    pub fn place(self) -> std::ops::Range<usize> {
        let node = self.node();
        let quote = usize::from(matches!(node.kind, Kind::Text | Kind::EscapedText));
        node.from as usize - quote..node.to as usize + quote
    }

    /// Its text as it stands in the whole text.
    pub fn json(self) -> &'a str {
        self.text.get(self.place()).unwrap_or_default()
    }

    /// The text of a string. One that is no text, for half a character, is empty.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self.kind() {
            Kind::Text => Some(Cow::Borrowed(self.raw())),
            Kind::EscapedText => {
                let text = serde_json::from_str::<String>(self.json());
                Some(Cow::Owned(text.unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// Whether it is this text.
    pub fn is_text(self, wanted: &str) -> bool {
        match self.kind() {
            Kind::Text => self.raw() == wanted,
            Kind::EscapedText => self.text().as_deref() == Some(wanted),
            _ => false,
        }
    }

    /// The values of a list.
    pub fn items(self) -> Values<'a> {
        let node = self.node();
        Values {
            all: self,
            at: self.at + 1,
            end: match node.kind {
                Kind::List => node.next as usize,
                _ => 0,
            },
        }
    }

    /// The names and values of an object, in their order; a name may come twice.
    pub fn members(self) -> Members<'a> {
        let node = self.node();
        Members(Values {
            all: self,
            at: self.at + 1,
            end: match node.kind {
                Kind::Object => node.next as usize,
                _ => 0,
            },
        })
    }
}

#[derive(Clone)]
pub struct Values<'a> {
    all: Value<'a>,
    at: usize,
    end: usize,
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        if self.at >= self.end {
            return None;
        }
        let value = Value {
            at: self.at,
            ..self.all
        };
        self.at = value.node().next as usize;
        Some(value)
    }
}

#[derive(Clone)]
pub struct Members<'a>(Values<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Value<'a>, Value<'a>);

    fn next(&mut self) -> Option<(Value<'a>, Value<'a>)> {
        Some((self.0.next()?, self.0.next()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Parsed;

    use super::*;

    fn parsed(value: Value<'_>) -> Parsed {
        match value.kind() {
            Kind::Null => Parsed::Null,
            Kind::True => true.into(),
            Kind::False => false.into(),
            Kind::Number => serde_json::from_str(value.raw()).unwrap(),
            Kind::Text | Kind::EscapedText => value.text().unwrap().into_owned().into(),
            Kind::List => value.items().map(parsed).collect(),
            Kind::Object => {
                let members = value.members();
                let members =
                    members.map(|(name, value)| (name.text().unwrap().into_owned(), parsed(value)));
                Parsed::Object(members.collect())
            }
        }
    }

    fn any_json() -> impl Strategy<Value = Parsed> {
        let leaf = prop_oneof![
            Just(Parsed::Null),
            any::<bool>().prop_map(Parsed::from),
            any::<i64>().prop_map(Parsed::from),
            "\\PC{0,5}".prop_map(Parsed::from),
            "[\"\\\\\n\u{1}a{}:,]{0,5}".prop_map(Parsed::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Parsed::from),
                prop::collection::btree_map("[a\"\\\\]{0,3}", inner, 0..5)
                    .prop_map(|map| Parsed::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_values_are_those_that_a_parser_finds(json in any_json(), pretty: bool) {
            let text = match pretty {
                true => serde_json::to_string_pretty(&json).unwrap(),
                false => json.to_string(),
            };
            let tape = Tape::of(&text).unwrap();
            prop_assert_eq!(parsed(tape.value(&text)), json);
            prop_assert_eq!(&text[tape.value(&text).place()], text.trim());
        }

        #[test]
        fn no_text_panics(text in "[\\[\\]{}\",:a0tfn\\\\u\\n é-]{0,40}") {
            if let Some(tape) = Tape::of(&text) {
                let _ = format!("{:?}", visit(tape.value(&text)));
            }
        }
    }

    fn visit(value: Value<'_>) -> usize {
        let items = value
            .items()
            .chain(value.members().flat_map(|(name, value)| [name, value]));
        let inside: usize = items.map(|one| visit(one)).sum();
        inside + value.text().map_or(value.raw().len(), |text| text.len())
    }

    #[test]
    fn spelling_stays_and_places_are_those_of_the_text() {
        let text = r#" {"a": [1.10, "x\u00e9", true], "b":{}} "#;
        let tape = Tape::of(text).unwrap();
        let (name, list) = tape.value(text).members().next().unwrap();
        assert!(name.is_text("a") && !name.is_text("b"));
        let items: Vec<Value<'_>> = list.items().collect();
        assert_eq!((items[0].raw(), items[0].kind()), ("1.10", Kind::Number));
        assert!(items[1].is_text("xé"));
        assert_eq!(&text[items[1].place()], "\"x\\u00e9\"");
        assert_eq!(&text[list.place()], r#"[1.10, "x\u00e9", true]"#);
        for not_json in ["", "]", "[", "{", "\"", "[]]", "1 2", "\"a\\"] {
            assert!(Tape::of(not_json).is_none(), "{not_json}");
        }
    }
}
