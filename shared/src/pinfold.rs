//! `pinfold_op`, hypercall 55: Pinfold's extension of the ABI.
//!
//! It is called as `pinfold_op(command, argument)`. The argument is the guest address of the
//! command's structure, which starts with the [`VERSION`] that the caller was built for. An unknown
//! command returns -ENOSYS, as every command does on Xen. An unknown version returns -EINVAL.
//! Fields marked "out" are written on success only. [`refusals`] lists all errors of each command.

pub mod refusals;

use crate::assert_layout;
use strum::FromRepr;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the structures in this module.
pub const VERSION: u32 = 1;

/// Version of [`Stats`]. A caller that passes version 1 gets the first [`STATS_1_SIZE`] bytes.
pub const STATS_VERSION: u32 = 2;

/// A command of `pinfold_op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromRepr)]
#[repr(u32)]
pub enum Command {
    /// Returns name and version of the hypervisor: [`VersionInfo`].
    Version = 0,
    /// Clears mappings in address ranges and flushes TLBs once: [`Shootdown`].
    Shootdown = 1,
    /// Finds all mappings of a list of frames: [`FindAliases`].
    FindAliases = 2,
    /// Names an address range for reports: [`LazyRegion`].
    LazyRegion = 3,
    /// Writes a text of the guest to the log: [`Mark`].
    Mark = 4,
    /// Returns counters of the calling domain: [`Stats`].
    Stats = 5,
    /// Recounts the references of all frames: [`Audit`]. -EPERM for a domain without the right to
    /// diagnose.
    Audit = 6,
    /// Registers a handler for pins that meet an alias: [`AliasUpcall`].
    AliasUpcall = 7,
    /// Registers a bitmap of the freed pages of a named range: [`FreedMap`].
    FreedMap = 8,
    /// Writes the use of the domain's frames to the log: [`DumpFrames`]. -EPERM for a domain
    /// without the right to diagnose.
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
    /// Out: highest structure version that the hypervisor supports.
    pub newest: u32,
    /// Out: name and version of the hypervisor, NUL-terminated.
    pub name: [u8; 56],
}
assert_layout!(VersionInfo, size 64, newest @ 4, name @ 8);

/// Largest number of ranges in one [`Shootdown`].
pub const MAX_SHOOTDOWN_RANGES: u32 = 4096;

/// Argument of [`Command::Shootdown`]: address ranges of the calling vCPU's kernel address space
/// whose mappings are dead. The call clears the present L1 entries in them, drops their references,
/// and flushes once the TLBs of the CPUs that could cache them, before it returns.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Shootdown {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: number of ranges, at most [`MAX_SHOOTDOWN_RANGES`].
    pub nr_ranges: u32,
    /// In: guest address of an array of [`Range`].
    pub ranges: u64,
    /// Out: number of entries cleared.
    pub cleared: u64,
    /// Out: number of CPUs flushed.
    pub flushed_cpus: u32,
    /// Zero.
    pub pad: u32,
}
assert_layout!(Shootdown, size 32, ranges @ 8, cleared @ 16, flushed_cpus @ 24);

/// Page-aligned range of guest virtual addresses.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Number of pages.
    pub pages: u64,
}
assert_layout!(Range, size 16);

/// Largest number of frames in one [`FindAliases`].
pub const MAX_FIND_FRAMES: u32 = 512;

/// Argument of [`Command::FindAliases`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FindAliases {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: number of frames, at most [`MAX_FIND_FRAMES`].
    pub nr_frames: u32,
    /// In: guest address of `u64` machine frame numbers. The caller must own all the frames.
    pub frames: u64,
    /// In: guest address of an array of [`Mapping`] for the result.
    pub mappings: u64,
    /// In: capacity of the array. Out: number of mappings written.
    pub nr_mappings: u32,
    /// Out: [`FIND_TRUNCATED`].
    pub flags: u32,
}
assert_layout!(FindAliases, size 32, frames @ 8, mappings @ 16, nr_mappings @ 24, flags @ 28);

/// [`FindAliases::flags`]: incomplete, because the array was full or the search reached its limit.
pub const FIND_TRUNCATED: u32 = 1;

/// A mapping of a frame.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Mapping {
    /// Machine frame that is mapped.
    pub frame: u64,
    /// Virtual address of the mapping. Valid with [`MAPPING_ATTACHED`] only.
    pub va: u64,
    /// Machine frame of the L1 table that maps it.
    pub table: u64,
    /// Value of the L1 entry.
    pub entry: u64,
    /// Index of the entry in the table.
    pub index: u16,
    /// `MAPPING_*`.
    pub flags: u16,
    /// Zero.
    pub pad: u32,
}
assert_layout!(Mapping, size 40, va @ 8, table @ 16, entry @ 24, index @ 32, flags @ 34);

/// [`Mapping::flags`]: the mapping is writable.
pub const MAPPING_WRITABLE: u16 = 1;
/// [`Mapping::flags`]: the table is linked to a root, and [`Mapping::va`] is valid.
pub const MAPPING_ATTACHED: u16 = 2;
/// [`Mapping::flags`]: the address is in a named range ([`LazyRegion`]).
pub const MAPPING_NAMED: u16 = 4;
/// [`Mapping::flags`]: the page is marked as freed in the [`FreedMap`] of the range.
pub const MAPPING_FREED: u16 = 8;

/// Largest number of named ranges of a domain.
pub const MAX_REGIONS: usize = 64;

