//! A machine with one CPU: frames of words, a TLB, and the validator as its hypervisor.

use pinfold_guest::addr::{Level, Mfn, PAGE_SIZE, PAGE_WORDS, Pfn, Vaddr};
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

/// First address of the direct map.
const DIRECT_MAP: Vaddr = Vaddr(0xffff_ffff_8000_0000);
/// Number of the last machine frame, which is pfn 0; machine numbers fall as pfns rise. There are
/// few for Miri, which interprets every audit.
const LAST: u64 = if cfg!(miri) { 160 } else { 1 << 11 };
/// The guest.
const GUEST: val::DomId = val::DomId::new(1);
/// The CPU that the guest runs on.
const CPU: usize = 0;

/// The machine's memory and TLB.
pub(crate) struct Ram {
    words: RefCell<Vec<[u64; PAGE_WORDS]>>,
    /// The TLB: the leaf entry of each page.
    tlb: RefCell<BTreeMap<Vaddr, u64>>,
    /// Flushes that the validator asked for.
    forced: Cell<u64>,
    /// Frames whose cache lines were flushed.
    pub(crate) cache_flushes: Cell<u64>,
}

impl Ram {
    pub(crate) fn new() -> Ram {
        Ram {
            words: RefCell::new(vec![[0; PAGE_WORDS]; LAST as usize + 1]),
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
        assert!(cpus.contains(CPU), "there is only one CPU");
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
        panic!("the policy allows no conflict: {would_be_refused}");
    }

    fn install_hypervisor_slots(&self, _: val::DomId, _: Mfn) {}

    fn clear_hypervisor_slots(&self, _: Mfn) {}
}

/// The validator of this machine.
pub(crate) type Validator<'a> = val::Validator<'a, &'a Ram>;

/// The limits of the machine.
pub(crate) fn limits() -> val::Limits {
    val::Limits {
        physical_bits: 40,
        nx: true,
        max_mfn: Mfn::new(LAST),
        max_cached_mfn: Mfn::new(LAST),
        policy: val::Policy::default(),
    }
}

/// A frame table for all frames.
pub(crate) fn frame_table() -> Vec<val::FrameEntry> {
    (0..=LAST).map(|_| val::FrameEntry::new()).collect()
}

/// The machine, as a guest's [`Platform`].
pub(crate) struct Machine<'a> {
    validator: &'a Validator<'a>,
    ram: &'a Ram,
    root: Pfn,
    frames: u64,
    /// Whether the hypervisor has `pinfold_op`.
    has_pinfold_op: bool,
    /// Hypercalls, as many as the real platform would make.
    pub(crate) calls: u64,
    /// Why the last refused pin was refused.
    pub(crate) last_refusal: Option<val::Cause>,
    /// The frame that the last refusal was about.
    refused_frame: Mfn,
    /// Whether mappings in the lazy ranges that a pin meets are cleared in the middle of it, as by
    /// the alias upcall.
    pub(crate) upcall_enabled: bool,
    /// Addresses that were cleared so, until the shim takes them.
    cleared: Vec<Vaddr>,
}

impl std::fmt::Debug for Machine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("calls", &self.calls).finish_non_exhaustive()
    }
}

/// Index of the word at this offset of a page.
fn word_index(offset: u64) -> usize {
    offset as usize / size_of::<u64>()
}

fn mfn_of(pfn: Pfn) -> u64 {
    LAST - pfn.0
}

fn to_val(mfn: u64) -> Mfn {
    Mfn::new(mfn)
}

