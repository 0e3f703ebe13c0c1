//! Fields of a record: how a record type is declared, written and read.
//!
//! The macro `record!` makes a structure whose fields stand in the log as `key=value`,
//! in the order of their declaration. Reading looks keys up by name: keys that the type does not know
//! are passed over, and of a key that stands twice the first counts.

use super::value::Value;
use super::{Fields, Record};
use core::fmt;

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// A key is missing.
    Missing(&'static str),
    /// The value of a key cannot be read.
    Garbled(&'static str),
    /// The body begins with another word than the record's.
    Word(&'static str),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Missing(key) => write!(f, "the key `{key}` is missing"),
            ParseError::Garbled(key) => write!(f, "the value of `{key}` cannot be read"),
            ParseError::Word(word) => write!(f, "the record does not begin with `{word}`"),
        }
    }
}

impl core::error::Error for ParseError {}

/// Writes `key=value` pairs with one space between them.
pub(super) struct Writer<'a, 'b> {
    pub(super) f: &'a mut fmt::Formatter<'b>,
    pub(super) begun: bool,
}

impl Writer<'_, '_> {
    /// Writes a pair. `key` is the key with a space before it and `=` after it, so that one write does.
    fn pair<'v>(&mut self, key: &str, value: &impl Value<'v>) -> fmt::Result {
        let begun = core::mem::replace(&mut self.begun, true);
        self.f.write_str(if begun { key } else { &key[1..] })?;
        value.write(self.f)
    }
}

/// A part of a record: one field, or a group of them.
pub(super) trait Part<'a>: Sized {
    /// Writes what there is of it. The key is as for [`Writer::pair`].
    fn write(&self, key: &'static str, to: &mut Writer<'_, '_>) -> fmt::Result;
    /// Finds it in a body.
    fn read(key: &'static str, from: &Fields<'a>) -> Result<Self, ParseError>;
    /// Calls back with each key that it may have.
    fn keys(key: &'static str, visit: &mut dyn FnMut(&'static str));
}

fn find<'a>(key: &'static str, from: &Fields<'a>) -> Option<&'a str> {
    from.clone().find(|(known, _)| *known == key).map(|(_, value)| value)
}

impl<'a, T: Value<'a>> Part<'a> for T {
    fn write(&self, key: &'static str, to: &mut Writer<'_, '_>) -> fmt::Result {
        to.pair(key, self)
    }

    fn read(key: &'static str, from: &Fields<'a>) -> Result<T, ParseError> {
        T::read(find(key, from).ok_or(ParseError::Missing(key))?).ok_or(ParseError::Garbled(key))
    }

    fn keys(key: &'static str, visit: &mut dyn FnMut(&'static str)) {
        visit(key);
    }
}

/// A field that is left out when there is nothing to say.
impl<'a, T: Value<'a>> Part<'a> for Option<T> {
    fn write(&self, key: &'static str, to: &mut Writer<'_, '_>) -> fmt::Result {
        self.as_ref().map_or(Ok(()), |value| to.pair(key, value))
    }

    fn read(key: &'static str, from: &Fields<'a>) -> Result<Option<T>, ParseError> {
        let Some(text) = find(key, from) else { return Ok(None) };
        T::read(text).map(Some).ok_or(ParseError::Garbled(key))
    }

    fn keys(key: &'static str, visit: &mut dyn FnMut(&'static str)) {
        visit(key);
    }
}

