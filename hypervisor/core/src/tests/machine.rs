//! A machine whose CPUs remember every translation that they ever used, until they are flushed, and
//! write through all of them at every opportunity.
//!
//! At each call that the code under test makes of the machine, and after each operation, every CPU
//! stores through every writable translation that it remembers ([`Machine::attack`]). The store is
//! real: what it hits is changed. It must never hit a frame that is a table in use, a descriptor
//! page, the hypervisor's own, or a domain's other than the one whose translation it is (unless it
//! is foreign-mapped). No frame is exempt, free ones included: a store to one of those is harmless, and
//! whoever gets the frame next must find it zero. Page walks that a CPU remembers write nothing here
//! (a real one could set accessed bits); that none leads through a frame that is handed out is
//! checked when the frame is cleared.

use super::{CPUS, POISON, POISON_SLOT};
use crate::grant::pages::FrameWords;
use pinfold_abi::layout::HYPERVISOR_SLOTS;
use pinfold_abi::mmu::ENTRY_ADDRESS;
use pinfold_validator::{
    CachePolicy, CpuSet, DomId, Index, Kind, Level, Mfn, Platform, Refusal, State, Vaddr, Validator,
};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock};
use std::vec::Vec;

pub(super) type MachineValidator = Validator<'static, &'static Machine>;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const ENTRIES: usize = 512;

/// A translation that a CPU remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leaf {
    dom: DomId,
    frame: Mfn,
    writable: bool,
}

/// A CPU: what it runs, and what its TLB and its caches of page walks remember.
#[derive(Debug, Default)]
struct Cpu {
    running: Option<(DomId, Mfn)>,
    leaves: Vec<Leaf>,
    walks: Vec<Mfn>,
}

/// How often what was met. A run that met too little proves nothing.
#[derive(Debug, Default)]
pub(super) struct Hits {
    /// Stores through a remembered translation to a frame that is free or about to be handed out.
    pub(super) free: AtomicU64,
    /// The same while the frame was being taken, flushed and cleared.
    pub(super) taken: AtomicU64,
    /// Stores to a frame whose tables map it no more.
    pub(super) stale: AtomicU64,
    /// Stores to a frame that is on its way to becoming a table.
    pub(super) validating: AtomicU64,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Machine {
    words: Vec<AtomicU64>,
    cpus: Vec<Mutex<Cpu>>,
    dirty: Mutex<BTreeMap<u16, u64>>,
    validator: OnceLock<&'static MachineValidator>,
    pub(super) hits: Hits,
}

impl Machine {
    pub(super) fn leak(frames: usize) -> &'static Machine {
        Box::leak(Box::new(Machine {
            words: (0..frames * ENTRIES).map(|_| AtomicU64::new(0)).collect(),
            cpus: (0..CPUS).map(|_| Mutex::default()).collect(),
            dirty: Mutex::default(),
            validator: OnceLock::new(),
            hits: Hits::default(),
        }))
    }

    pub(super) fn know(&self, validator: &'static MachineValidator) {
        self.validator.set(validator).expect("reported once");
    }