impl<'a> Machine<'a> {
    /// Builds a guest of so many frames, with a direct map of them. Also returns its free frames.
    pub(crate) fn build(
        validator: &'a Validator<'a>,
        frames: u64,
        has_pinfold_op: bool,
    ) -> (Machine<'a>, Vec<Pfn>) {
        let ram: &'a Ram = validator.platform();
        for pfn in 0..frames {
            let mfn = to_val(mfn_of(Pfn(pfn)));
            assert!(validator.add_ram_frame(mfn));
            validator.assign(mfn, GUEST).expect("a free frame");
        }
        let leaf_tables = frames.div_ceil(512);
        let tables = 3 + leaf_tables;
        let first = DIRECT_MAP;
        let table = EntryFlags::PRESENT | EntryFlags::WRITABLE | EntryFlags::USER;
        let entry = |pfn: u64, flags: EntryFlags| Mfn(mfn_of(Pfn(pfn))).address() | flags.bits();
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
        validator.get_root_ref(GUEST, root, &mut budget).expect("the builder's tables are right");
        let machine = Machine {
            validator,
            ram,
            root: Pfn(0),
            frames,
            has_pinfold_op,
            calls: 0,
            last_refusal: None,
            refused_frame: to_val(0),
            upcall_enabled: false,
            cleared: Vec::new(),
        };
        (machine, (tables..frames).rev().map(Pfn).collect())
    }

    /// What the validator knows of a frame.
    pub(crate) fn info(&self, mfn: Mfn) -> val::FrameInfo {
        self.validator.info(mfn).expect("a frame of RAM")
    }

    /// Recounts every reference. Panics if the frame table is wrong.
    pub(crate) fn audit(&self) {
        let mut scratch = vec![val::AuditCell::default(); self.validator.frame_count() as usize];
        let root = to_val(mfn_of(self.root));
        let held = [val::ExternalRef { frame: root, kind: val::RefKind::Root }];
        let mut report = |wrong: val::Discrepancy| panic!("audit: {wrong}");
        let summary = self.validator.audit(&mut scratch, held, &mut report);
        assert!(summary.expect("room for the audit").tables > 0);
    }

    /// Flushes that the validator asked for so far.
    pub(crate) fn forced_flushes(&self) -> u64 {
        self.ram.forced.get()
    }

