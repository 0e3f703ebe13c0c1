//! The audit: recounts every reference from the tables alone, and compares with the frame table.
//!
//! It checks the result of every test, and is a debug hypercall. It does not rely on anything that the
//! transitions maintain: what a frame's words should be follows from the entries of validated tables,
//! the pins, and the references that the caller lists. Time and scratch space grow with the number of
//! frames; nothing is allocated.
//!
//! No other CPU may be inside the validator meanwhile, since counts change there.

use crate::addr::{ENTRIES, Index, Level, Mfn};
use crate::entry::target;
use crate::entry::{EntryRules, PRESENT, WRITABLE};
use crate::frame_table::{FrameInfo, Kind, State};
use crate::ids::DomId;
use crate::memtype::{FrameMemType, memtype_of};
use crate::platform::Platform;
use crate::validator::Validator;
use pinfold_abi::mmu::EntryFlags;
use pinfold_abi::mmu::MemoryType;
use pinfold_abi::record::{self, Bit, Hex16, MemoryTypes};

/// Scratch space for one frame: 16 bytes. Its contents don't matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditCell {
    general: u32,
    writable: u32,
    typed: u32,
    /// Bit n: referred to as the type of number n.
    kinds: u8,
    /// Bit n: mapped or used as the memory type of number n.
    cached: u8,
}

const _: () = assert!(size_of::<AuditCell>() == 16);

/// A reference that the caller holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExternalRef {
    /// The frame.
    pub frame: Mfn,
    /// Its kind.
    pub kind: RefKind,
}

/// Kind of a reference that the caller holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefKind {
    /// A root ([`Validator::get_root_ref`]).
    Root,
    /// A writable reference ([`Validator::get_writable_ref`]).
    Writable,
    /// A descriptor page ([`Validator::get_descriptor_ref`]).
    Descriptors,
    /// A general reference ([`Validator::get_readable_ref`]).
    Readable,
}

/// A frame whose record differs from what was counted, or that has an entry which is not permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discrepancy {
    /// The frame.
    pub frame: Mfn,
    /// What is wrong.
    pub kind: DiscrepancyKind,
    /// What its record says.
    pub recorded: FrameInfo,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscrepancyKind {
    /// This many general references were counted (`INV-COUNT`).
    References(u64),
    /// This many type references were counted (`INV-COUNT`).
    TypeCount(u64),
    /// It is referred to as this type, but isn't validated as it (`INV-TYPE`).
    UsedAs(Kind),
    /// A table or descriptor page is mapped writable (`INV-ALIAS`).
    MappedWritable,
    /// It is mapped or used as these memory types, bit n being the one of number n (`INV-CACHE`).
    MemTypes(u8),
    /// It is referred to, but has no owner (`INV-OWNER`).
    Unowned,
    /// It is the hypervisor's own, and a guest refers to it (`INV-OWNER`).
    HypervisorFrame,
    /// Pinned, but not validated (`INV-PIN`).
    PinnedIdle,
    /// Validating or devalidating, although no CPU is inside the validator.
    InTransit,
    /// An entry of it has bits that its level doesn't permit, lacks those that it must have, or
    /// points outside the guest's frames (`INV-ENTRY`); or it isn't present and names memory that
    /// the CPU could read through it (`INV-ABSENT`).
    BadEntry(Index, u64),
}

impl Discrepancy {
    /// As a log record.
    pub fn record(&self) -> record::Discrepancy<'static> {
        let info = &self.recorded;
        let mut record = record::Discrepancy {
            frame: self.frame,
            wrong: self.kind.name(),
            counted: None,
            used_as: None,
            types: None,
            present: None,
            index: None,
            entry: None,
            seen: info.kind().name(),
            state: info.state().name(),
            count: info.type_count().into(),
            refs: info.references(),
            pinned: Bit(info.is_pinned()),
        };
        match self.kind {
            DiscrepancyKind::References(counted) | DiscrepancyKind::TypeCount(counted) => {
                record.counted = Some(counted);
            }
            DiscrepancyKind::UsedAs(kind) => record.used_as = Some(kind.name()),
            DiscrepancyKind::MemTypes(types) => {
                record.types = Some(MemoryTypes(types));
                record.present = Some(info.memtype().name());
            }
            DiscrepancyKind::BadEntry(index, entry) => {
                record.index = Some(index.get() as u16);
                record.entry = Some(Hex16(entry));
            }
            DiscrepancyKind::MappedWritable
            | DiscrepancyKind::Unowned
            | DiscrepancyKind::HypervisorFrame
            | DiscrepancyKind::PinnedIdle
            | DiscrepancyKind::InTransit => {}
        }
        record
    }
}

