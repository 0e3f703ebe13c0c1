//! A machine in memory: tables are words, CPUs have TLBs that forget only when flushed, and of each
//! frame it is known whether the caches may differ from memory.

use crate::addr::ENTRIES;
use crate::entry::target;
use crate::entry::{PRESENT, WRITABLE};
use crate::memtype::memtype_of;
use crate::*;
use pinfold_abi::layout::HYPERVISOR_SLOTS;
use pinfold_abi::mmu::MemoryType;
use std::boxed::Box;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::vec::Vec;

/// What the hypervisor's slots hold: recognisable, and not what a guest could write.
pub(super) const RESERVED_ENTRY: u64 = 0x0000_7f00_0000_0063;

/// The bit that lets ring 3 use an entry.
const USER: u64 = 4;

/// A page walk that a CPU remembers: below `table`, which it reached at `level`, for addresses
/// that start with `slots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CachedWalk {
    pub(super) table: Mfn,
    pub(super) level: Level,
    pub(super) writable: bool,
}

/// A translation that a CPU remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CachedLeaf {
    pub(super) frame: Mfn,
    pub(super) writable: bool,
    pub(super) memory: MemoryType,
}

/// A CPU: what it runs, and what its TLB remembers.
#[derive(Debug, Default)]
pub(super) struct Cpu {
    pub(super) running: Option<(DomId, Mfn)>,
    pub(super) walks: Vec<CachedWalk>,
    pub(super) leaves: Vec<CachedLeaf>,
}

/// The machine.
#[derive(Debug, Default)]
pub(super) struct Machine {
    words: Vec<AtomicU64>,
    pub(super) cpus: Vec<Mutex<Cpu>>,
    /// Of each domain: where it ran since.
    dirty: Mutex<std::collections::BTreeMap<u16, u64>>,
    pub(super) flushes: AtomicUsize,
    /// Entries that the validator has read.
    pub(super) reads: AtomicUsize,
    /// Of each frame: it was used past the caches since they were flushed of it.
    incoherent: Vec<AtomicBool>,
    pub(super) cache_flushes: AtomicUsize,
    cache_policy: CachePolicy,
    /// What was told of, as would have been refused.
    pub(super) reported: Mutex<Vec<Refusal>>,
    validator: OnceLock<&'static World>,
}

pub(super) type World = Validator<'static, &'static Machine>;

impl Machine {
    pub(super) fn get(&self, table: Mfn, slot: usize) -> u64 {
        self.word(table, slot).load(Ordering::SeqCst)
    }

    /// Stores as a guest does that has the page mapped writable: nobody asked.
    pub(super) fn set(&self, table: Mfn, slot: usize, value: u64) {
        self.word(table, slot).store(value, Ordering::SeqCst);
    }

    pub(super) fn clear(&self, frame: Mfn) {
        for slot in 0..ENTRIES {
            self.set(frame, slot, 0);
        }
    }

    fn word(&self, table: Mfn, slot: usize) -> &AtomicU64 {
        &self.words[table.get() as usize * ENTRIES + slot]
    }

    /// Full flush of one CPU, as the edge does it.
    pub(super) fn flush_cpu(&self, cpu: usize) {
        let flush = || {
            let mut state = self.cpus[cpu].lock().unwrap();
            state.walks.clear();
            state.leaves.clear();
            let running = state.running;
            let mut dirty = self.dirty.lock().unwrap();
            for (&dom, cpus) in dirty.iter_mut() {
                if running.is_none_or(|(running, _)| running.get() != dom) {
                    *cpus &= !(1 << cpu);
                }
            }
        };
        self.validator.get().expect("the world is made").record_flush(cpu, flush);
    }

    /// Loads a root, or nothing; the caller holds the reference.
    pub(super) fn load(&self, cpu: usize, root: Option<(DomId, Mfn)>) {
        if let Some((dom, _)) = root {
            *self.dirty.lock().unwrap().entry(dom.get()).or_default() |= 1 << cpu;
        }
        self.cpus[cpu].lock().unwrap().running = root;
        self.flush_cpu(cpu);
    }

    /// The CPU translates an address of the running domain, and remembers how.
    pub(super) fn touch(&self, cpu: usize, address: Vaddr) {
        let mut state = self.cpus[cpu].lock().unwrap();
        let Some((_, root)) = state.running else { return };
        let from = CachedWalk { table: root, level: Level::L4, writable: true };
        self.walk_from(&mut state, from, address);
    }

    /// The same, beginning at a walk that it remembers.
    pub(super) fn touch_cached(&self, cpu: usize, which: usize, address: Vaddr) {
        let mut state = self.cpus[cpu].lock().unwrap();
        if state.running.is_some()
            && let Some(&from) = state.walks.get(which % state.walks.len().max(1))
        {
            self.walk_from(&mut state, from, address);
        }
    }

