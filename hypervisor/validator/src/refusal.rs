//! What was refused, and why: evidence first, the ABI's number derived from it.

use crate::entry::Entry;
use crate::frame::{DomId, Index, Level, Mfn};
use crate::frame_table::{FrameInfo, Kind, State};
use crate::memtype::FrameMemType;
use core::fmt;
use pinfold_abi::errno::Errno;
use pinfold_abi::mmu::{EntryFlags, MemoryType};

/// Why an operation ended without doing what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It may not be done. Nothing was done.
    Refused(Refusal),
    /// The budget is used up, or another CPU is at the same frame. Ask again: it goes on where it
    /// was. No reference was given; what was done so far is kept in the frames and cleaned up by
    /// whoever needs them, so that it's safe not to ask again.
    Preempted,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(refusal)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(refusal) => refusal.fmt(f),
            Error::Preempted => f.write_str("preempted: to be asked again"),
        }
    }
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Give a frame to a domain.
    Assign,
    /// Take a frame back from a domain.
    Release,
    /// Give a frame of the hypervisor's to a domain to map.
    Share,
    /// Pin a table.
    Pin(Level),
    /// Unpin a table.
    Unpin,
    /// Load a root.
    LoadRoot,
    /// Write to a frame on the guest's behalf.
    WritePage,
    /// Read a frame on somebody's behalf.
    ReadPage,
    /// Map a frame that another domain granted.
    MapGranted,
    /// Unmap it.
    UnmapGranted,
    /// Use a frame in a GDT or LDT.
    UseDescriptors,
    /// Check one descriptor.
    CheckDescriptor,
    /// Change one descriptor.
    UpdateDescriptor,
    /// Change one entry.
    Update,
    /// Carry out a guest's store to a page table.
    EmulatedStore,
    /// Clear the entries of a range of addresses.
    Shootdown,
    /// Take a dead domain's tables apart.
    Relinquish,
}

impl Operation {
    /// Short name for the log.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Assign => "assign",
            Operation::Release => "release",
            Operation::Share => "share",
            Operation::Pin(Level::L1) => "pin_l1",
            Operation::Pin(Level::L2) => "pin_l2",
            Operation::Pin(Level::L3) => "pin_l3",
            Operation::Pin(Level::L4) => "pin_l4",
            Operation::Unpin => "unpin",
            Operation::LoadRoot => "load_root",
            Operation::WritePage => "write_page",
            Operation::ReadPage => "read_page",
            Operation::MapGranted => "grant_map",
            Operation::UnmapGranted => "grant_unmap",
            Operation::UseDescriptors => "use_descriptors",
            Operation::CheckDescriptor => "check_descriptor",
            Operation::UpdateDescriptor => "update_descriptor",
            Operation::Update => "update",
            Operation::EmulatedStore => "store",
            Operation::Shootdown => "shootdown",
            Operation::Relinquish => "relinquish",
        }
    }
}

/// Why it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The number is beyond all RAM.
    NoSuchFrame,
    /// The frame is free, another domain's, or the hypervisor's.
    NotOwned,
    /// The frame is not free, or is no RAM.
    NotFree,
    /// The frame belongs to the hypervisor, which shares it: it can be mapped, but be no table.
    SharedFrame,
    /// The frame is in use as something else.
    WrongType,
    /// The frame would become a table or descriptor page, but is mapped writable.
    WritableAlias,
    /// The frame would be mapped writable (or written), but is in use as a table or descriptor
    /// page: the same clash, seen from the other side.
    TableInUse,
    /// The frame would be mapped or used in one way of caching, but is in another (`INV-CACHE`).
    CacheAlias {
        /// The way of the mapping that was asked for; write-back for a use of the hypervisor's,
        /// such as reading a table.
        wanted: MemoryType,
        /// The way of those that are there, or were.
        present: FrameMemType,
    },
    /// The slot belongs to the hypervisor.
    ReservedSlot,
    /// Address bits that the CPU doesn't have.
    ReservedBits(u64),
    /// Flags that a guest may not set at this level.
    ForbiddenFlags(EntryFlags),
    /// An entry above L1 that maps a large page.
    SuperPage,
    /// An entry that points to a table of its own level and isn't a read-only one to itself.
    LinearNotAllowed,
    /// An entry that isn't present and names memory, on a CPU with the L1TF flaw: whatever is there,
    /// now or when the frame is somebody else's, could be read through it.
    AbsentNamesMemory,
    /// The table is pinned already.
    AlreadyPinned,
    /// The frame is not pinned.
    NotPinned,
    /// One more reference doesn't fit in the count.
    CountOverflow,
    /// The frame is still referred to.
    Busy,
    /// A descriptor that no guest may have: the raw value.
    BadDescriptor(u64),
    /// The table belongs to one domain and the frame to be mapped to another.
    ForeignMapping,
    /// The table is none.
    NotATable,
    /// The address has no place in the guest's part of the address space.
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

