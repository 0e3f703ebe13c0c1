//! Values of fields, as the log shows them.

use super::Who;
use crate::address::{Mfn, Pfn, Vaddr};
use crate::frame_map::{self, Run};
use crate::mmu::MemoryType;
use core::fmt::{self, Write};
use strum::{EnumString, IntoStaticStr, VariantArray};

/// A value behind `key=`.
pub(super) trait Value<'a>: Sized {
    /// Writes it.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    /// Reads it; quotation marks are removed already.
    fn read(text: &'a str) -> Option<Self>;
}

/// A number, decimal or `0x` hexadecimal.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

macro_rules! numbers {
    ($($type:ty: $format:literal, $make:expr;)*) => {$(
        impl Value<'_> for $type {
            fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self)
            }

            fn read(text: &str) -> Option<$type> {
                number(text).and_then($make)
            }
        }
    )*};
}
numbers! {
    u8: "{}", |number| number.try_into().ok();
    u16: "{}", |number| number.try_into().ok();
    u32: "{}", |number| number.try_into().ok();
    u64: "{}", Some;
    Mfn: "{}", |number| Some(Mfn::new(number));
    Pfn: "{}", |number| Some(Pfn::new(number));
    Vaddr: "{}", |number| Some(Vaddr::new(number));
    Hex: "{}", |number| Some(Hex(number));
    Hex16: "{}", |number| Some(Hex16(number));
}

/// A number in hexadecimal: `0x1a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A number in 16 hexadecimal digits: page-table entries, descriptors, words of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex16(pub u64);

impl fmt::Display for Hex16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

macro_rules! switches {
    ($($(#[$doc:meta])* $name:ident: $on:literal $off:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub bool);

        impl Value<'_> for $name {
            fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(if self.0 { $on } else { $off })
            }

            fn read(text: &str) -> Option<$name> {
                match text {
                    $on => Some($name(true)),
                    $off => Some($name(false)),
                    _ => None,
                }
            }
        }
    )*};
}
switches! {
    /// `yes` or `no`.
    YesNo: "yes" "no";
    /// `on` or `off`.
    OnOff: "on" "off";
    /// `1` or `0`.
    Bit: "1" "0";
}

/// A value that may be unknown: `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maybe<T>(pub Option<T>);

impl<'a, T: Value<'a>> Value<'a> for Maybe<T> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.write(f),
            None => f.write_str("none"),
        }
    }

    fn read(text: &'a str) -> Option<Maybe<T>> {
        if text == "none" {
            Some(Maybe(None))
        } else {
            T::read(text).map(|value| Maybe(Some(value)))
        }
    }
}

/// A bare word.
impl<'a> Value<'a> for &'a str {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }

    fn read(text: &'a str) -> Option<&'a str> {
        Some(text)
    }
}

/// `hv`, `d1` or `d1v0`.
impl Value<'_> for Who {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }

    fn read(text: &str) -> Option<Who> {
        Who::parse(text)
    }
}

/// A time in microseconds that is followed by its unit: `17 us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Micros(pub u64);

impl Value<'_> for Micros {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} us", self.0)
    }

    fn read(text: &str) -> Option<Micros> {
        number(text).map(Micros)
    }
}