    fn walk_from(&self, state: &mut Cpu, mut at: CachedWalk, address: Vaddr) {
        loop {
            if !state.walks.contains(&at) {
                state.walks.push(at);
            }
            let index = address.index(at.level);
            if at.level == Level::L4 && index.is_reserved() {
                return;
            }
            let raw = self.get(at.table, index.get());
            // Guests run in ring 3. It matters: by a root's entry to itself they can walk through
            // the hypervisor's slots, but those are not for users.
            if raw & (PRESENT | USER) != PRESENT | USER {
                return;
            }
            let writable = at.writable && raw & WRITABLE != 0;
            match at.level.below() {
                Some(level) => at = CachedWalk { table: target(raw), level, writable },
                None => {
                    let memory = memtype_of(raw);
                    let leaf = CachedLeaf { frame: target(raw), writable, memory };
                    self.use_leaf(leaf);
                    if !state.leaves.contains(&leaf) {
                        state.leaves.push(leaf);
                    }
                    return;
                }
            }
        }
    }
}

impl Machine {
    /// Memory is read or written through a translation.
    fn use_leaf(&self, leaf: CachedLeaf) {
        if leaf.memory != MemoryType::WriteBack {
            self.incoherent[leaf.frame.get() as usize].store(true, Ordering::SeqCst);
        }
    }

    /// A CPU uses a translation that it remembers, whatever the tables say now.
    pub(super) fn use_stale(&self, cpu: usize, which: usize) {
        let state = self.cpus[cpu].lock().unwrap();
        if let Some(&leaf) = state.leaves.get(which % state.leaves.len().max(1)) {
            self.use_leaf(leaf);
        }
    }

    /// Whether the caches may differ from memory.
    pub(super) fn is_incoherent(&self, frame: Mfn) -> bool {
        self.incoherent[frame.get() as usize].load(Ordering::SeqCst)
    }
}

impl Platform for Machine {
    fn read_entry(&self, table: Mfn, index: Index) -> u64 {
        self.reads.fetch_add(1, Ordering::Relaxed);
        // INV-COHERENT
        assert!(!self.is_incoherent(table), "{table} is read, and the caches may be stale");
        self.get(table, index.get())
    }

    fn write_entry(&self, table: Mfn, index: Index, value: u64) {
        self.set(table, index.get(), value);
    }

    fn compare_exchange_entry(
        &self,
        table: Mfn,
        index: Index,
        current: u64,
        new: u64,
    ) -> Result<(), u64> {
        self.word(table, index.get())
            .compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
            .map(|_| ())
    }

    fn flush_tlb(&self, cpus: CpuSet) {
        for cpu in cpus.iter() {
            self.flushes.fetch_add(1, Ordering::SeqCst);
            self.flush_cpu(cpu);
        }
    }

    fn dirty_cpus(&self, dom: DomId) -> CpuSet {
        CpuSet::from_bits(self.dirty.lock().unwrap().get(&dom.get()).copied().unwrap_or(0))
    }

    fn all_cpus(&self) -> CpuSet {
        CpuSet::from_bits((1 << self.cpus.len()) - 1)
    }

    fn clear_frame(&self, frame: Mfn) {
        // INV-CLEAN: whoever could still write to it would write after it was cleared.
        for (number, cpu) in self.cpus.iter().enumerate() {
            let cpu = cpu.lock().unwrap();
            let leaf = cpu.leaves.iter().find(|leaf| leaf.frame == frame);
            assert!(leaf.is_none(), "cleared while CPU {number} remembers {leaf:?}");
            let walk = cpu.walks.iter().find(|walk| walk.table == frame);
            assert!(walk.is_none(), "cleared while CPU {number} remembers {walk:?}");
        }
        self.clear(frame);
    }

    fn invalidate_m2p(&self, _: Mfn) {}

    fn flush_cache(&self, frame: Mfn) {
        self.cache_flushes.fetch_add(1, Ordering::SeqCst);
        self.incoherent[frame.get() as usize].store(false, Ordering::SeqCst);
        for (number, cpu) in self.cpus.iter().enumerate() {
            let leaves = &cpu.lock().unwrap().leaves;
            let stale = leaves.iter().find(|leaf| leaf.frame == frame);
            assert!(stale.is_none(), "caches flushed while CPU {number} remembers {stale:?}");
        }
    }

    fn cache_policy(&self, _: DomId) -> CachePolicy {
        self.cache_policy
    }

    fn report_cache_alias(&self, would_be_refused: &Refusal) {
        self.reported.lock().unwrap().push(*would_be_refused);
    }

    fn install_hypervisor_slots(&self, _: DomId, root: Mfn) {
        for slot in HYPERVISOR_SLOTS {
            self.set(root, slot, RESERVED_ENTRY);
        }
    }

    fn clear_hypervisor_slots(&self, root: Mfn) {
        for slot in HYPERVISOR_SLOTS {
            self.set(root, slot, 0);
        }
    }
}