/// The entry at which validation stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryLocation {
    /// Level of the table that holds it; `None` for a descriptor page or an untyped frame.
    pub level: Option<Level>,
    /// The table.
    pub table: Mfn,
    /// The slot.
    pub index: Index,
    /// The entry, as the guest wants it.
    pub entry: Entry,
}

/// A refused operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked.
    pub operation: Operation,
    /// For whom.
    pub dom: DomId,
    /// Why not.
    pub cause: Cause,
    /// The frame in the way.
    pub frame: Mfn,
    /// What it was to be used as; `None` for a plain reference.
    pub wanted: Option<Kind>,
    /// What it was at that moment; `None` if there is no such frame.
    pub seen: Option<FrameInfo>,
    /// The entry that asked for it, if one did.
    pub location: Option<EntryLocation>,
}

impl Refusal {
    /// The ABI's error number.
    ///
    /// As Xen 4.17 answers, by measurement (`docs/abi-answers.md`): -EINVAL, but for a leaf that
    /// names no frame (-EPERM) or one that it can't have (-EBUSY). A pin that fails because of a
    /// leaf somewhere below gives the leaf's number.
    pub const fn errno(&self) -> Errno {
        let at_leaf = self.wants_a_leaf();
        match self.cause {
            Cause::NoSuchFrame | Cause::ReservedBits(_) if at_leaf => Errno::EPERM,
            Cause::NotOwned | Cause::TableInUse if at_leaf => Errno::EBUSY,
            Cause::Busy => Errno::EBUSY,
            Cause::ForeignMapping => Errno::EPERM,
            Cause::NoSuchFrame
            | Cause::NotOwned
            | Cause::NotFree
            | Cause::SharedFrame
            | Cause::WrongType
            | Cause::WritableAlias
            | Cause::TableInUse
            | Cause::CacheAlias { .. }
            | Cause::ReservedSlot
            | Cause::ReservedBits(_)
            | Cause::ForbiddenFlags(_)
            | Cause::SuperPage
            | Cause::LinearNotAllowed
            | Cause::AbsentNamesMemory
            | Cause::AlreadyPinned
            | Cause::NotPinned
            | Cause::CountOverflow
            | Cause::BadDescriptor(_)
            | Cause::NotATable
            | Cause::BadAddress(_)
            | Cause::BadSlot(_) => Errno::EINVAL,
        }
    }

    /// Whether an L1 entry asked for it.
    const fn wants_a_leaf(&self) -> bool {
        matches!(self.location, Some(EntryLocation { level: Some(Level::L1), .. }))
    }

    /// Whether a writable mapping is in the way: worth a search for it
    /// ([`Validator::find_mappings`](crate::Validator::find_mappings) of [`Refusal::frame`]).
    pub const fn is_alias(&self) -> bool {
        matches!(self.cause, Cause::WritableAlias)
    }

    /// Whether mappings that are cached otherwise are in the way: worth a search for all of them.
    pub const fn is_cache_alias(&self) -> bool {
        matches!(self.cause, Cause::CacheAlias { .. })
    }

    /// For the log: `op=.. frame=.. cause=..`, one space between fields, none in them.
    pub const fn fields(&self) -> Fields<'_> {
        Fields(self)
    }
}

/// In plain words, one sentence.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.frame;
        write!(f, "{}: ", self.operation.name())?;
        match self.cause {
            Cause::NoSuchFrame => write!(f, "frame {frame} is beyond all RAM")?,
            Cause::NotOwned => match self.seen.and_then(|seen| seen.owner()) {
                Some(owner) => write!(f, "frame {frame} belongs to domain {owner}")?,
                None => write!(f, "frame {frame} belongs to no guest")?,
            },
            Cause::NotFree => write!(f, "frame {frame} is not free")?,
            Cause::SharedFrame => write!(
                f,
                "frame {frame} is shared by the hypervisor and can't be {}",
                self.wanted.unwrap_or(Kind::None)
            )?,
            Cause::WrongType | Cause::TableInUse | Cause::WritableAlias => self.clash(f)?,
            Cause::CacheAlias { wanted, present } => self.cache_clash(f, wanted, present)?,
            Cause::ReservedSlot => f.write_str("the slot belongs to the hypervisor")?,
            Cause::ReservedBits(bits) => {
                write!(f, "address bits {bits:#x} are beyond what this processor has")?
            }
            Cause::ForbiddenFlags(flags) => {
                write!(f, "flags {:#x} may not be set at this level (", flags.bits())?;
                bitflags::parser::to_writer(&flags, &mut *f)?;
                f.write_str(")")?
            }
            Cause::SuperPage => f.write_str("large pages are not allowed")?,
            Cause::LinearNotAllowed => write!(
                f,
                "frame {frame} is a table of the same level; only a read-only entry to the table \
                 itself is allowed"
            )?,
            Cause::AbsentNamesMemory => write!(
                f,
                "the entry is not present but names frame {frame}, which is memory: this processor \
                 could read it through the entry (L1TF); kernels that know invert the address"
            )?,
            Cause::AlreadyPinned => write!(f, "frame {frame} is pinned already")?,
            Cause::NotPinned => write!(f, "frame {frame} is not pinned")?,
            Cause::CountOverflow => write!(f, "frame {frame} has all the references it can")?,
            Cause::Busy => write!(
                f,
                "frame {frame} is still in use: {} references besides its allocation",
                self.seen.map_or(0, |seen| seen.references().saturating_sub(1))
            )?,
            Cause::BadDescriptor(value) => {
                write!(f, "descriptor {value:#018x} is of a kind that no guest may have")?
            }
            Cause::ForeignMapping => {
                f.write_str("a table of one domain can't map the memory of another")?
            }
            Cause::NotATable => write!(f, "frame {frame} is no page table of this kind")?,
            Cause::BadAddress(address) => {
                write!(f, "address {address:#x} is outside the guest's address space")?
            }
            Cause::BadSlot(slot) => write!(f, "there is no slot {slot}")?,
        }
        if let Some(EntryLocation { level, table, index, entry }) = self.location {
            match level {
                Some(level) => write!(f, ", wanted by entry {index} of {level} table {table}")?,
                None => write!(f, ", wanted by entry {index} of frame {table}")?,
            }
            write!(f, " ({entry})")?;
        }
        Ok(())
    }
}