impl DiscrepancyKind {
    /// Its word in the log.
    const fn name(self) -> &'static str {
        match self {
            DiscrepancyKind::References(_) => "references",
            DiscrepancyKind::TypeCount(_) => "type_count",
            DiscrepancyKind::UsedAs(_) => "type",
            DiscrepancyKind::MappedWritable => "writable_table",
            DiscrepancyKind::MemTypes(_) => "cached",
            DiscrepancyKind::Unowned => "unowned",
            DiscrepancyKind::HypervisorFrame => "hypervisor_frame",
            DiscrepancyKind::PinnedIdle => "pinned_idle",
            DiscrepancyKind::InTransit => "in_transit",
            DiscrepancyKind::BadEntry(..) => "entry",
        }
    }
}

impl core::fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.record().fmt(f)
    }
}

/// Totals of an audit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditSummary {
    /// Frames of RAM.
    pub frames: u64,
    /// Those of them that are the hypervisor's own.
    pub hypervisor: u64,
    /// Live tables.
    pub tables: u64,
    /// Present entries in them.
    pub entries: u64,
    /// Discrepancies.
    pub wrong: u64,
}

/// An audit under way.
struct Audit<'s> {
    cells: &'s mut [AuditCell],
    summary: AuditSummary,
    report: &'s mut dyn FnMut(Discrepancy),
}

impl Audit<'_> {
    fn wrong(&mut self, frame: Mfn, kind: DiscrepancyKind, recorded: FrameInfo) {
        self.summary.wrong += 1;
        (self.report)(Discrepancy { frame, kind, recorded });
    }

    fn count(&mut self, mfn: Mfn, reference: Option<Kind>, cached: MemoryType) {
        let cell = usize::try_from(mfn.get()).ok().and_then(|number| self.cells.get_mut(number));
        let Some(cell) = cell else { return };
        cell.cached |= 1 << cached as u8;
        match reference {
            None => cell.general = cell.general.saturating_add(1),
            Some(kind) => {
                if kind == Kind::Writable {
                    cell.writable = cell.writable.saturating_add(1);
                }
                cell.typed = cell.typed.saturating_add(1);
                cell.kinds |= 1 << kind as u8;
            }
        }
    }
}

impl<P: Platform> Validator<'_, P> {
    /// Recounts all references, and calls `report` for each discrepancy. `scratch` must have a cell for
    /// each frame ([`Validator::frame_count`]); `externals` are all references that the caller holds.
    ///
    /// `None` if there is too little scratch space.
    pub fn audit(
        &self,
        scratch: &mut [AuditCell],
        externals: impl IntoIterator<Item = ExternalRef>,
        report: &mut dyn FnMut(Discrepancy),
    ) -> Option<AuditSummary> {
        let cells = scratch.get_mut(..self.frames.len())?;
        cells.fill(AuditCell::default());
        let mut audit = Audit { cells, summary: AuditSummary::default(), report };
        for ExternalRef { frame, kind: held } in externals {
            let kind = match held {
                RefKind::Root => Some(Kind::L4),
                RefKind::Writable => Some(Kind::Writable),
                RefKind::Descriptors => Some(Kind::Descriptor),
                RefKind::Readable => None,
            };
            audit.count(frame, kind, MemoryType::WriteBack);
        }
        for (number, frame) in self.frames.iter().enumerate() {
            let info = frame.info();
            let live = match info.state() {
                State::Validated => ENTRIES,
                State::Partial => usize::from(info.resume().unwrap_or(0)).min(ENTRIES),
                State::Idle | State::Validating | State::Devalidating => 0,
            };
            if let Some(level) = info.kind().level() {
                audit.summary.tables += u64::from(live != 0);
                self.recount(&mut audit, Mfn::new(number as u64), info, level, live);
            }
        }
        for (number, frame) in self.frames.iter().enumerate() {
            compare(&mut audit, number, frame.info());
        }
        Some(audit.summary)
    }

    /// Counts what the first `live` entries of a table hold.
    fn recount(
        &self,
        audit: &mut Audit<'_>,
        table: Mfn,
        info: FrameInfo,
        level: Level,
        live: usize,
    ) {
        let forced =
            info.owner().map_or(EntryFlags::empty(), |owner| self.platform.forced_flags(owner));
        for slot in 0..live {
            let index = Index::new_truncate(slot as u64);
            if level == Level::L4 && index.is_reserved() {
                continue;
            }
            let raw = self.read(table, index);
            if raw & PRESENT == 0 {
                if self.absent.memory(raw).is_some() {
                    audit.wrong(table, DiscrepancyKind::BadEntry(index, raw), info);
                }
                continue;
            }
            audit.summary.entries += 1;
            let mfn = target(raw);
            let owner = self.owner(mfn);
            // INV-FOREIGN: an L1 entry may map a granted frame.
            let granted = level == Level::L1
                && self.frame(mfn).is_some_and(|frame| frame.ref_word().is_foreign_mapped());
            if raw & self.rules.forbidden(level) != 0
                || EntryRules::effective(level, raw, forced) != raw
                || owner.is_none()
                || owner != info.owner() && !granted
            {
                audit.wrong(table, DiscrepancyKind::BadEntry(index, raw), info);
            }
            match level.below() {
                None if raw & WRITABLE == 0 => audit.count(mfn, None, memtype_of(raw)),
                None => audit.count(mfn, Some(Kind::Writable), memtype_of(raw)),
                Some(_) if mfn == table => {
                    if raw & WRITABLE != 0 {
                        audit.wrong(table, DiscrepancyKind::BadEntry(index, raw), info);
                    }
                }
                Some(below) => {
                    audit.count(mfn, Some(Kind::table(below)), MemoryType::WriteBack);
                }
            }
        }
    }
}

