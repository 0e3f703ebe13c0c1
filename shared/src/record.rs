//! The log record: one line that a person reads and a program parses.
//!
//! `[  12.345678] d1v0 ALIAS id=7 op=pin_l1 frame=0x1a2b region="xfs_buf"`
//!
//! Time since boot in seconds; who it is about (`hv`, `d1`, `d1v0`); the record's kind in
//! capitals; fields `key=value`, the value quoted when it has blanks (no quotes, no line ends
//! inside: [`Quoted`] replaces them). Lines that continue a record carry the same `id`. What a
//! guest prints itself has the kind [`kind::CONSOLE`] and free text behind it.

use core::fmt;

/// Kinds of records.
pub mod kind {
    /// Text that a guest wrote to its console; the rest of the line is free.
    pub const CONSOLE: &str = "|";
    /// A pin or update met an alias: head of a report.
    pub const ALIAS: &str = "ALIAS";
    /// One mapping in the way, of the ALIAS with the same id.
    pub const MAPPING: &str = "MAPPING";
    /// An operation on memory was refused for another reason.
    pub const REFUSED: &str = "REFUSED";
    /// A line of the guest's own ([`crate::pinfold::Command::Mark`]).
    pub const MARK: &str = "MARK";
    /// A domain was built and starts.
    pub const START: &str = "START";
    /// A domain could not be built.
    pub const NOSTART: &str = "NOSTART";
    /// A domain ended by itself.
    pub const SHUTDOWN: &str = "SHUTDOWN";
    /// A domain was ended by the hypervisor; register and stack lines follow.
    pub const CRASH: &str = "CRASH";
    /// One line of a register or stack dump.
    pub const DUMP: &str = "DUMP";
    /// A line of the audit.
    pub const AUDIT: &str = "AUDIT";
    /// What some frames of a domain are: see [`crate::frame_map`].
    pub const FRAMES: &str = "FRAMES";
    /// A mapping of another memory type was met: head of a report, as ALIAS is.
    pub const CACHE: &str = "CACHE";
    /// A pin that had met the ALIAS with the same id went through when tried again.
    pub const HEALED: &str = "HEALED";
    /// Who has the keyboard now, and what the hypervisor answers to its keys.
    pub const INPUT: &str = "INPUT";
    /// The hypervisor panicked.
    pub const PANIC: &str = "PANIC";
    /// Records of a domain were left out.
    pub const DROPPED: &str = "DROPPED";
    /// How long a processor kept others waiting at most, over the whole run.
    pub const LATENCY: &str = "LATENCY";
    /// The last record of a run: how it all ended.
    pub const END: &str = "END";
}

/// Whom a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The hypervisor.
    Hypervisor,
    /// A domain.
    Domain(u16),
    /// A vCPU: domain and number.
    Vcpu(u16, u16),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Hypervisor => f.write_str("hv"),
            Who::Domain(domain) => write!(f, "d{domain}"),
            Who::Vcpu(domain, vcpu) => write!(f, "d{domain}v{vcpu}"),
        }
    }
}

impl Who {
    fn parse(word: &str) -> Option<Who> {
        if word == "hv" {
            return Some(Who::Hypervisor);
        }
        let rest = word.strip_prefix('d')?;
        Some(match rest.split_once('v') {
            Some((domain, vcpu)) => Who::Vcpu(domain.parse().ok()?, vcpu.parse().ok()?),
            None => Who::Domain(rest.parse().ok()?),
        })
    }
}

/// What every record begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Microseconds since boot.
    pub micros: u64,
    /// Whom it is about.
    pub who: Who,
    /// One of [`kind`], or a log level's name.
    pub kind: &'a str,
}

impl fmt::Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.micros / 1_000_000, self.micros % 1_000_000);
        write!(f, "[{seconds:>4}.{micros:06}] {} {}", self.who, self.kind)
    }
}

/// A record as read from a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Time, who and kind.
    pub head: Head<'a>,
    /// The rest of the line: fields or free text.
    pub body: &'a str,
}

