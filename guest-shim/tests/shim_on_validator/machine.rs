//! A machine with one CPU: frames of words, a TLB, and the validator for a hypervisor.

use pinfold_guest::addr::{Level, Mfn, Pfn, Vaddr};
use pinfold_guest::hypercall::Errno;
use pinfold_guest::platform::{Platform, ShootdownResult};
use pinfold_validator as val;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicU64;

use pinfold_abi::errno::Errno as Known;
use pinfold_abi::mmu::{
    ENTRY_ADDRESS, EntryFlags, MMU_PT_UPDATE_PRESERVE_AD, MmuUpdate, MmuextCmd, MmuextOp,
    UVMF_FLUSHTYPE_MASK, UVMF_INVLPG, UVMF_TLB_FLUSH,
};
use pinfold_abi::pinfold::{MAPPING_ATTACHED, MAPPING_WRITABLE, Mapping, Range};

/// Where pfn 0 has its home.
const DIRECT_MAP_RW: u64 = 0xffff_ffff_8000_0000;
/// Machine frames are pseudo-physical ones, numbered from here backwards. Few for Miri, which
/// interprets every recount.
const LAST: u64 = if cfg!(miri) { 160 } else { 1 << 11 };
/// The guest.
const GUEST: val::DomId = val::DomId::new(1);
/// The CPU that the guest runs on.
const CPU: usize = 0;

/// The machine's memory and TLB.
pub(crate) struct Ram {
    words: RefCell<Vec<[u64; 512]>>,
    /// What the CPU remembers: the leaf entry of a page.
    tlb: RefCell<BTreeMap<u64, u64>>,
    /// Flushes that the validator found necessary by itself.
    forced: Cell<u64>,
    /// Frames of which the caches were flushed.
    pub(crate) cache_flushes: Cell<u64>,
}

impl Ram {
    pub(crate) fn new() -> Ram {
        Ram {
            words: RefCell::new(vec![[0; 512]; LAST as usize + 1]),
            tlb: RefCell::default(),
            forced: Cell::new(0),
            cache_flushes: Cell::new(0),
        }
    }

    fn word(&self, frame: u64, index: usize) -> u64 {
        self.words.borrow()[frame as usize][index]
    }

    fn set_word(&self, frame: u64, index: usize, word: u64) {
        self.words.borrow_mut()[frame as usize][index] = word;
    }
}

impl val::Platform for Ram {
    fn read_entry(&self, table: Mfn, index: val::Index) -> u64 {
        self.word(table.get(), index.get())
    }

    fn write_entry(&self, table: Mfn, index: val::Index, value: u64) {
        self.set_word(table.get(), index.get(), value);
    }

    fn compare_exchange_entry(
        &self,
        table: Mfn,
        index: val::Index,
        current: u64,
        new: u64,
    ) -> Result<(), u64> {
        let now = self.read_entry(table, index);
        if now != current {
            return Err(now);
        }
        self.write_entry(table, index, new);
        Ok(())
    }

    fn flush_tlb(&self, cpus: val::CpuSet) {
        assert!(cpus.contains(CPU), "there is one CPU only");
        self.forced.set(self.forced.get() + 1);
        self.tlb.borrow_mut().clear();
    }

    fn dirty_cpus(&self, _: val::DomId) -> val::CpuSet {
        val::CpuSet::of(CPU)
    }

    fn all_cpus(&self) -> val::CpuSet {
        val::CpuSet::of(CPU)
    }

    fn clear_frame(&self, frame: Mfn) {
        self.words.borrow_mut()[frame.get() as usize].fill(0);
    }

    fn invalidate_m2p(&self, _: Mfn) {}

    fn flush_cache(&self, _: Mfn) {
        self.cache_flushes.set(self.cache_flushes.get() + 1);
    }

    fn cache_policy(&self, _: val::DomId) -> val::CachePolicy {
        val::CachePolicy::Strict
    }

    fn report_cache_alias(&self, would_be_refused: &val::Refusal) {
        panic!("nothing is borne: {would_be_refused}");
    }

    fn install_hypervisor_slots(&self, _: val::DomId, _: Mfn) {}

    fn clear_hypervisor_slots(&self, _: Mfn) {}
}

pub(crate) type Judge<'a> = val::Validator<'a, &'a Ram>;

/// What the validator is told of the machine.
pub(crate) fn limits() -> val::Limits {
    val::Limits {
        physical_bits: 40,
        nx: true,
        max_mfn: Mfn::new(LAST),
        max_cached_mfn: Mfn::new(LAST),
        policy: val::Policy::default(),
    }
}

/// Records for all frames.
pub(crate) fn frame_table() -> Vec<val::FrameEntry> {
    (0..=LAST).map(|_| val::FrameEntry::new()).collect()
}

