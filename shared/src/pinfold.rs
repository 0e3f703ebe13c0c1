//! `pinfold_op`, hypercall 55: what Pinfold adds to the ABI.
//!
//! Called as `pinfold_op(command, argument)`, the argument being the address of the command's
//! structure, which starts with the [`VERSION`] the caller was built for. An unknown command
//! returns -ENOSYS (so does the whole call on Xen), an unknown version -EINVAL; then nothing was
//! done. Fields marked "out" are written on success only.

pub mod refusals;

use crate::assert_layout;
use strum::FromRepr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the structures in this module.
pub const VERSION: u32 = 1;

/// Version of [`Stats`], which is longer than it was. A caller that was built for an earlier one gets
/// what there was then.
pub const STATS_VERSION: u32 = 2;

/// A command of `pinfold_op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromRepr)]
#[repr(u32)]
pub enum Command {
    /// What the hypervisor is: [`VersionInfo`].
    Version = 0,
    /// Clear dead mappings in one flush: [`Shootdown`].
    Shootdown = 1,
    /// Find every mapping of some frames: [`FindAliases`].
    FindAliases = 2,
    /// Name a range of addresses: [`LazyRegion`].
    LazyRegion = 3,
    /// Put a line of the guest's own in the log: [`Mark`].
    Mark = 4,
    /// Counters of the calling domain: [`Stats`].
    Stats = 5,
    /// Recount every reference: [`Audit`]. For domains that may diagnose: -EPERM for others.
    Audit = 6,
    /// Be entered when a pin meets an alias: [`AliasUpcall`].
    AliasUpcall = 7,
    /// Say which pages of a named range are freed: [`FreedMap`].
    FreedMap = 8,
    /// Write what the domain's frames are to the log: [`DumpFrames`]. For domains that may
    /// diagnose: -EPERM for others.
    DumpFrames = 9,
}

impl Command {
    /// The command with this number, or `None` if it is unknown.
    pub fn from_number(number: u64) -> Option<Command> {
        u32::try_from(number).ok().and_then(Command::from_repr)
    }
}

/// Argument of [`Command::Version`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VersionInfo {
    /// In: [`VERSION`].
    pub version: u32,
    /// Out: highest version of any of these structures that the hypervisor knows.
    pub newest: u32,
    /// Out: NUL-terminated name and version of the hypervisor.
    pub name: [u8; 56],
}
assert_layout!(VersionInfo, size 64, newest @ 4, name @ 8);

/// Most ranges in one [`Shootdown`].
pub const MAX_SHOOTDOWN_RANGES: u32 = 4096;

/// Argument of [`Command::Shootdown`]: a batch of address ranges of the calling vCPU's kernel
/// address space whose mappings are dead. Present L1 entries in them are cleared, their
/// references dropped, and the CPUs that could cache them flushed once, before the call returns.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Shootdown {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: ranges in the list, at most [`MAX_SHOOTDOWN_RANGES`].
    pub nr_ranges: u32,
    /// In: address of [`Range`]s.
    pub ranges: u64,
    /// Out: entries cleared.
    pub cleared: u64,
    /// Out: CPUs flushed.
    pub flushed_cpus: u32,
    /// Zero.
    pub pad: u32,
}
assert_layout!(Shootdown, size 32, ranges @ 8, cleared @ 16, flushed_cpus @ 24);

/// Page-aligned range of guest addresses.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Pages.
    pub pages: u64,
}
assert_layout!(Range, size 16);

/// Most frames in one [`FindAliases`].
pub const MAX_FIND_FRAMES: u32 = 512;

/// Argument of [`Command::FindAliases`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FindAliases {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: frames in the list, at most [`MAX_FIND_FRAMES`].
    pub nr_frames: u32,
    /// In: address of `u64` machine frames, all the caller's own.
    pub frames: u64,
    /// In: address of room for [`Mapping`]s.
    pub mappings: u64,
    /// In: room for so many; out: so many written.
    pub nr_mappings: u32,
    /// Out: [`FIND_TRUNCATED`].
    pub flags: u32,
}
assert_layout!(FindAliases, size 32, frames @ 8, mappings @ 16, nr_mappings @ 24, flags @ 28);

