//! Who writes to the log, and how much room each of them has.

use crate::buffer::{MAX_RECORD, OVERHEAD};
use pinfold_abi::record::{Who, kind};

/// Domains that can have room of their own.
pub const MAX_DOMAINS: usize = 64;
/// Sources that belong to no domain.
const COMMON: usize = 2;
/// Sources of one domain.
const PER_DOMAIN: usize = 3;
/// All sources.
pub(crate) const SOURCES: usize = COMMON + MAX_DOMAINS * PER_DOMAIN;

/// Who writes: each source has room of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Records about the machine: audits, what the keyboard does, the end.
    Hypervisor,
    /// Lines of the `log` macros.
    Messages,
    /// How a domain starts and ends, its crash included.
    Lifecycle(u16),
    /// What is told of a domain's requests: violations, refusals, marks, frame maps.
    Reports(u16),
    /// What a domain prints.
    Console(u16),
}

impl Source {
    /// The source that a record is charged to by what it says.
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
            // Each domain has few of these, and all of them tell of memory that was proven free.
            kind::AUDIT => Source::Hypervisor,
            kind::START | kind::NOSTART | kind::SHUTDOWN | kind::CRASH | kind::DUMP => {
                Source::Lifecycle(domain)
            }
            kind::DROPPED | kind::INPUT => Source::Lifecycle(domain),
            kind::CONSOLE => Source::Console(domain),
            _ => Source::Reports(domain),
        }
    }

    /// Whom records about the source are about.
    pub fn who(self) -> Who {
        match self {
            Source::Hypervisor | Source::Messages => Who::Hypervisor,
            Source::Lifecycle(domain) | Source::Reports(domain) | Source::Console(domain) => {
                Who::Domain(domain)
            }
        }
    }

    /// Its name in DROPPED records.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Hypervisor => "hypervisor",
            Source::Messages => "messages",
            Source::Lifecycle(_) => "lifecycle",
            Source::Reports(_) => "reports",
            Source::Console(_) => "console",
        }
    }

    /// The source that tells what this one had to drop when nothing more comes from it.
    pub(crate) fn teller(self) -> Source {
        match self {
            Source::Hypervisor | Source::Messages => Source::Hypervisor,
            Source::Lifecycle(domain) | Source::Reports(domain) | Source::Console(domain) => {
                Source::Lifecycle(domain)
            }
        }
    }

    /// Place in a table of sources. A domain that can't be is taken for the hypervisor.
    pub(crate) fn index(self) -> usize {
        let place = |domain: u16, kind: usize| {
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
            Source::Lifecycle(domain) => place(domain, 0),
            Source::Reports(domain) => place(domain, 1),
            Source::Console(domain) => place(domain, 2),
        }
    }

    /// The source at a place.
    pub(crate) fn at(index: usize) -> Source {
        let Some(of_domains) = index.checked_sub(COMMON) else {
            return if index == 0 { Source::Hypervisor } else { Source::Messages };
        };
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
    /// Nobody has any room.
    pub const fn none() -> Quotas {
        Quotas { hypervisor: 0, messages: 0, lifecycle: 0, reports: 0, console: 0, domains: 0 }
    }

    /// Divides a buffer of so many bytes among the hypervisor and so many domains.
    ///
    /// An eighth is the hypervisor's. Of a domain's share the story of its beginning and end comes
    /// first. A guest that prints waits for room instead of losing text, so a second of output at
    /// 115,200 baud is enough for that; reports can't wait and get the rest.
    pub fn divide(capacity: usize, domains: usize) -> Quotas {
        /// A crash with its registers and stack is 1.4 KB.
        const LIFECYCLE: usize = 2048;
        /// Most for the console of one domain.
        const CONSOLE: usize = 8 * 1024;
        /// Most for the reports of one domain: a log must not lag behind without end.
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

    /// Bytes that all of them together may hold.
    pub fn total(&self) -> usize {
        let domain = self.lifecycle + self.reports + self.console;
        self.hypervisor + self.messages + self.domains * domain
    }

    /// Whether the longest record fits where each source begins with nothing.
    pub fn admit_every_record(&self) -> bool {
        let least = self.lifecycle.min(self.reports).min(self.console);
        least.min(self.hypervisor).min(self.messages) >= MAX_RECORD + OVERHEAD
    }
}