/// A guest's machine, as [`Platform`] has it.
pub(crate) struct Machine<'a> {
    judge: &'a Judge<'a>,
    ram: &'a Ram,
    root: Pfn,
    frames: u64,
    /// Whether there is a `pinfold_op`.
    has_extra_call: bool,
    /// Hypercalls made, the same that the real one would make.
    pub(crate) calls: u64,
    /// Why the last refused pin was refused.
    pub(crate) last_refusal: Option<val::Cause>,
    /// The frame that the last refusal was about.
    refused_frame: Mfn,
    /// What a pin meets in the lazy ranges is cleared in the middle of it, as by the handler of an
    /// upcall; and what was, since the shim last asked.
    pub(crate) heals: bool,
    cleared: Vec<Vaddr>,
}

impl std::fmt::Debug for Machine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("calls", &self.calls).finish_non_exhaustive()
    }
}

fn mfn_of(pfn: Pfn) -> u64 {
    LAST - pfn.0
}

fn to_val(mfn: u64) -> Mfn {
    Mfn::new(mfn)
}

impl<'a> Machine<'a> {
    /// Builds a guest of so many frames, with a home for each. Also gives its free frames.
    pub(crate) fn build(
        judge: &'a Judge<'a>,
        frames: u64,
        has_extra_call: bool,
    ) -> (Machine<'a>, Vec<Pfn>) {
        let ram: &'a Ram = judge.platform();
        for pfn in 0..frames {
            let mfn = to_val(mfn_of(Pfn(pfn)));
            assert!(judge.add_ram_frame(mfn));
            judge.assign(mfn, GUEST).expect("a free frame");
        }
        let leaf_tables = frames.div_ceil(512);
        let tables = 3 + leaf_tables;
        let first = Vaddr(DIRECT_MAP_RW);
        let table = EntryFlags::PRESENT | EntryFlags::WRITABLE | EntryFlags::USER;
        let entry = |pfn: u64, flags: EntryFlags| mfn_of(Pfn(pfn)) << 12 | flags.bits();
        ram.set_word(mfn_of(Pfn(0)), first.index(Level::L4).get(), entry(1, table));
        ram.set_word(mfn_of(Pfn(1)), first.index(Level::L3).get(), entry(2, table));
        for chunk in 0..leaf_tables {
            let index = first.page(chunk * 512).index(Level::L2).get();
            ram.set_word(mfn_of(Pfn(2)), index, entry(3 + chunk, table));
        }
        for pfn in 0..frames {
            let va = first.page(pfn);
            let mut flags = EntryFlags::PRESENT;
            flags.set(EntryFlags::WRITABLE, pfn >= tables);
            ram.set_word(mfn_of(Pfn(3 + pfn / 512)), va.index(Level::L1).get(), entry(pfn, flags));
        }
        let mut budget = val::Budget::new(u32::MAX);
        let root = to_val(mfn_of(Pfn(0)));
        judge.get_root_ref(GUEST, root, &mut budget).expect("the builder's tables are right");
        let machine = Machine {
            judge,
            ram,
            root: Pfn(0),
            frames,
            has_extra_call,
            calls: 0,
            last_refusal: None,
            refused_frame: to_val(0),
            heals: false,
            cleared: Vec::new(),
        };
        (machine, (tables..frames).rev().map(Pfn).collect())
    }

    /// What the hypervisor knows of a frame.
    pub(crate) fn info(&self, mfn: Mfn) -> val::FrameInfo {
        self.judge.info(mfn).expect("a frame of RAM")
    }

    /// Recounts every reference; panics if the validator's records are wrong.
    pub(crate) fn audit(&self) {
        let mut scratch = vec![val::AuditCell::default(); self.judge.frame_count() as usize];
        let root = to_val(mfn_of(self.root));
        let held = [val::ExternalRef { frame: root, kind: val::RefKind::Root }];
        let mut report = |wrong: val::Discrepancy| panic!("audit: {wrong}");
        let summary = self.judge.audit(&mut scratch, held, &mut report);
        assert!(summary.expect("room for the audit").tables > 0);
    }

    /// Flushes that the validator found necessary by itself so far.
    pub(crate) fn forced_flushes(&self) -> u64 {
        self.ram.forced.get()
    }