/// [`FindAliases::flags`]: there are more mappings than room, or the search met its bound.
pub const FIND_TRUNCATED: u32 = 1;

/// One mapping of a frame.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Mapping {
    /// Machine frame mapped.
    pub frame: u64,
    /// Address at which it is mapped; meaningless without [`MAPPING_ATTACHED`].
    pub va: u64,
    /// Machine frame of the L1 table that maps it.
    pub table: u64,
    /// The entry.
    pub entry: u64,
    /// Slot of the entry in the table.
    pub index: u16,
    /// `MAPPING_*`.
    pub flags: u16,
    /// Zero.
    pub pad: u32,
}
assert_layout!(Mapping, size 40, va @ 8, table @ 16, entry @ 24, index @ 32, flags @ 34);

/// [`Mapping::flags`]: the mapping is writable.
pub const MAPPING_WRITABLE: u16 = 1;
/// [`Mapping::flags`]: the table hangs in an address space, [`Mapping::va`] says where.
pub const MAPPING_ATTACHED: u16 = 2;
/// [`Mapping::flags`]: the address is in a named range ([`LazyRegion`]).
pub const MAPPING_NAMED: u16 = 4;
/// [`Mapping::flags`]: the range's [`FreedMap`] says that the page is freed.
pub const MAPPING_FREED: u16 = 8;

/// Most regions that a domain may name.
pub const MAX_REGIONS: usize = 64;

/// Argument of [`Command::LazyRegion`]: from now on, mappings in the range are reported under
/// this name. A range that overlaps a named one is -EEXIST, one too many -ENOSPC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct LazyRegion {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: [`REGION_ADD`] or [`REGION_REMOVE`] (with the `start` it was added with).
    pub action: u32,
    /// In: the range.
    pub range: Range,
    /// In: printable ASCII, NUL-padded.
    pub name: [u8; 32],
}
assert_layout!(LazyRegion, size 56, action @ 4, range @ 8, name @ 24);

/// [`LazyRegion::action`]: name the range.
pub const REGION_ADD: u32 = 0;
/// [`LazyRegion::action`]: forget the range.
pub const REGION_REMOVE: u32 = 1;

/// Longest text of a [`Mark`].
pub const MAX_MARK: u32 = 160;

/// Argument of [`Command::Mark`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Mark {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: bytes of text, at most [`MAX_MARK`].
    pub len: u32,
    /// In: address of the text; what is not printable ASCII is shown as `?`.
    pub text: u64,
}
assert_layout!(Mark, size 16, text @ 8);

/// Argument of [`Command::Stats`]: what the calling domain made Pinfold do since its start.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Stats {
    /// In: [`STATS_VERSION`], or 1.
    pub version: u32,
    /// Zero.
    pub pad: u32,
    /// Out: tables pinned.
    pub pins: u64,
    /// Out: tables unpinned.
    pub unpins: u64,
    /// Out: pins refused.
    pub pins_refused: u64,
    /// Out: pins refused because of an alias.
    pub aliases: u64,
    /// Out: entries of live tables changed.
    pub entry_updates: u64,
    /// Out: entry changes refused.
    pub updates_refused: u64,
    /// Out: stores to page tables carried out by emulation.
    pub emulated_stores: u64,
    /// Out: TLB flushes that the guest asked for.
    pub guest_flushes: u64,
    /// Out: TLB flushes that a change of a frame's type made necessary.
    pub type_flushes: u64,
    /// Out: shootdown calls.
    pub shootdowns: u64,
    /// Out: entries that shootdowns cleared.
    pub shootdown_cleared: u64,
    /// Out: calls that were suspended and resumed.
    pub preemptions: u64,
    /// Out: entries into the guest's handler of [`AliasUpcall`].
    pub upcalls: u64,
    /// Out: pins that went through after that. Version 1 ends here.
    pub healed: u64,
    /// Out: the longest time in ns that any processor of the machine spent in the hypervisor without
    /// servicing IPIs, since the start. Here and below 0 for domains that may not diagnose.
    pub ipi_ns: u64,
    /// Out: the same with interrupts off.
    pub irq_off_ns: u64,
    /// Out: the same without a look at the scheduler and the timers.
    pub sched_ns: u64,
}
assert_layout!(Stats, size 144, pins @ 8, preemptions @ 96, healed @ 112, ipi_ns @ 120, sched_ns @ 136);