/// Compares what was counted for a frame with its record.
fn compare(audit: &mut Audit<'_>, number: usize, info: FrameInfo) {
    let mfn = Mfn::new(number as u64);
    let cell = audit.cells[number];
    if !info.is_ram() {
        if cell.general != 0 || cell.typed != 0 {
            audit.wrong(mfn, DiscrepancyKind::Unowned, info);
        }
        return;
    }
    audit.summary.frames += 1;
    if info.owner().is_none() {
        let clean = info.memtype().is_write_back();
        if cell.general != 0 || cell.typed != 0 || info.references() != 0 || !clean {
            audit.wrong(mfn, DiscrepancyKind::Unowned, info);
        }
        return;
    }
    if info.owner() == Some(DomId::HYPERVISOR) {
        audit.summary.hypervisor += 1;
        let ours = info.kind() == Kind::Hypervisor && info.purpose().is_some();
        if cell.general != 0 || cell.typed != 0 || info.references() != 1 || !ours {
            audit.wrong(mfn, DiscrepancyKind::HypervisorFrame, info);
        }
        return;
    }
    let engaged = info.state() != State::Idle;
    let references = 1 + u64::from(cell.general) + u64::from(engaged);
    if references != info.references() {
        audit.wrong(mfn, DiscrepancyKind::References(references), info);
    }
    let own = u64::from(info.is_pinned()) + u64::from(info.is_shared());
    let typed = u64::from(cell.typed) + own;
    if typed != u64::from(info.type_count()) {
        audit.wrong(mfn, DiscrepancyKind::TypeCount(typed), info);
    }
    for kind in [Kind::Writable, Kind::L1, Kind::L2, Kind::L3, Kind::L4, Kind::Descriptor] {
        let usable = info.state() == State::Validated && info.kind() == kind;
        if cell.kinds & 1 << kind as u8 != 0 && !usable {
            audit.wrong(mfn, DiscrepancyKind::UsedAs(kind), info);
        }
    }
    let table = !matches!(info.kind(), Kind::None | Kind::Writable);
    if table && engaged && cell.writable != 0 {
        audit.wrong(mfn, DiscrepancyKind::MappedWritable, info);
    }
    compare_memtypes(audit, mfn, cell, info, table && engaged || info.is_shared());
    if info.is_pinned() && info.state() != State::Validated {
        audit.wrong(mfn, DiscrepancyKind::PinnedIdle, info);
    }
    if matches!(info.state(), State::Validating | State::Devalidating) {
        audit.wrong(mfn, DiscrepancyKind::InTransit, info);
    }
}

/// Compares the memory types that were found for a frame with its record. `by_hypervisor`: the
/// hypervisor reads or writes it through its own view.
fn compare_memtypes(
    audit: &mut Audit<'_>,
    mfn: Mfn,
    mut cell: AuditCell,
    info: FrameInfo,
    by_hypervisor: bool,
) {
    if by_hypervisor {
        cell.cached |= 1 << MemoryType::WriteBack as u8;
    }
    let good = match info.memtype() {
        FrameMemType::Uniform(kind) => cell.cached & !(1 << kind as u8) == 0,
        FrameMemType::Mixed => !by_hypervisor,
        FrameMemType::Changing => false,
    };
    if !good {
        audit.wrong(mfn, DiscrepancyKind::MemTypes(cell.cached), info);
    }
}
