//! Who writes to the log, and how much of the buffer each may hold.

use crate::sizes::{MAX_RECORD, OVERHEAD};
use pinfold_abi::record::{Who, kind};

/// Most domains that have quotas of their own.
pub const MAX_DOMAINS: usize = 64;
/// Number of sources that belong to no domain.
const COMMON: usize = 2;
/// Number of sources of one domain.
const PER_DOMAIN: usize = 3;
/// Number of all sources.
pub(crate) const SOURCES: usize = COMMON + MAX_DOMAINS * PER_DOMAIN;
const _: () = assert!(SOURCES <= 256, "a stored record names its source in one byte");

/// Who writes. Each source has its own quota. Numbers are domain numbers, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Records about the machine: audits, keyboard input, panics, the end of the run.
    Hypervisor,
    /// Lines of the `log` macros.
    Messages,
    /// Start, end and crash of a domain.
    Lifecycle(u16),
    /// Records about a domain's requests: violations, refusals, marks, frame maps.
    Reports(u16),
    /// What a domain prints.
    Console(u16),
}

impl Source {
    /// The source that a record is charged to, by whom it is about and its kind.
    pub fn of(who: Who, record: &str) -> Source {
        let (Who::Domain(domain) | Who::Vcpu(domain, _)) = who else {
            return match record {
                kind::AUDIT | kind::INPUT | kind::NOSTART | kind::PANIC | kind::END => {
                    Source::Hypervisor
                }
                _ => Source::Messages,
            };
        };
        match record {
            // Few per domain, and they must not be lost: each confirms that memory was freed.
            kind::AUDIT => Source::Hypervisor,
            kind::START | kind::NOSTART | kind::SHUTDOWN | kind::CRASH | kind::DUMP => {
                Source::Lifecycle(domain)
            }
            kind::DROPPED | kind::INPUT => Source::Lifecycle(domain),
            kind::CONSOLE => Source::Console(domain),
            _ => Source::Reports(domain),
        }
    }

    /// Whom the DROPPED records of the source are about.
    pub fn subject(self) -> Who {
        match self {
            Source::Hypervisor | Source::Messages => Who::Hypervisor,
            Source::Lifecycle(domain) | Source::Reports(domain) | Source::Console(domain) => {
                Who::Domain(domain)
            }
        }
    }

    /// The name in DROPPED records (field `of`).
    pub const fn name(self) -> &'static str {
        match self {
            Source::Hypervisor => "hypervisor",
            Source::Messages => "messages",
            Source::Lifecycle(_) => "lifecycle",
            Source::Reports(_) => "reports",
            Source::Console(_) => "console",
        }
    }

    /// The source that is charged for a DROPPED record about this one when no further record of its
    /// own brings it along.
    pub(crate) fn charged_for_dropped(self) -> Source {
        match self {
            Source::Hypervisor | Source::Messages => Source::Hypervisor,
            Source::Lifecycle(domain) | Source::Reports(domain) | Source::Console(domain) => {
                Source::Lifecycle(domain)
            }
        }
    }

    /// Index into a table of [`SOURCES`]. A domain number out of range counts as
    /// [`Source::Messages`].
    pub(crate) fn index(self) -> usize {
        let index = |domain: u16, kind: usize| {
            let domain = usize::from(domain);
            if (1..=MAX_DOMAINS).contains(&domain) {
                COMMON + (domain - 1) * PER_DOMAIN + kind
            } else {
                Source::Messages.index()
            }
        };
        match self {
            Source::Hypervisor => 0,
            Source::Messages => 1,
            Source::Lifecycle(domain) => index(domain, 0),
            Source::Reports(domain) => index(domain, 1),
            Source::Console(domain) => index(domain, 2),
        }
    }

    /// The inverse of [`Source::index`].
    pub(crate) fn from_index(index: usize) -> Source {
        let Some(of_domains) = index.checked_sub(COMMON) else {
            return if index == 0 { Source::Hypervisor } else { Source::Messages };
        };
        #[expect(clippy::cast_possible_truncation, reason = "below `MAX_DOMAINS`")]
        let domain = (of_domains / PER_DOMAIN) as u16 + 1;
        match of_domains % PER_DOMAIN {
            0 => Source::Lifecycle(domain),
            1 => Source::Reports(domain),
            _ => Source::Console(domain),
        }
    }
}

/// Bytes that each source may hold in the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    hypervisor: usize,
    messages: usize,
    lifecycle: usize,
    reports: usize,
    console: usize,
    domains: usize,
}

impl Quotas {
    /// All quotas are zero.
    pub const fn none() -> Quotas {
        Quotas { hypervisor: 0, messages: 0, lifecycle: 0, reports: 0, console: 0, domains: 0 }
    }

    /// Divides a buffer of `capacity` bytes among the hypervisor and `domains` domains (1 to
    /// [`MAX_DOMAINS`]; other numbers are clamped).
    ///
    /// The hypervisor and the messages get a sixteenth each, each domain an equal share of the
    /// rest. Of that share, the domain's start and end come first. Its console gets little, since a
    /// guest that prints waits for room instead of losing text; reports can't wait and get the rest.
    pub fn divide(capacity: usize, domains: usize) -> Quotas {
        /// A crash with its registers and stack is 1.4 KB.
        const LIFECYCLE: usize = 2048;
        /// Most for the console of one domain: 0.7 s of output at 115,200 baud.
        const CONSOLE: usize = 8 * 1024;
        /// Most for the reports of one domain: it bounds how far the log lags behind (11 s).
        const REPORTS: usize = 128 * 1024;
        let domains = domains.clamp(1, MAX_DOMAINS);
        let own = capacity / 16;
        let share = (capacity - 2 * own) / domains;
        let lifecycle = LIFECYCLE.min(share / 3);
        let console = CONSOLE.min((share - lifecycle) / 3);
        let reports = REPORTS.min(share - lifecycle - console);
        Quotas { hypervisor: own, messages: own, lifecycle, reports, console, domains }
    }

    /// Bytes that a source may hold.
    pub fn of(&self, source: Source) -> usize {
        match source {
            Source::Hypervisor => self.hypervisor,
            Source::Messages => self.messages,
            Source::Lifecycle(_) => self.lifecycle,
            Source::Reports(_) => self.reports,
            Source::Console(_) => self.console,
        }
    }

    /// Sum of all quotas in bytes.
    pub fn total(&self) -> usize {
        let domain = self.lifecycle + self.reports + self.console;
        self.hypervisor + self.messages + self.domains * domain
    }

    /// Whether the longest record fits into each quota.
    pub fn fit_longest_record(&self) -> bool {
        let least = self.lifecycle.min(self.reports).min(self.console);
        least.min(self.hypervisor).min(self.messages) >= MAX_RECORD + OVERHEAD
    }
}