/// Text in quotation marks. What is not printable ASCII, and quotation marks, are written as `?`.
#[derive(Clone, Copy)]
pub enum Text<'a> {
    /// Text as read.
    Str(&'a str),
    /// Bytes that a guest chose; NULs at the end are left out.
    Bytes(&'a [u8]),
    /// Text that is made when it is written.
    Shown(&'a dyn fmt::Display),
}

impl<'a> Text<'a> {
    /// The text, if it was read; empty if it was made to be written.
    pub const fn as_str(self) -> &'a str {
        match self {
            Text::Str(text) => text,
            Text::Bytes(_) | Text::Shown(_) => "",
        }
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut clean = Clean(f);
        match self {
            Text::Str(text) => clean.write_str(text),
            Text::Bytes(bytes) => {
                let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                bytes[..end].iter().try_for_each(|&byte| clean.write_char(byte.into()))
            }
            Text::Shown(shown) => write!(clean, "{shown}"),
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Compares what was read; text that was never written out equals nothing.
impl PartialEq for Text<'_> {
    fn eq(&self, other: &Text<'_>) -> bool {
        matches!((self, other), (Text::Str(one), Text::Str(two)) if one == two)
    }
}

impl<'a> Value<'a> for Text<'a> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        fmt::Display::fmt(self, f)?;
        f.write_char('"')
    }

    fn read(text: &'a str) -> Option<Text<'a>> {
        Some(Text::Str(text))
    }
}

/// A bare word that may be made when it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Word<'a>(pub Text<'a>);

impl<'a> Value<'a> for Word<'a> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }

    fn read(text: &'a str) -> Option<Word<'a>> {
        Some(Word(Text::Str(text)))
    }
}

/// Passes on what may stand in quotation marks.
struct Clean<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Clean<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let is_clean = |c: char| (' '..='~').contains(&c) && c != '"';
        if text.chars().all(is_clean) {
            return self.0.write_str(text);
        }
        text.chars().try_for_each(|c| self.0.write_char(if is_clean(c) { c } else { '?' }))
    }
}

macro_rules! lists {
    ($($(#[$doc:meta])* $name:ident of $item:ty, $items:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name<'a> {
            /// To be written.
            Items(&'a [$item]),
            /// As read.
            Text(&'a str),
        }

        impl $name<'_> {
            /// The items, as far as they can be read.
            pub fn iter(&self) -> impl Iterator<Item = $item> + '_ {
                let (items, text): (&[$item], &str) = match self {
                    $name::Items(items) => (items, ""),
                    $name::Text(text) => (&[], text),
                };
                items.iter().copied().chain($items(text))
            }
        }

        impl PartialEq for $name<'_> {
            fn eq(&self, other: &$name<'_>) -> bool {
                self.iter().eq(other.iter())
            }
        }
    )*};
}
lists! {
    /// Addresses with commas between them: `0x10,0x20`.
    Addresses of u64, addresses;
    /// What frames are in use as, in quotation marks: see [`crate::frame_map`].
    Map of Run, frame_map::runs;
}

fn addresses(text: &str) -> impl Iterator<Item = u64> + '_ {
    text.split(',').map_while(number)
}

impl<'a> Value<'a> for Addresses<'a> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, address) in self.iter().enumerate() {
            f.write_str(if number == 0 { "" } else { "," })?;
            write!(f, "{address:#x}")?;
        }
        Ok(())
    }

    fn read(text: &'a str) -> Option<Addresses<'a>> {
        text.split(',').all(|word| number(word).is_some()).then_some(Addresses::Text(text))
    }
}

impl<'a> Value<'a> for Map<'a> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for (number, run) in self.iter().enumerate() {
            f.write_str(if number == 0 { "" } else { " " })?;
            fmt::Display::fmt(&run, f)?;
        }
        f.write_char('"')
    }

    fn read(text: &'a str) -> Option<Map<'a>> {
        Some(Map::Text(text))
    }
}

/// A set of memory types: `wb.wc.`, in the order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryTypes(
    /// Bit n stands for the type of number n.
    pub u8,
);

impl Value<'_> for MemoryTypes {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MemoryType::ALL
            .into_iter()
            .filter(|one| self.0 & 1 << *one as u8 != 0)
            .try_for_each(|one| write!(f, "{}.", one.name()))
    }

    fn read(text: &str) -> Option<MemoryTypes> {
        text.split_terminator('.').try_fold(MemoryTypes(0), |MemoryTypes(bits), name| {
            let one = MemoryType::ALL.into_iter().find(|one| one.name() == name)?;
            Some(MemoryTypes(bits | 1 << one as u8))
        })
    }
}

/// What the guest says of a mapping in a named range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum MappingState {
    /// In use, as far as the guest has said.
    Live,
    /// The guest has freed the page, and not cleared its entry yet.
    Dead,
    /// What the guest says of it cannot be read.
    Unknown,
}

impl Value<'_> for MappingState {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.into())
    }

    fn read(text: &str) -> Option<MappingState> {
        text.parse().ok()
    }
}