/// A record: what its type is called in the log, and how its body is written and read. Its `Display`
/// is the body.
pub trait LogRecord<'a>: Sized + fmt::Display {
    /// The kind in the record's head; one of [`super::kind`].
    const KIND: &'static str;
    /// The word that the body begins with, where records of one kind have different fields; or "".
    const WORD: &'static str;

    /// Reads a body.
    ///
    /// # Errors
    /// A key that is missing or garbled, by its name.
    fn parse(body: &'a str) -> Result<Self, ParseError>;

    /// Calls back with each key that the record may have, in their order.
    fn keys(visit: &mut dyn FnMut(&'static str));

    /// Reads a record, if it is of this kind.
    ///
    /// # Errors
    /// As [`LogRecord::parse`].
    fn of(record: &Record<'a>) -> Option<Result<Self, ParseError>> {
        (record.head.kind == Self::KIND).then(|| Self::parse(record.body))
    }
}

/// Declares a group of fields that several records have: `group!(Name<'a> { field: Type => "key", })`.
macro_rules! group {
    ($(#[$doc:meta])* $name:ident<$lt:lifetime> { $($body:tt)* }) => {
        $crate::record::field::group!(@all ($(#[$doc])*) $name $lt ($name<$lt>) <$lt> { $($body)* });
    };
    ($(#[$doc:meta])* $name:ident { $($body:tt)* }) => {
        $crate::record::field::group!(@all ($(#[$doc])*) $name 'r ($name) { $($body)* });
    };
    (@all ($(#[$doc:meta])*) $name:ident $lt:lifetime ($type:ty) $(<$own:lifetime>)? {
        $($(#[$field_doc:meta])* $field:ident: $field_type:ty => $key:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name $(<$own>)? { $($(#[$field_doc])* pub $field: $field_type,)* }

        impl $(<$own>)? core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let to = &mut $crate::record::field::Writer { f, begun: false };
                $crate::record::field::Part::write(self, "", to)
            }
        }

        impl<$lt> $crate::record::field::Part<$lt> for $type {
            fn write(
                &self,
                _: &'static str,
                to: &mut $crate::record::field::Writer<'_, '_>,
            ) -> core::fmt::Result {
                $($crate::record::field::Part::write(&self.$field, concat!(" ", $key, "="), to)?;)*
                Ok(())
            }

            fn read(
                _: &'static str,
                from: &$crate::record::Fields<$lt>,
            ) -> Result<Self, $crate::record::ParseError> {
                Ok($name { $($field: $crate::record::field::Part::read($key, from)?,)* })
            }

            fn keys(_: &'static str, visit: &mut dyn FnMut(&'static str)) {
                $(<$field_type as $crate::record::field::Part<$lt>>::keys($key, visit);)*
            }
        }

        /// All of the group, or nothing: it is there if its first key is.
        impl<$lt> $crate::record::field::Part<$lt> for Option<$type> {
            fn write(
                &self,
                key: &'static str,
                to: &mut $crate::record::field::Writer<'_, '_>,
            ) -> core::fmt::Result {
                match self {
                    Some(group) => $crate::record::field::Part::write(group, key, to),
                    None => Ok(()),
                }
            }

            fn read(
                key: &'static str,
                from: &$crate::record::Fields<$lt>,
            ) -> Result<Self, $crate::record::ParseError> {
                let first = [$($key),*][0];
                if !from.clone().any(|(known, _)| known == first) {
                    return Ok(None);
                }
                $crate::record::field::Part::read(key, from).map(Some)
            }

            fn keys(key: &'static str, visit: &mut dyn FnMut(&'static str)) {
                <$type as $crate::record::field::Part<$lt>>::keys(key, visit);
            }
        }
    };
}
pub(super) use group;

/// Declares a record: `record!(KIND "word", Name<'a> { field: Type => "key", })`.
macro_rules! record {
    ($(#[$doc:meta])* $kind:ident $word:literal, $name:ident<$lt:lifetime> { $($body:tt)* }) => {
        $crate::record::field::record!(
            @all ($(#[$doc])*) $kind $word $name $lt ($name<$lt>) <$lt> { $($body)* }
        );
    };
    ($(#[$doc:meta])* $kind:ident $word:literal, $name:ident { $($body:tt)* }) => {
        $crate::record::field::record!(
            @all ($(#[$doc])*) $kind $word $name 'r ($name) { $($body)* }
        );
    };
    (@all ($(#[$doc:meta])*) $kind:ident $word:literal $name:ident $lt:lifetime ($type:ty)
        $(<$own:lifetime>)? {
        $($(#[$field_doc:meta])* $field:ident: $field_type:ty => $key:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name $(<$own>)? { $($(#[$field_doc])* pub $field: $field_type,)* }

        impl $(<$own>)? core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str($word)?;
                let to = &mut $crate::record::field::Writer { f, begun: !$word.is_empty() };
                $($crate::record::field::Part::write(&self.$field, concat!(" ", $key, "="), to)?;)*
                Ok(())
            }
        }

        impl<$lt> $crate::record::LogRecord<$lt> for $type {
            const KIND: &'static str = $crate::record::kind::$kind;
            const WORD: &'static str = $word;

            fn parse(body: &$lt str) -> Result<Self, $crate::record::ParseError> {
                if !$word.is_empty() && body.split_ascii_whitespace().next() != Some($word) {
                    return Err($crate::record::ParseError::Word($word));
                }
                let fields = $crate::record::Fields::of(body);
                Ok($name { $($field: $crate::record::field::Part::read($key, &fields)?,)* })
            }

            fn keys(visit: &mut dyn FnMut(&'static str)) {
                $(<$field_type as $crate::record::field::Part<$lt>>::keys($key, visit);)*
            }
        }
    };
}
pub(super) use record;