/// Argument of [`Command::LazyRegion`]: mappings in the range are reported with this name. -EEXIST
/// if the range overlaps a named one, -ENOSPC if there are [`MAX_REGIONS`] already.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct LazyRegion {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: [`REGION_ADD`], or [`REGION_REMOVE`] with the `start` that the range was added with.
    pub action: u32,
    /// In: the range.
    pub range: Range,
    /// In: printable ASCII, NUL-padded.
    pub name: [u8; 32],
}
assert_layout!(LazyRegion, size 56, action @ 4, range @ 8, name @ 24);

/// [`LazyRegion::action`]: adds the range.
pub const REGION_ADD: u32 = 0;
/// [`LazyRegion::action`]: removes the range.
pub const REGION_REMOVE: u32 = 1;

/// Largest length of the text of a [`Mark`], in bytes.
pub const MAX_MARK: u32 = 160;

/// Argument of [`Command::Mark`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Mark {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: length of the text in bytes, at most [`MAX_MARK`].
    pub len: u32,
    /// In: guest address of the text. Bytes that are not printable ASCII are logged as `?`.
    pub text: u64,
}
assert_layout!(Mark, size 16, text @ 8);

/// Argument of [`Command::Stats`]: counters since the start of the calling domain.
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
    /// Out: changes of entries of validated tables.
    pub entry_updates: u64,
    /// Out: entry changes that were refused.
    pub updates_refused: u64,
    /// Out: stores to page tables that were emulated.
    pub emulated_stores: u64,
    /// Out: TLB flushes that the guest requested.
    pub guest_flushes: u64,
    /// Out: TLB flushes because of a change of a frame's type.
    pub type_flushes: u64,
    /// Out: shootdown calls.
    pub shootdowns: u64,
    /// Out: entries that shootdowns cleared.
    pub shootdown_cleared: u64,
    /// Out: hypercalls that were preempted and continued.
    pub preemptions: u64,
    /// Out: calls of the handler of [`AliasUpcall`].
    pub upcalls: u64,
    /// Out: pins that succeeded after such a call. Last field of version 1.
    pub healed: u64,
    /// Out: longest time that a CPU of the machine spent in the hypervisor without servicing IPIs,
    /// in ns, since the machine's start. This and the following fields are 0 for a domain without
    /// the right to diagnose.
    pub ipi_ns: u64,
    /// Out: longest time with interrupts disabled, in ns.
    pub irq_off_ns: u64,
    /// Out: longest time without a check of scheduler and timers, in ns.
    pub sched_ns: u64,
}
assert_layout!(Stats, size 144, pins @ 8, preemptions @ 96, healed @ 112, ipi_ns @ 120, sched_ns @ 136);

/// Size of version 1 of [`Stats`], in bytes.
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
    /// Out: number of frames checked.
    pub frames: u64,
    /// Out: number of page tables whose entries were counted.
    pub tables: u64,
    /// Out: number of frames whose recorded counts differ from the recount. The log lists them.
    pub wrong: u64,
}
assert_layout!(Audit, size 32, frames @ 8, tables @ 16, wrong @ 24);

/// Largest value of [`AliasUpcall::room`].
pub const MAX_UPCALL_MAPPINGS: u32 = 512;

/// Argument of [`Command::AliasUpcall`]: registers a handler of the calling vCPU. When a pin
/// (`mmuext_op`) of the vCPU meets a writable mapping in a named range ([`LazyRegion`]), the
/// mappings are written to the buffer and the handler is called, as for an exception without error
/// code, with events masked. Its `iret` repeats the hypercall. The pin is refused if the same frame
/// still has a writable mapping. If another frame of the tree has one, the handler is called for
/// that frame, for at most eight frames per pin.
///
/// A pin inside the handler is refused without a call, and so is every pin after a handler that did
/// not return by `iret`, until the vCPU registers again. If the buffer cannot be written, the pin
/// is refused. -EINVAL if an address is outside the guest's part of the address space, or if `room`
/// is 0 or above [`MAX_UPCALL_MAPPINGS`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AliasUpcall {
    /// In: [`VERSION`].
    pub version: u32,
    /// In: capacity of the buffer in [`Mapping`]s.
    pub room: u32,
    /// In: virtual address of the handler. 0 removes the registration.
    pub address: u64,
    /// In: guest address of an [`AliasesFound`], followed by `room` [`Mapping`]s.
    pub buffer: u64,
}
assert_layout!(AliasUpcall, size 24, room @ 4, address @ 8, buffer @ 16);

/// Header of the buffer of an [`AliasUpcall`]. An array of [`Mapping`] follows.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct AliasesFound {
    /// Machine frame that the pin would make a page table.
    pub frame: u64,
    /// Number of mappings that follow.
    pub nr_mappings: u32,
    /// [`FIND_TRUNCATED`].
    pub flags: u32,
}
assert_layout!(AliasesFound, size 16, nr_mappings @ 8, flags @ 12);

/// Argument of [`Command::FreedMap`]: a bitmap with one bit per page of a named range
/// ([`LazyRegion`]), starting with bit 0 of byte 0. A set bit means that the guest has freed the
/// page but not cleared its mapping yet. The hypervisor reads the bitmap when it reports a mapping
/// of the range, in the address space of the vCPU that caused the report. So the guest can change
/// bits at any time by a plain store. -ENOENT if no named range starts at `start`.
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
    /// In: guest address of the bitmap. 0 removes it.
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
    /// Out: number of frames of the domain.
    pub frames: u64,
}
assert_layout!(DumpFrames, size 16, frames @ 8);