    /// Repeats an operation until it has finished, with budgets so small that it is preempted.
    fn run_to_end<T>(
        &mut self,
        mut operation: impl FnMut(&Validator<'a>, &mut val::Budget) -> Result<T, val::Error>,
    ) -> Result<T, Errno> {
        loop {
            match operation(self.validator, &mut val::Budget::new(700)) {
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
            let result =
                self.run_to_end(|validator, budget| validator.pin(GUEST, level, mfn, budget));
            if result.is_ok() || !self.upcall_enabled || !self.run_upcall() {
                return result;
            }
        }
    }

    /// Clears the mappings of the refused frame in the lazy ranges. Returns whether there were any.
    fn run_upcall(&mut self) -> bool {
        let mut ranges = Vec::new();
        let which = val::MappingFilter::Writable;
        let frame = self.refused_frame;
        self.validator.find_mappings(
            frame,
            GUEST,
            which,
            val::SearchLimits::default(),
            &mut |mapping| {
                let lazy = mapping.address.filter(|&va| va < DIRECT_MAP);
                ranges.extend(lazy.map(|va| Range { start: va.get(), pages: 1 }));
                ControlFlow::Continue(())
            },
        );
        self.shootdown(&ranges).expect("what is mapped can be cleared");
        self.cleared.extend(ranges.iter().map(|range| Vaddr(range.start)));
        !ranges.is_empty()
    }

    fn flush_all(&self) {
        self.validator.record_flush(CPU, || self.ram.tlb.borrow_mut().clear());
    }

    fn update(&mut self, table: u64, index: usize, value: u64, keep: bool) -> Result<(), Errno> {
        self.run_to_end(|validator, budget| {
            let update = val::Update {
                dom: GUEST,
                table_owner: GUEST,
                target_owner: GUEST,
                table: to_val(table),
                index: val::Index::new(index),
                value,
                preserve_ad: keep,
            };
            validator.update(update, budget)
        })
        .map(drop)
    }

    /// The leaf entry of an address: from the TLB, else from the tables.
    fn translate(&self, va: Vaddr) -> Option<u64> {
        let page = va.page_start();
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
            table = Mfn::from_address(entry & ENTRY_ADDRESS).get();
        }
        None
    }

    /// The word that a CPU would read at an address, if it is mapped.
    pub(crate) fn read_word(&self, va: Vaddr) -> Option<u64> {
        let frame = Mfn::from_address(self.translate(va)? & ENTRY_ADDRESS).get();
        Some(self.ram.word(frame, word_index(va.page_offset())))
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
        DIRECT_MAP.page(pfn.0)
    }

    fn root(&self) -> Pfn {
        self.root
    }

    fn set_root(&mut self, root: Pfn) {
        self.root = root;
    }

    fn load(&self, va: Vaddr) -> u64 {
        self.read_word(va).unwrap_or_else(|| panic!("read of {va}, which is not mapped"))
    }

    fn store(&mut self, va: Vaddr, word: u64) {
        let entry = self.translate(va);
        let entry = entry.unwrap_or_else(|| panic!("write to {va}, which is not mapped"));
        if entry & EntryFlags::WRITABLE.bits() == 0 {
            // The TLB entry may be stale: a processor walks the tables before it faults.
            self.ram.tlb.borrow_mut().remove(&va.page_start());
        }
        let entry = self.translate(va).unwrap_or(0);
        assert!(entry & EntryFlags::WRITABLE.bits() != 0, "write to {va}, which is read-only");
        let frame = Mfn::from_address(entry & ENTRY_ADDRESS).get();
        let info = self.validator.info(to_val(frame)).expect("a frame of RAM");
        assert!(info.kind().level().is_none() || info.type_count() == 0, "write to a table: {va}");
        self.ram.set_word(frame, word_index(va.page_offset()), word);
    }

    fn mmu_update(&mut self, requests: &[MmuUpdate]) -> Result<(), Errno> {
        self.calls += 1;
        for request in requests {
            let keep = request.ptr & 7 == MMU_PT_UPDATE_PRESERVE_AD;
            let index = word_index(request.ptr % PAGE_SIZE);
            self.update(Mfn::from_address(request.ptr).get(), index, request.val, keep)?;
        }
        Ok(())
    }

    fn mmuext_op(&mut self, ops: &[MmuextOp]) -> Result<(), Errno> {
        self.calls += 1;
        for op in ops {
            let mfn = to_val(op.arg1);
            match MmuextCmd::from_repr(op.cmd) {
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
                    self.run_to_end(|validator, budget| validator.unpin(GUEST, mfn, budget))?;
                }
                Some(MmuextCmd::NewBaseptr) => {
                    let old = to_val(mfn_of(self.root));
                    self.run_to_end(|validator, budget| {
                        validator.get_root_ref(GUEST, mfn, budget)
                    })?;
                    self.flush_all();
                    self.run_to_end(|validator, budget| {
                        validator.put_root_ref(GUEST, old, budget);
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
            let leaf = self.validator.walk(root, Vaddr::new(va.0));
            let leaf = leaf.map_err(|_| Errno::from(Known::EINVAL))?;
            self.update(leaf.table.get(), leaf.index.get(), entry, false)?;
            match flags & UVMF_FLUSHTYPE_MASK {
                UVMF_INVLPG => {
                    self.ram.tlb.borrow_mut().remove(&va.page_start());
                }
                UVMF_TLB_FLUSH => self.flush_all(),
                _ => {}
            }
        }
        Ok(())
    }

    fn shootdown(&mut self, ranges: &[Range]) -> Result<ShootdownResult, Errno> {
        self.calls += 1;
        if !self.has_pinfold_op {
            return Err(Known::ENOSYS.into());
        }
        let mut total = val::ShootdownProgress::new();
        let root = to_val(mfn_of(self.root));
        for range in ranges {
            let start = Vaddr::new(range.start);
            let mut left = val::PageRange { start, pages: range.pages };
            self.run_to_end(|validator, budget| {
                validator.shootdown(GUEST, root, &mut left, budget, &mut total)
            })?;
        }
        let cleared = total.cleared;
        // The flush is recorded in the flush clock, as the hypervisor does.
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
        if !self.has_pinfold_op {
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
            let end = self.validator.find_mappings(to_val(frame), GUEST, which, bounds, &mut out);
            assert!(!end.cut_short, "the search is long enough for this machine");
        }
        Ok(found)
    }
}
