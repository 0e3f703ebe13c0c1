//! What a frame can be used as, and the states of that use.

use crate::addr::Level;
use core::fmt;

/// What a frame is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Nothing yet.
    None = 0,
    /// Written to by a guest.
    Writable = 1,
    /// Page table that maps pages.
    L1 = 2,
    /// Page table of L1 tables.
    L2 = 3,
    /// Page table of L2 tables.
    L3 = 4,
    /// Root.
    L4 = 5,
    /// Page of a GDT or LDT.
    Descriptor = 6,
    /// The hypervisor's own, for some [`Purpose`].
    Hypervisor = 7,
}

/// What the hypervisor uses a frame of its own for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// In use since boot: its image, its tables, stacks, the frame table, the archive of guests.
    Boot = 0,
    /// Page tables of the per-domain L4 slot.
    PerDomainTables = 1,
    /// The page of zeros where a GDT has no page of the guest's.
    ZeroPage = 2,
    /// Use counts of a domain's grant entries.
    GrantUses = 3,
    /// Handles of a domain's mappings of granted frames.
    GrantHandles = 4,
    /// The heap.
    Heap = 5,
    /// Scratch space of an audit.
    AuditScratch = 6,
    /// A root without the direct map.
    GuestRoot = 7,
    /// A frame that is watched for writes by guests.
    Canary = 8,
    /// State of a vCPU in a hardware container, and what all of them share.
    Container = 9,
}

impl Purpose {
    /// All of them, in the order of their numbers.
    pub const ALL: [Purpose; 10] = [
        Purpose::Boot,
        Purpose::PerDomainTables,
        Purpose::ZeroPage,
        Purpose::GrantUses,
        Purpose::GrantHandles,
        Purpose::Heap,
        Purpose::AuditScratch,
        Purpose::GuestRoot,
        Purpose::Canary,
        Purpose::Container,
    ];

    /// Short name for the log.
    pub const fn name(self) -> &'static str {
        match self {
            Purpose::Boot => "boot",
            Purpose::PerDomainTables => "per_domain_tables",
            Purpose::ZeroPage => "zero_page",
            Purpose::GrantUses => "grant_uses",
            Purpose::GrantHandles => "grant_handles",
            Purpose::Heap => "heap",
            Purpose::AuditScratch => "audit_scratch",
            Purpose::GuestRoot => "guest_root",
            Purpose::Canary => "canary",
            Purpose::Container => "container",
        }
    }
}

impl Kind {
    /// The table type of a level.
    #[inline]
    pub const fn table(level: Level) -> Kind {
        match level {
            Level::L1 => Kind::L1,
            Level::L2 => Kind::L2,
            Level::L3 => Kind::L3,
            Level::L4 => Kind::L4,
        }
    }

    /// The level of a table type.
    #[inline]
    pub const fn level(self) -> Option<Level> {
        match self {
            Kind::L1 => Some(Level::L1),
            Kind::L2 => Some(Level::L2),
            Kind::L3 => Some(Level::L3),
            Kind::L4 => Some(Level::L4),
            Kind::None | Kind::Writable | Kind::Descriptor | Kind::Hypervisor => None,
        }
    }

    #[inline]
    pub(super) const fn from_bits(bits: u64) -> Kind {
        match bits {
            1 => Kind::Writable,
            2 => Kind::L1,
            3 => Kind::L2,
            4 => Kind::L3,
            5 => Kind::L4,
            6 => Kind::Descriptor,
            7 => Kind::Hypervisor,
            _ => Kind::None,
        }
    }

    /// Short name for the log.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::None => "none",
            Kind::Writable => "writable",
            Kind::L1 => "l1",
            Kind::L2 => "l2",
            Kind::L3 => "l3",
            Kind::L4 => "l4",
            Kind::Descriptor => "descriptor",
            Kind::Hypervisor => "hypervisor",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::None => "unused",
            Kind::Writable => "a writable page",
            Kind::L1 => "an L1 table",
            Kind::L2 => "an L2 table",
            Kind::L3 => "an L3 table",
            Kind::L4 => "an L4 table",
            Kind::Descriptor => "a descriptor page",
            Kind::Hypervisor => "a frame of the hypervisor's",
        })
    }
}

/// State of a type; the table in [`super`] says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Not in use: any type may begin.
    Idle = 0,
    /// Some CPU is checking it.
    Validating = 1,
    /// In use.
    Validated = 2,
    /// Checked or taken apart only in part, and no CPU is working on it.
    Partial = 3,
    /// Some CPU is dropping what its entries hold.
    Devalidating = 4,
}

impl State {
    #[inline]
    pub(super) const fn from_bits(bits: u64) -> State {
        match bits {
            1 => State::Validating,
            2 => State::Validated,
            3 => State::Partial,
            4 => State::Devalidating,
            _ => State::Idle,
        }
    }

    /// Short name for the log.
    pub const fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Validating => "validating",
            State::Validated => "validated",
            State::Partial => "partial",
            State::Devalidating => "devalidating",
        }
    }
}