impl<'a> Record<'a> {
    /// Reads a line; `None` if it is not a record.
    pub fn parse(line: &'a str) -> Option<Record<'a>> {
        let (time, rest) = line.trim_end().strip_prefix('[')?.split_once("] ")?;
        let (seconds, micros) = time.trim_start().split_once('.')?;
        if micros.len() != 6 {
            return None;
        }
        let seconds: u64 = seconds.parse().ok()?;
        let micros: u64 = micros.parse().ok()?;
        let (who, rest) = rest.split_once(' ')?;
        let (kind, body) = rest.split_once(' ').unwrap_or((rest, ""));
        let micros = seconds.checked_mul(1_000_000)?.checked_add(micros)?;
        let head = Head { micros, who: Who::parse(who)?, kind };
        Some(Record { head, body })
    }

    /// The fields of the body, in order; words that are not `key=value` are passed over.
    pub fn fields(&self) -> Fields<'a> {
        Fields { rest: self.body }
    }

    /// The value of a field.
    pub fn field(&self, key: &str) -> Option<&'a str> {
        self.fields().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// The value of a field that is a number, decimal or `0x` hexadecimal.
    pub fn number(&self, key: &str) -> Option<u64> {
        let value = self.field(key)?;
        match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => value.parse().ok(),
        }
    }
}

/// Iterator over `key=value` fields.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a str,
}

impl<'a> Fields<'a> {
    /// The fields of a text: a record's body, or what a guest printed.
    pub const fn of(text: &'a str) -> Fields<'a> {
        Fields { rest: text }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.is_empty() {
                return None;
            }
            let word_end = self.rest.find(' ').unwrap_or(self.rest.len());
            let Some(equals) = self.rest[..word_end].find('=') else {
                self.rest = &self.rest[word_end..];
                continue;
            };
            let (key, value) = (&self.rest[..equals], &self.rest[equals + 1..]);
            if let Some(quoted) = value.strip_prefix('"') {
                let end = quoted.find('"').unwrap_or(quoted.len());
                self.rest = quoted.get(end + 1..).unwrap_or("");
                return Some((key, &quoted[..end]));
            }
            let end = word_end - equals - 1;
            self.rest = &value[end..];
            return Some((key, &value[..end]));
        }
    }
}

/// Shows bytes as a quoted value: what is not printable ASCII, and quotes, become `?`; trailing
/// NULs are left out.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        f.write_str("\"")?;
        for &byte in &self.0[..end] {
            let shown =
                if (b' '..=b'~').contains(&byte) && byte != b'"' { byte as char } else { '?' };
            fmt::Write::write_char(f, shown)?;
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;
    use std::vec::Vec;

    #[test]
    fn a_record_reads_back_what_was_written() {
        let head = Head { micros: 12_345_678, who: Who::Vcpu(1, 0), kind: kind::ALIAS };
        let line =
            format!("{head} id=7 op=pin_l1 frame=0x1a2b region={}", Quoted(b"xfs \"buf\0\0"));
        assert_eq!(
            line,
            "[  12.345678] d1v0 ALIAS id=7 op=pin_l1 frame=0x1a2b region=\"xfs ?buf\""
        );
        let record = Record::parse(&line).unwrap();
        assert_eq!(record.head, head);
        assert_eq!(record.number("id"), Some(7));
        assert_eq!(record.number("frame"), Some(0x1a2b));
        assert_eq!(record.field("region"), Some("xfs ?buf"));
        assert_eq!(record.field("none"), None);
    }

    #[test]
    fn garbled_lines_are_not_records() {
        for line in [
            "",
            "[",
            "[x.y] hv END",
            "[ 1.2] hv END",
            "[ 1.000000] who END",
            "[99999999999999999999.000000] hv END",
        ] {
            assert_eq!(Record::parse(line), None, "{line}");
        }
    }

    #[test]
    fn an_unclosed_quote_ends_with_the_line() {
        let record = Record::parse("[   0.000001] hv MARK a=1 b=\"half").unwrap();
        let fields: Vec<_> = record.fields().collect();
        assert_eq!(fields, [("a", "1"), ("b", "half")]);
    }
}