    /// Repeats an operation until it's through, with budgets so small that it is suspended.
    fn through<T>(
        &mut self,
        mut operation: impl FnMut(&Judge<'a>, &mut val::Budget) -> Result<T, val::Error>,
    ) -> Result<T, Errno> {
        loop {
            match operation(self.judge, &mut val::Budget::new(700)) {
                Ok(done) => return Ok(done),
                Err(val::Error::Preempted) => {}
                Err(val::Error::Refused(refusal)) => {
                    self.last_refusal = Some(refusal.cause);
                    self.refused_frame = refusal.frame;
                    return Err(Known::EINVAL.into());
                }
            }
        }
    }

    fn pin(&mut self, level: Level, mfn: Mfn) -> Result<(), Errno> {
        loop {
            let result = self.through(|judge, budget| judge.pin(GUEST, level, mfn, budget));
            if result.is_ok() || !self.heals || !self.heal() {
                return result;
            }
        }
    }

    /// Clears what maps the refused frame in the lazy ranges; whether anything did.
    fn heal(&mut self) -> bool {
        let mut ranges = Vec::new();
        let which = val::MappingFilter::Writable;
        let frame = self.refused_frame;
        self.judge.find_mappings(
            frame,
            GUEST,
            which,
            val::SearchLimits::default(),
            &mut |mapping| {
                let lazy = mapping.address.filter(|va| va.get() < DIRECT_MAP_RW);
                ranges.extend(lazy.map(|va| Range { start: va.get(), pages: 1 }));
                ControlFlow::Continue(())
            },
        );
        self.shootdown(&ranges).expect("what is mapped can be cleared");
        self.cleared.extend(ranges.iter().map(|range| Vaddr(range.start)));
        !ranges.is_empty()
    }

    fn flush_all(&self) {
        self.judge.record_flush(CPU, || self.ram.tlb.borrow_mut().clear());
    }

    fn update(&mut self, table: u64, index: usize, value: u64, keep: bool) -> Result<(), Errno> {
        self.through(|judge, budget| {
            let update = val::Update {
                dom: GUEST,
                table_owner: GUEST,
                target_owner: GUEST,
                table: to_val(table),
                index: val::Index::new(index),
                value,
                preserve_ad: keep,
            };
            judge.update(update, budget)
        })
        .map(drop)
    }

    /// The leaf entry of an address: what the TLB remembers, else what the tables say.
    fn translate(&self, va: Vaddr) -> Option<u64> {
        let page = va.0 >> 12;
        if let Some(&entry) = self.ram.tlb.borrow().get(&page) {
            return Some(entry);
        }
        let mut table = mfn_of(self.root);
        for level in Level::ALL.into_iter().rev() {
            let entry = self.ram.word(table, va.index(level).get());
            if entry & EntryFlags::PRESENT.bits() == 0 {
                return None;
            }
            if level == Level::L1 {
                self.ram.tlb.borrow_mut().insert(page, entry);
                return Some(entry);
            }
            table = (entry & ENTRY_ADDRESS) >> 12;
        }
        None
    }

    /// The word at an address, if it is mapped; what a CPU would find there.
    pub(crate) fn peek(&self, va: Vaddr) -> Option<u64> {
        let frame = (self.translate(va)? & ENTRY_ADDRESS) >> 12;
        Some(self.ram.word(frame, (va.0 >> 3 & 511) as usize))
    }
}

impl Platform for Machine<'_> {
    fn mfn(&self, pfn: Pfn) -> Mfn {
        assert!(pfn.0 < self.frames, "there is no frame {pfn}");
        Mfn(mfn_of(pfn))
    }

    fn pfn(&self, mfn: Mfn) -> Option<Pfn> {
        LAST.checked_sub(mfn.0).filter(|&pfn| pfn < self.frames).map(Pfn)
    }

    fn direct_map_va(&self, pfn: Pfn) -> Vaddr {
        Vaddr(DIRECT_MAP_RW).page(pfn.0)
    }

    fn root(&self) -> Pfn {
        self.root
    }

    fn set_root(&mut self, root: Pfn) {
        self.root = root;
    }

    fn load(&self, va: Vaddr) -> u64 {
        self.peek(va).unwrap_or_else(|| panic!("read of {va}, which is not mapped"))
    }

    fn store(&mut self, va: Vaddr, word: u64) {
        let entry = self.translate(va);
        let entry = entry.unwrap_or_else(|| panic!("write to {va}, which is not mapped"));
        if entry & EntryFlags::WRITABLE.bits() == 0 {
            // The TLB may be behind; a processor looks at the tables before it faults.
            self.ram.tlb.borrow_mut().remove(&(va.0 >> 12));
        }
        let entry = self.translate(va).unwrap_or(0);
        assert!(entry & EntryFlags::WRITABLE.bits() != 0, "write to {va}, which is read-only");
        let frame = (entry & ENTRY_ADDRESS) >> 12;
        let info = self.judge.info(to_val(frame)).expect("a frame of RAM");
        assert!(info.kind().level().is_none() || info.type_count() == 0, "write to a table: {va}");
        self.ram.set_word(frame, (va.0 >> 3 & 511) as usize, word);
    }

    fn mmu_update(&mut self, requests: &[MmuUpdate]) -> Result<(), Errno> {
        self.calls += 1;
        for request in requests {
            let keep = request.ptr & 7 == MMU_PT_UPDATE_PRESERVE_AD;
            let index = (request.ptr >> 3 & 511) as usize;
            self.update(request.ptr >> 12, index, request.val, keep)?;
        }
        Ok(())
    }