impl Refusal {
    fn cache_clash(
        &self,
        f: &mut fmt::Formatter<'_>,
        wanted: MemoryType,
        present: FrameMemType,
    ) -> fmt::Result {
        let (frame, wanted) = (self.frame, wanted.name());
        let held = self.seen.and_then(|seen| seen.held_as());
        // In words that are as true where it is only told of.
        write!(f, "frame {frame} is wanted ")?;
        match self.wanted {
            Some(kind) if kind != Kind::Writable => write!(f, "as {kind}, which is {wanted}, ")?,
            _ if self.wants_a_leaf() => write!(f, "as {wanted} memory ")?,
            _ => write!(f, "by the hypervisor, as {wanted} memory, ")?,
        }
        match (held.filter(|held| *held != Kind::Writable), present) {
            (Some(kind), _) => write!(f, "while it is {kind}, which is {present}"),
            (None, FrameMemType::Mixed) => f.write_str("while it is mapped in several ways"),
            (None, _) => write!(f, "while it is mapped as {present}"),
        }
    }

    fn clash(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.frame;
        let wanted = self.wanted.unwrap_or(Kind::None);
        let Some(seen) = self.seen else {
            return write!(f, "frame {frame} can't be {wanted}");
        };
        if self.cause == Cause::WritableAlias {
            let plural = if seen.type_count() == 1 { "" } else { "s" };
            return write!(
                f,
                "frame {frame} can't be {wanted} while it has {} writable mapping{plural}",
                seen.type_count()
            );
        }
        write!(f, "frame {frame} can't be {wanted} while it is {}", seen.kind())?;
        match seen.state() {
            State::Validated => {
                let pinned = if seen.is_pinned() { ", pinned" } else { "" };
                write!(f, " ({} references{pinned})", seen.type_count())
            }
            state => write!(f, " ({})", state.name()),
        }
    }
}

/// A refusal as `key=value` fields; see [`Refusal::fields`].
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a Refusal);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refusal = self.0;
        let (op, cause) = (refusal.operation.name(), refusal.cause.name());
        write!(f, "op={op} dom={} frame={} cause={cause}", refusal.dom, refusal.frame)?;
        match refusal.cause {
            Cause::ReservedBits(bits) => write!(f, " bits={bits:#x}")?,
            Cause::ForbiddenFlags(flags) => write!(f, " bits={:#x}", flags.bits())?,
            Cause::BadDescriptor(value) => write!(f, " descriptor={value:#018x}")?,
            Cause::BadAddress(address) => write!(f, " va={address:#x}")?,
            Cause::BadSlot(slot) => write!(f, " slot={slot}")?,
            _ => {}
        }
        if let Cause::CacheAlias { wanted, present } = refusal.cause {
            write!(f, " wanted={} present={present}", wanted.name())?;
        } else if let Some(wanted) = refusal.wanted {
            write!(f, " wanted={}", wanted.name())?;
        }
        if let Some(seen) = refusal.seen {
            match seen.owner() {
                Some(owner) => write!(f, " owner={owner}")?,
                None => f.write_str(" owner=none")?,
            }
            write!(f, " seen={} state={}", seen.kind().name(), seen.state().name())?;
            write!(f, " count={} refs={}", seen.type_count(), seen.references())?;
            write!(f, " pinned={}", u8::from(seen.is_pinned()))?;
        }
        if let Some(EntryLocation { level, table, index, entry }) = refusal.location {
            let level = level.map_or(0, |level| level as u8);
            write!(f, " level={level} table={table} index={index} entry={entry}")?;
        }
        Ok(())
    }
}