/// Frames behind the machine's RAM that only the firmware knows.
pub(super) const FIRMWARE_FRAMES: u64 = 4;

/// What a world is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) frames: usize,
    pub(super) cpus: usize,
    pub(super) physical_bits: u8,
    pub(super) nx: bool,
    pub(super) l1tf: bool,
    pub(super) refuse_linear_roots: bool,
    pub(super) cache: CachePolicy,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            frames: 32,
            cpus: 2,
            physical_bits: 40,
            nx: true,
            l1tf: false,
            refuse_linear_roots: false,
            cache: CachePolicy::Strict,
        }
    }
}

/// Makes a world: frame 0 is no RAM, the others are free. It is never freed: the machine and its
/// validator know each other.
pub(super) fn world(setup: Setup) -> &'static World {
    let machine: &'static Machine = Box::leak(Box::new(Machine {
        words: (0..setup.frames * ENTRIES).map(|_| AtomicU64::new(0)).collect(),
        cpus: (0..setup.cpus).map(|_| Mutex::default()).collect(),
        incoherent: (0..setup.frames).map(|_| AtomicBool::new(false)).collect(),
        cache_policy: setup.cache,
        ..Machine::default()
    }));
    let frames: Vec<FrameEntry> = (0..setup.frames).map(|_| FrameEntry::new()).collect();
    let limits = Limits {
        physical_bits: setup.physical_bits,
        nx: setup.nx,
        max_mfn: Mfn::new(setup.frames as u64 - 1),
        max_cached_mfn: Mfn::new(setup.frames as u64 - 1 + FIRMWARE_FRAMES),
        policy: Policy { l1tf: setup.l1tf, refuse_linear_roots: setup.refuse_linear_roots },
    };
    let validator: &'static World =
        Box::leak(Box::new(Validator::new(machine, Vec::leak(frames), limits)));
    machine.validator.set(validator).expect("just made");
    for number in 1..setup.frames {
        assert!(validator.add_ram_frame(Mfn::new(number as u64)));
    }
    validator
}

/// Recounts everything; panics at the first thing that is wrong.
pub(super) fn audit(
    world: &World,
    externals: &[ExternalRef],
    scratch: &mut Vec<AuditCell>,
) -> AuditSummary {
    scratch.resize(world.frame_count() as usize, AuditCell::default());
    world
        .audit(scratch, externals.iter().copied(), &mut |wrong| panic!("audit: {wrong}"))
        .expect("scratch for every frame")
}

/// `INV-CACHE`, `INV-COHERENT`: no CPU remembers a frame otherwise than it is cached, unless it is
/// mixed; and one that was used past the caches isn't taken for write-back.
pub(super) fn check_caches(world: &World) {
    for (number, cpu) in world.platform().cpus.iter().enumerate() {
        for leaf in &cpu.lock().unwrap().leaves {
            let info = world.info(leaf.frame).unwrap();
            let same = info.memtype() == FrameMemType::Uniform(leaf.memory);
            let good = same || info.memtype() == FrameMemType::Mixed;
            assert!(good, "CPU {number} remembers {leaf:?}: {info:?}");
        }
    }
    for number in 0..world.frame_count() {
        let (frame, info) = (Mfn::new(number), world.info(Mfn::new(number)).unwrap());
        let stale = world.platform().is_incoherent(frame);
        assert!(!stale || !info.memtype().is_write_back(), "frame {frame}: {info:?}");
    }
}

/// `INV-TLB`, `INV-OWNER`: no CPU remembers a table or descriptor page as writable, a page walk
/// through what is no table of that level any more, or a frame that another domain has and didn't
/// lend (`INV-FOREIGN`).
pub(super) fn check_tlbs(world: &World) {
    for (number, cpu) in world.platform().cpus.iter().enumerate() {
        let cpu = cpu.lock().unwrap();
        let Some((dom, _)) = cpu.running else {
            assert!(cpu.leaves.is_empty() && cpu.walks.is_empty());
            continue;
        };
        for leaf in &cpu.leaves {
            let info = world.info(leaf.frame).unwrap();
            let held = info.held_as();
            assert!(
                !leaf.writable || matches!(held, None | Some(Kind::Writable)),
                "CPU {number} remembers {leaf:?}: {info:?}"
            );
            assert!(
                info.owner().is_none_or(|owner| owner == dom) || info.is_foreign_mapped(),
                "CPU {number} of domain {dom} remembers {leaf:?}: {info:?}"
            );
        }
        for walk in &cpu.walks {
            let info = world.info(walk.table).unwrap();
            // Through a read-only entry to itself a table is walked as one of a lower level: that
            // way all is read-only.
            let good = match info.held_as() {
                None => true,
                Some(kind) => kind.level().is_some_and(|level| {
                    level == walk.level || level > walk.level && !walk.writable
                }),
            };
            assert!(good, "CPU {number} remembers {walk:?}: {info:?}");
            assert!(info.owner().is_none_or(|owner| owner == dom));
        }
    }
}
