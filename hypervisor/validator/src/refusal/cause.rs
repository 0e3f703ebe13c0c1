//! Why an operation was refused.

use crate::memtype::FrameMemType;
use pinfold_abi::mmu::{EntryFlags, MemoryType};

/// Why an operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The frame number is beyond all RAM.
    NoSuchFrame,
    /// The frame is free, another domain's, or the hypervisor's.
    NotOwned,
    /// The frame is not free, or is no RAM.
    NotFree,
    /// The frame belongs to the hypervisor, which shares it: it can be mapped, but not become a table.
    SharedFrame,
    /// The frame is in use as something else.
    WrongType,
    /// The frame would become a table or descriptor page, but is mapped writable.
    WritableAlias,
    /// The frame would be mapped writable (or written), but is in use as a table or descriptor page:
    /// the same conflict, from the other side.
    TableInUse,
    /// The frame would be mapped or used with one memory type, but has another (`INV-CACHE`).
    CacheAlias {
        /// The memory type that was asked for: write-back for a use by the hypervisor, such as reading a
        /// table.
        wanted: MemoryType,
        /// The memory type of its mappings, or of its last ones.
        present: FrameMemType,
    },
    /// The slot belongs to the hypervisor.
    ReservedSlot,
    /// Address bits that the CPU doesn't have, set in an entry.
    ReservedBits(u64),
    /// Flags that a guest may not set at this level.
    ForbiddenFlags(EntryFlags),
    /// An entry above L1 that maps a large page.
    SuperPage,
    /// An entry that points to a table of its own level and isn't a read-only one to itself.
    LinearNotAllowed,
    /// An entry that isn't present and names memory, on a CPU with the L1TF flaw: what is there, now or
    /// when the frame has another owner, could be read through it.
    AbsentNamesMemory,
    /// The table is pinned already.
    AlreadyPinned,
    /// The frame is not pinned.
    NotPinned,
    /// The count of references is full.
    CountOverflow,
    /// The frame is still referred to.
    Busy,
    /// A descriptor that guests may not have: the raw value.
    BadDescriptor(u64),
    /// The table belongs to one domain and the frame to be mapped to another.
    ForeignMapping,
    /// The frame is not a table of the kind that is asked for.
    NotATable,
    /// The address is outside the guest's part of the address space.
    BadAddress(u64),
    /// The slot is beyond the table.
    BadSlot(u64),
}

impl Cause {
    /// Short name for the log.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::NoSuchFrame => "no_such_frame",
            Cause::NotOwned => "not_owned",
            Cause::NotFree => "not_free",
            Cause::SharedFrame => "shared_frame",
            Cause::WrongType => "wrong_type",
            Cause::WritableAlias => "writable_alias",
            Cause::TableInUse => "table_in_use",
            Cause::CacheAlias { .. } => "cache_alias",
            Cause::ReservedSlot => "reserved_slot",
            Cause::ReservedBits(_) => "reserved_bits",
            Cause::ForbiddenFlags(_) => "forbidden_flags",
            Cause::SuperPage => "super_page",
            Cause::LinearNotAllowed => "linear_not_allowed",
            Cause::AbsentNamesMemory => "absent_names_memory",
            Cause::AlreadyPinned => "already_pinned",
            Cause::NotPinned => "not_pinned",
            Cause::CountOverflow => "count_overflow",
            Cause::Busy => "busy",
            Cause::BadDescriptor(_) => "bad_descriptor",
            Cause::ForeignMapping => "foreign_mapping",
            Cause::NotATable => "not_a_table",
            Cause::BadAddress(_) => "bad_address",
            Cause::BadSlot(_) => "bad_slot",
        }
    }
}
