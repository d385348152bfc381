//! A field of a change, which may be absent.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A field of a change: absent leaves what there is, null clears it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    #[default]
    Absent,
    Null,
    Set(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    /// Needs `#[serde(default)]` beside it, which is what an absent field becomes.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Patch::given)
    }
}

impl<T: Serialize> Serialize for Patch<T> {
    /// Needs `#[serde(skip_serializing_if = "Patch::is_absent")]` beside it: an absent field is not
    /// written at all.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_set().serialize(serializer)
    }
}

impl<T> Patch<T> {
    pub fn given(value: Option<T>) -> Patch<T> {
        value.map_or(Patch::Null, Patch::Set)
    }

    pub fn is_absent(&self) -> bool {
        matches!(self, Patch::Absent)
    }

    pub fn as_set(&self) -> Option<&T> {
        match self {
            Patch::Set(value) => Some(value),
            Patch::Absent | Patch::Null => None,
        }
    }

    pub fn into_set(self) -> Option<T> {
        match self {
            Patch::Set(value) => Some(value),
            Patch::Absent | Patch::Null => None,
        }
    }

    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Patch<U> {
        match self {
            Patch::Absent => Patch::Absent,
            Patch::Null => Patch::Null,
            Patch::Set(value) => Patch::Set(change(value)),
        }
    }

    /// Changes the value; a value that becomes `None`, whose problem was noted elsewhere, counts as
    /// absent.
    pub fn and_then<U>(self, change: impl FnOnce(T) -> Option<U>) -> Patch<U> {
        match self {
            Patch::Absent => Patch::Absent,
            Patch::Null => Patch::Null,
            Patch::Set(value) => change(value).map_or(Patch::Absent, Patch::Set),
        }
    }

    /// Where a field can be cleared.
    pub fn apply_to_optional(self, field: &mut Option<T>) {
        match self {
            Patch::Absent => {}
            Patch::Null => *field = None,
            Patch::Set(value) => *field = Some(value),
        }
    }
}

impl<T: Default> Patch<T> {
    /// Where clearing means the default.
    pub fn apply_to(self, field: &mut T) {
        match self {
            Patch::Absent => {}
            Patch::Null => *field = T::default(),
            Patch::Set(value) => *field = value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_sets_clears_or_leaves() {
        for (patch, optional, plain) in [
            (Patch::Absent, Some(1), 1),
            (Patch::Null, None, 0),
            (Patch::Set(2), Some(2), 2),
        ] {
            let (mut first, mut second) = (Some(1), 1);
            patch.clone().apply_to_optional(&mut first);
            patch.apply_to(&mut second);
            assert_eq!((first, second), (optional, plain));
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        struct Example {
            #[serde(skip_serializing_if = "Patch::is_absent")]
            rate: Patch<u16>,
        }
        for (rate, text) in [
            (Patch::Absent, "{}"),
            (Patch::Null, r#"{"rate":null}"#),
            (Patch::Set(7), r#"{"rate":7}"#),
        ] {
            let example = Example { rate };
            assert_eq!(serde_json::to_string(&example).unwrap(), text);
            assert_eq!(serde_json::from_str::<Example>(text).unwrap(), example);
        }
    }
}