/// Bytes of a [`Stats`] of version 1.
pub const STATS_1_SIZE: usize = core::mem::offset_of!(Stats, ipi_ns);

/// Argument of [`Command::Audit`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Audit {
    /// In: [`VERSION`].
    pub version: u32,
    /// Zero.
    pub pad: u32,
    /// Out: frames looked at.
    pub frames: u64,
    /// Out: tables recounted.
    pub tables: u64,
    /// Out: frames whose record differs from the recount; each is in the log.
    pub wrong: u64,
}
assert_layout!(Audit, size 32, frames @ 8, tables @ 16, wrong @ 24);

/// Most mappings that an [`AliasUpcall`] can have room for.
pub const MAX_UPCALL_MAPPINGS: u32 = 512;

/// Argument of [`Command::AliasUpcall`]: from now on, when a pin (`mmuext_op`) of the calling vCPU
/// meets a writable mapping in a named range ([`LazyRegion`]), the mappings found are written to the
/// buffer and the kernel is entered at the address, as for an exception without error code, with
/// events masked. Its `iret` makes the call again, and this time the pin is refused if the same
/// frame still has a writable mapping. If it has none, but another frame of the tree does, the guest
/// is told of that one: of eight frames a pin at most.
///
/// A pin in the handler is refused at once, and so is any after a handler that did not go back;
/// registering anew makes the vCPU forget that. If the buffer can't be written, the pin is refused.
/// -EINVAL if an address is not the guest's, or for a room of 0 or above [`MAX_UPCALL_MAPPINGS`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AliasUpcall {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: room in the buffer, in [`Mapping`]s.
    pub room: u32,
    /// In: where the kernel is entered; 0: nowhere.
    pub address: u64,
    /// In: address of an [`AliasesFound`] with room for so many mappings behind it.
    pub buffer: u64,
}
assert_layout!(AliasUpcall, size 24, room @ 4, address @ 8, buffer @ 16);

/// Head of the buffer of an [`AliasUpcall`]; so many [`Mapping`]s follow.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AliasesFound {
    /// Machine frame that was to become a table.
    pub frame: u64,
    /// Mappings that follow.
    pub nr_mappings: u32,
    /// [`FIND_TRUNCATED`].
    pub flags: u32,
}
assert_layout!(AliasesFound, size 16, nr_mappings @ 8, flags @ 12);

/// Argument of [`Command::FreedMap`]: one bit for each page of a named range ([`LazyRegion`]),
/// bit 0 of byte 0 first; 1: the guest has freed the page, and just not cleared its mapping yet.
/// Read when a mapping of the range is reported, through the address space of the vCPU that is
/// reported of, so the guest may change it at any time, at the cost of a store. A range that has
/// no name is -ENOENT.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FreedMap {
    /// In: [`VERSION`].
    pub version: u32,
    /// Zero.
    pub pad: u32,
    /// In: first address of the range.
    pub start: u64,
    /// In: address of the bits; 0: there are none any more.
    pub bits: u64,
}
assert_layout!(FreedMap, size 24, start @ 8, bits @ 16);

/// Argument of [`Command::DumpFrames`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct DumpFrames {
    /// In: [`VERSION`].
    pub version: u32,
    /// Zero.
    pub pad: u32,
    /// Out: frames of the domain.
    pub frames: u64,
}
assert_layout!(DumpFrames, size 16, frames @ 8);
