//! Sizes as people write them: `64M`, `1 GiB`, `4096`.

use alloc::string::{String, ToString};
use core::fmt;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A number of bytes. In a manifest it is an integer, or text such as `64M`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl Size {
    /// Number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Parses digits with an optional binary unit: `K`, `M`, `G` or `T`, each with an optional `iB`
    /// or `B`, in upper or lower case, with or without a space before it. (The crate `parse-size`
    /// also accepts fractions, exponents and other units, so it can't take the place of this.)
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Size, String> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(alloc::format!("`{text}` is not a size: it has no digits in front"));
        }
        let number: u64 = number
            .parse()
            .map_err(|_| alloc::format!("`{text}` is not a size: it exceeds 64 bits"))?;
        let shift = match unit.trim().to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            "T" | "TB" | "TIB" => 40,
            _ => {
                return Err(alloc::format!(
                    "`{text}` is not a size: the unit must be K, M, G or T"
                ));
            }
        };
        number
            .checked_mul(1 << shift)
            .map(Size)
            .ok_or_else(|| alloc::format!("`{text}` is not a size: it exceeds 64 bits"))
    }
}

impl fmt::Display for Size {
    /// Uses the largest unit that leaves no remainder. [`Size::parse`] gives the same size again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("T", 40), ("G", 30), ("M", 20), ("K", 10)] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl core::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        Size::parse(text)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size: bytes, or text such as \"64M\"")
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::custom("a size can't be negative"))
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl serde::Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}