    fn mmuext_op(&mut self, ops: &[MmuextOp]) -> Result<(), Errno> {
        self.calls += 1;
        for op in ops {
            let mfn = to_val(op.arg1);
            match MmuextCmd::from_number(op.cmd) {
                Some(
                    MmuextCmd::PinL1Table
                    | MmuextCmd::PinL2Table
                    | MmuextCmd::PinL3Table
                    | MmuextCmd::PinL4Table,
                ) => {
                    let level = Level::from_number(u64::from(op.cmd) + 1).expect("1 to 4");
                    self.pin(level, mfn)?;
                }
                Some(MmuextCmd::UnpinTable) => {
                    self.through(|judge, budget| judge.unpin(GUEST, mfn, budget))?;
                }
                Some(MmuextCmd::NewBaseptr) => {
                    let old = to_val(mfn_of(self.root));
                    self.through(|judge, budget| judge.get_root_ref(GUEST, mfn, budget))?;
                    self.flush_all();
                    self.through(|judge, budget| {
                        judge.put_root_ref(GUEST, old, budget);
                        Ok(())
                    })?;
                }
                Some(MmuextCmd::TlbFlushAll) => self.flush_all(),
                _ => return Err(Known::ENOSYS.into()),
            }
        }
        Ok(())
    }

    fn update_va_mappings(&mut self, entries: &[(Vaddr, u64)], flags: u64) -> Result<(), Errno> {
        self.calls += entries.len().div_ceil(32) as u64;
        for &(va, entry) in entries {
            let root = to_val(mfn_of(self.root));
            let leaf = self.judge.walk(root, Vaddr::new(va.0));
            let leaf = leaf.map_err(|_| Errno::from(Known::EINVAL))?;
            self.update(leaf.table.get(), leaf.index.get(), entry, false)?;
            match flags & UVMF_FLUSHTYPE_MASK {
                UVMF_INVLPG => {
                    self.ram.tlb.borrow_mut().remove(&(va.0 >> 12));
                }
                UVMF_TLB_FLUSH => self.flush_all(),
                _ => {}
            }
        }
        Ok(())
    }

    fn shootdown(&mut self, ranges: &[Range]) -> Result<ShootdownResult, Errno> {
        self.calls += 1;
        if !self.has_extra_call {
            return Err(Known::ENOSYS.into());
        }
        let mut total = val::ShootdownProgress::new();
        let root = to_val(mfn_of(self.root));
        for range in ranges {
            let start = Vaddr::new(range.start);
            let mut left = val::PageRange { start, pages: range.pages };
            self.through(|judge, budget| {
                judge.shootdown(GUEST, root, &mut left, budget, &mut total)
            })?;
        }
        let cleared = total.cleared;
        // Paid by a flush that the clock is told of, as the hypervisor does.
        let cpus = total.into_debt().cpus();
        if !cpus.is_empty() {
            self.flush_all();
        }
        Ok(ShootdownResult { cleared, flushed: cpus.len() })
    }

    fn take_cleared(&mut self) -> Vec<Vaddr> {
        std::mem::take(&mut self.cleared)
    }

    fn name_region(&mut self, _: Range, _: &str) -> Result<(), Errno> {
        Ok(())
    }

    fn freed_map(&mut self, _: Vaddr, _: &[AtomicU64]) -> Result<(), Errno> {
        Ok(())
    }

    fn forget_region(&mut self, _: Vaddr) -> Result<(), Errno> {
        Ok(())
    }

    fn find_aliases(&mut self, frames: &[Mfn]) -> Result<Vec<Mapping>, Errno> {
        if !self.has_extra_call {
            return Err(Known::ENOSYS.into());
        }
        let mut found = Vec::new();
        for &Mfn(frame) in frames {
            let mut out = |mapping: val::FrameMapping| {
                let attached = if mapping.address.is_some() { MAPPING_ATTACHED } else { 0 };
                let writable = if mapping.entry.is_writable() { MAPPING_WRITABLE } else { 0 };
                found.push(Mapping {
                    frame,
                    va: mapping.address.map_or(0, Vaddr::get),
                    table: mapping.table.get(),
                    entry: mapping.entry.get(),
                    index: mapping.index.get() as u16,
                    flags: attached | writable,
                    pad: 0,
                });
                ControlFlow::Continue(())
            };
            let (which, bounds) = (val::MappingFilter::All, val::SearchLimits::default());
            let end = self.judge.find_mappings(to_val(frame), GUEST, which, bounds, &mut out);
            assert!(!end.cut_short, "the search is long enough for this machine");
        }
        Ok(found)
    }
}
