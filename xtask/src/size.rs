//! Sizes as people write them: `64M`, `2G`, `512K`; a bare number is MiB, as with QEMU.

use std::fmt;
use std::str::FromStr;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A size in bytes, always a whole number of 4 KiB pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(u64);

impl Size {
    /// A size of so many MiB.
    pub(crate) const fn mib(count: u64) -> Size {
        Size(count * MIB)
    }

    /// The size in bytes.
    pub(crate) fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let lower = text.trim().to_ascii_lowercase();
        let lower = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
        let (digits, unit) = match lower.chars().last() {
            Some('k') => (&lower[..lower.len() - 1], KIB),
            Some('m') => (&lower[..lower.len() - 1], MIB),
            Some('g') => (&lower[..lower.len() - 1], GIB),
            _ => (lower, MIB),
        };
        let count: u64 = digits
            .parse()
            .map_err(|_| format!("`{text}` is not a size: write it like 64M, 2G or 512K"))?;
        let bytes = count.checked_mul(unit).ok_or_else(|| format!("`{text}` is too large"))?;
        if bytes == 0 {
            return Err("a size must not be zero".into());
        }
        if bytes % 4096 != 0 {
            return Err(format!("`{text}` is not a whole number of 4 KiB pages"));
        }
        Ok(Size(bytes))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % GIB == 0 => write!(f, "{}G", bytes / GIB),
            bytes if bytes % MIB == 0 => write!(f, "{}M", bytes / MIB),
            bytes => write!(f, "{}K", bytes / KIB),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, shown) in [
            ("64", 64 << 20, "64M"),
            ("64M", 64 << 20, "64M"),
            ("64MiB", 64 << 20, "64M"),
            ("2g", 2 << 30, "2G"),
            ("1024M", 1 << 30, "1G"),
            ("12k", 12 << 10, "12K"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.bytes(), bytes, "{text}");
            assert_eq!(size.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "M", "-1M", "0", "1.5G", "3K", "99999999999G", "64T", "é"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