    fn validator(&self) -> &'static MachineValidator {
        self.validator.get().expect("reported at once")
    }

    pub(super) fn get(&self, frame: Mfn, slot: usize) -> u64 {
        self.words[frame.get() as usize * ENTRIES + slot].load(SeqCst)
    }

    pub(super) fn set(&self, frame: Mfn, slot: usize, value: u64) {
        self.words[frame.get() as usize * ENTRIES + slot].store(value, SeqCst);
    }

    /// The frame holds nothing that anybody left in it.
    pub(super) fn assert_zero(&self, frame: Mfn) {
        for slot in 0..ENTRIES {
            let word = self.get(frame, slot);
            assert_eq!(word, 0, "frame {frame} was handed out with a word of somebody's");
        }
    }

    /// Loads a root, or nothing, on a CPU; the caller holds the reference.
    pub(super) fn load(&self, cpu: usize, root: Option<(DomId, Mfn)>) {
        if let Some((dom, _)) = root {
            *self.dirty.lock().unwrap().entry(dom.get()).or_default() |= 1 << cpu;
        }
        self.cpus[cpu].lock().unwrap().running = root;
        self.flush_cpu(cpu);
    }

    pub(super) fn running(&self, cpu: usize) -> Option<DomId> {
        self.cpus[cpu].lock().unwrap().running.map(|(dom, _)| dom)
    }

    fn flush_cpu(&self, cpu: usize) {
        self.validator().record_flush(cpu, || {
            let mut state = self.cpus[cpu].lock().unwrap();
            state.leaves.clear();
            state.walks.clear();
            let running = state.running.map(|(dom, _)| dom.get());
            for (dom, cpus) in self.dirty.lock().unwrap().iter_mut() {
                if running != Some(*dom) {
                    *cpus &= !(1 << cpu);
                }
            }
        });
    }

    /// The CPU translates an address of the domain that it runs, and remembers how.
    pub(super) fn touch(&self, cpu: usize, address: Vaddr) {
        let mut state = self.cpus[cpu].lock().unwrap();
        let Some((dom, mut table)) = state.running else { return };
        let mut writable = true;
        for level in [Level::L4, Level::L3, Level::L2, Level::L1] {
            if !state.walks.contains(&table) {
                state.walks.push(table);
            }
            let entry = self.get(table, address.index(level).get());
            if entry & PRESENT == 0 {
                return;
            }
            writable &= entry & WRITABLE != 0;
            table = Mfn::from_address(entry & ENTRY_ADDRESS);
        }
        let leaf = Leaf { dom, frame: table, writable };
        if !state.leaves.contains(&leaf) {
            state.leaves.push(leaf);
        }
    }

    /// Whether a CPU remembers a frame.
    pub(super) fn remembers(&self, frame: Mfn) -> bool {
        self.cpus.iter().any(|cpu| {
            let cpu = cpu.lock().unwrap();
            cpu.leaves.iter().any(|leaf| leaf.frame == frame) || cpu.walks.contains(&frame)
        })
    }

    /// Every CPU stores through every writable translation that it remembers.
    pub(super) fn attack(&self) {
        for (number, cpu) in self.cpus.iter().enumerate() {
            for leaf in cpu.lock().unwrap().leaves.iter().filter(|leaf| leaf.writable) {
                self.store_through(number, leaf);
            }
        }
    }

    fn store_through(&self, cpu: usize, leaf: &Leaf) {
        let info = self.validator().info(leaf.frame).expect("a frame of RAM");
        match info.owner() {
            None => {
                self.hits.free.fetch_add(1, SeqCst);
            }
            Some(DomId::HYPERVISOR) => {
                panic!("CPU {cpu} wrote to a frame of the hypervisor's: {leaf:?}, {info:?}")
            }
            Some(owner) => assert!(
                owner == leaf.dom || info.is_foreign_mapped(),
                "CPU {cpu} wrote to a frame of another domain: {leaf:?}, {info:?}"
            ),
        }
        match (info.held_as(), info.state()) {
            (None, _) if info.owner().is_some() => {
                self.hits.stale.fetch_add(1, SeqCst);
            }
            (None | Some(Kind::Writable), _) => {}
            // Not yet flushed for; when it is read, nobody may remember it (`read_entry`).
            (Some(_), State::Validating) => {
                self.hits.validating.fetch_add(1, SeqCst);
            }
            _ => panic!("CPU {cpu} wrote to a table: {leaf:?}, {info:?}"),
        }
        self.set(leaf.frame, POISON_SLOT, POISON | u64::from(leaf.dom.get()) << 16);
    }
}

impl FrameWords for Machine {
    fn word(&self, frame: Mfn, index: Index) -> &AtomicU64 {
        &self.words[frame.get() as usize * ENTRIES + index.get()]
    }
}

impl Platform for Machine {
    fn read_entry(&self, table: Mfn, index: Index) -> u64 {
        if index.get().is_multiple_of(128) {
            self.attack();
            let used = self.validator().info(table).and_then(|info| info.held_as());
            if used.is_some_and(|kind| kind.level().is_some()) {
                for cpu in &self.cpus {
                    let cpu = cpu.lock().unwrap();
                    let leaf = cpu.leaves.iter().find(|leaf| leaf.frame == table && leaf.writable);
                    assert!(leaf.is_none(), "a table is read that {leaf:?} may change");
                }
            }
        }
        self.get(table, index.get())
    }

    fn write_entry(&self, table: Mfn, index: Index, value: u64) {
        self.attack();
        self.set(table, index.get(), value);
    }

    fn compare_exchange_entry(
        &self,
        table: Mfn,
        index: Index,
        current: u64,
        new: u64,
    ) -> Result<(), u64> {
        let word = self.word(table, index);
        word.compare_exchange(current, new, SeqCst, SeqCst).map(|_| ())?;
        self.attack();
        Ok(())
    }

    fn flush_tlb(&self, cpus: CpuSet) {
        self.attack();
        cpus.iter().for_each(|cpu| self.flush_cpu(cpu));
    }

    fn dirty_cpus(&self, dom: DomId) -> CpuSet {
        CpuSet::from_bits(self.dirty.lock().unwrap().get(&dom.get()).copied().unwrap_or(0))
    }

    fn all_cpus(&self) -> CpuSet {
        CpuSet::from_bits((1 << CPUS) - 1)
    }

    fn clear_frame(&self, frame: Mfn) {
        for slot in 0..ENTRIES {
            self.set(frame, slot, 0);
        }
        // Whoever still can writes to it right after.
        if self.remembers(frame) {
            self.hits.taken.fetch_add(1, SeqCst);
        }
        self.attack();
    }

    fn invalidate_m2p(&self, _: Mfn) {
        self.attack();
    }

    fn flush_cache(&self, _: Mfn) {
        self.attack();
    }

    fn cache_policy(&self, _: DomId) -> CachePolicy {
        CachePolicy::Strict
    }

    fn report_cache_alias(&self, would_be_refused: &Refusal) {
        panic!("no domain may mix memory types: {would_be_refused}");
    }

    fn install_hypervisor_slots(&self, _: DomId, root: Mfn) {
        HYPERVISOR_SLOTS.for_each(|slot| self.set(root, slot, 0));
    }

    fn clear_hypervisor_slots(&self, root: Mfn) {
        HYPERVISOR_SLOTS.for_each(|slot| self.set(root, slot, 0));
    }
}
