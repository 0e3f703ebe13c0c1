//! The log record: one line that a person reads and a program parses.
//!
//! `[  12.345678] d1v0 ALIAS id=7 op=pin_l1 frame=0x1a2b region="xfs_buf"`
//!
//! Time since boot in seconds; who it is about (`hv`, `d1`, `d1v0`); the record's kind in
//! capitals; fields `key=value`, the value quoted when it has blanks (no quotes, no line ends
//! inside: [`Text`] replaces them). Lines that continue a record carry the same `id`. What a
//! guest prints itself has the kind [`kind::CONSOLE`] and free text behind it.

mod audit;
mod domain;
mod event;
mod field;
mod guest;
mod machine;
#[cfg(test)]
mod tests;
mod value;
mod violation;

pub use audit::{AuditSummary, Canary, Discrepancy, Heap, Leftovers, Teardown};
pub use domain::{
    Crash, CrashIdle, Dropped, DumpFrame, DumpStack, DumpUnreadable, FrameUses, MarkText, NoStart,
    Shutdown, Start,
};
pub use event::Event;
pub use field::{LogRecord, ParseError};
pub use guest::{CurveLine, ScenarioLine, Verdict};
pub use machine::{
    CpuFlaw, End, InputDomain, InputKeys, InputTo, IsolationCheck, IsolationMode, Latency,
    PanicTrap, Switches,
};
pub use value::{
    Addresses, Bit, Hex, Hex16, Map, MappingState, Maybe, MemoryTypes, Micros, OnOff, Text, Word,
    YesNo,
};
pub use violation::{Alias, Cache, Evidence, Healed, Location, Mapping, Refused, SearchEnd, Seen};

use core::fmt;

/// Kinds of records.
pub mod kind {
    /// What the hypervisor says of its progress.
    pub const INFO: &str = "INFO";
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

    /// Number of the report that the record belongs to; for records that cannot be read in full.
    pub fn report_id(&self) -> Option<u64> {
        self.number("id")
    }

    /// The value of a field that is a number, decimal or `0x` hexadecimal.
    pub fn number(&self, key: &str) -> Option<u64> {
        value::number(self.field(key)?)
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
