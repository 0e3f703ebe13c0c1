//! Two CPUs with a guest in the hardware container: one L1 table, one page, and TLBs by ASID that
//! forget nothing by themselves.
//!
//! The validator is the real one, and so are the ASIDs. What the hypervisor does on a CPU, and what the
//! guest does in one instruction, happens under the CPU's lock: an IPI comes between instructions,
//! and the hypervisor runs with interrupts disabled.

use crate::asid::{AsidSpace, VcpuAsid};
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};
use pinfold_abi::mmu::EntryFlags;
use pinfold_validator::{
    Budget, CachePolicy, CpuSet, DomId, Entry, FrameEntry, Index, Level, Limits, Mfn, Platform,
    Policy, Refusal, Update, Validator,
};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::vec::Vec;

const DOM: DomId = DomId::new(1);
/// The guest's L1 table. Its only entry may map the page.
const TABLE: Mfn = Mfn::new(1);
const PAGE: Mfn = Mfn::new(2);
const FRAMES: usize = 3;
const CPUS: usize = 2;

/// What the hypervisor forgets, to show that the model notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forgets {
    /// Nothing.
    Nothing,
    /// To retire the ASIDs at a recorded flush.
    ToRetireAll,
    /// To put the new ASID into the VMCB.
    TheNewAsid,
    /// To set TLB_CONTROL.
    TlbControl,
    /// To retire the ASID of a vCPU whose root changes.
    ToRetireOne,
}

/// A CPU with one vCPU of the guest.
struct Cpu {
    space: AsidSpace,
    vcpu: VcpuAsid,
    /// The vCPU's root. Only the first maps the page.
    root: u32,
    /// In guest mode: between a VMRUN and the next exit.
    in_guest: bool,
    /// The VMCB's ASID.
    asid: u32,
    /// For each ASID, the roots through which the page was found.
    tlb: BTreeMap<u32, Vec<u32>>,
    /// The page is in use as a table.
    taken: bool,
}

/// The machine with its hypervisor.
pub(super) struct World {
    validator: Validator<'static, Machine>,
    cpus: [Mutex<Cpu>; CPUS],
    forgets: Forgets,
}

/// What the validator sees of the machine.
struct Machine {
    world: Weak<World>,
    /// The table's first entry. All others are zero.
    entry: AtomicU64,
    dirty: AtomicU64,
}

impl World {
    /// Both CPUs run the guest, with so many ASIDs, and have stored to the page.
    pub(super) fn new(asids: u32, forgets: Forgets) -> Arc<World> {
        // Lent to the validator for ever, as at boot. loom's threads can't borrow.
        let frames: &'static [FrameEntry] =
            Box::leak(Box::<[FrameEntry; FRAMES]>::new(std::array::from_fn(|_| FrameEntry::new())));
        let world = Arc::new_cyclic(|world| World {
            validator: Validator::new(
                Machine {
                    world: world.clone(),
                    entry: AtomicU64::new(Entry::to(PAGE, EntryFlags::WRITABLE).get()),
                    dirty: AtomicU64::new((1 << CPUS) - 1),
                },
                frames,
                Limits {
                    physical_bits: 40,
                    nx: true,
                    max_mfn: Mfn::new(FRAMES as u64 - 1),
                    max_cached_mfn: Mfn::new(FRAMES as u64 - 1),
                    policy: Policy::default(),
                },
            ),
            cpus: std::array::from_fn(|cpu| Mutex::new(Cpu::new(cpu, asids))),
            forgets,
        });
        for frame in [TABLE, PAGE] {
            assert!(world.validator.add_ram_frame(frame));
            world.validator.assign(frame, DOM).unwrap();
        }
        world.validator.pin(DOM, Level::L1, TABLE, &mut Budget::new(u32::MAX)).unwrap();
        (0..CPUS).for_each(|cpu| world.store(cpu));
        world
    }

    /// The guest unmaps the page, flushes nothing, and takes it as a table.
    pub(super) fn take_page(&self) {
        let update = Update {
            dom: DOM,
            table_owner: DOM,
            target_owner: DOM,
            table: TABLE,
            index: Index::new(0),
            value: 0,
            preserve_ad: false,
        };
        let budget = &mut Budget::new(u32::MAX);
        let _ = self.validator.update(update, budget).unwrap();
        self.validator.pin(DOM, Level::L1, PAGE, budget).unwrap();
    }

    /// The guest stores to the page, by its TLB or else by its table. If it isn't mapped, nothing
    /// happens: the guest handles its page fault.
    pub(super) fn store(&self, number: usize) {
        let cpu = &mut *self.cpus[number].lock().unwrap();
        if !cpu.in_guest {
            cpu.enter(self.forgets);
        }
        let cached = cpu.tlb.entry(cpu.asid).or_default();
        if cached.is_empty() && cpu.root == 0 {
            // A page walk reads what was stored last, so this is no plain load.
            if self.validator.platform().entry.fetch_or(0, SeqCst) != 0 {
                cached.push(cpu.root);
            }
        }
        if let Some(&root) = cached.first() {
            assert_eq!(root, cpu.root, "a store through a translation of another root");
            assert!(!cpu.taken, "a store through a stale translation hits a table");
        }
    }

    /// Does what the hypervisor does on a CPU when it flushes the guest's translations.
    pub(super) fn flush(&self, number: usize) {
        let cpu = &mut *self.cpus[number].lock().unwrap();
        cpu.in_guest = false;
        self.validator.record_flush(number, || {
            // CR3 is loaded here. That flushes nothing of an ASID's.
            if self.forgets != Forgets::ToRetireAll {
                cpu.space.flush_all();
            }
        });
    }

    /// A CPU has nothing to do with the domain any more.
    pub(super) fn leave_domain(&self, cpu: usize) {
        self.flush(cpu);
        self.validator.platform().dirty.fetch_and(!(1 << cpu), SeqCst);
    }

    /// A CPU runs the domain again.
    pub(super) fn enter_domain(&self, cpu: usize) {
        self.validator.platform().dirty.fetch_or(1 << cpu, SeqCst);
        self.flush(cpu);
    }

    /// The guest loads another root. Nothing of the validator's depends on that flush, so it isn't
    /// recorded.
    pub(super) fn change_root(&self, number: usize) {
        let cpu = &mut *self.cpus[number].lock().unwrap();
        cpu.in_guest = false;
        cpu.root += 1;
        if self.forgets != Forgets::ToRetireOne {
            cpu.vcpu.retire();
        }
    }
}

impl Cpu {
    fn new(cpu: usize, asids: u32) -> Cpu {
        Cpu {
            space: AsidSpace::new(cpu, asids).unwrap(),
            vcpu: VcpuAsid::none(),
            root: 0,
            in_guest: false,
            asid: 0,
            tlb: BTreeMap::new(),
            taken: false,
        }
    }

    /// VMRUN.
    fn enter(&mut self, forgets: Forgets) {
        let assigned = self.space.assign(&mut self.vcpu);
        if self.asid == 0 || forgets != Forgets::TheNewAsid {
            self.asid = assigned.asid;
        }
        if assigned.flush_all_asids && forgets != Forgets::TlbControl {
            self.tlb.clear();
        }
        self.space.record_entry();
        self.in_guest = true;
    }
}

impl Platform for Machine {
    fn read_entry(&self, table: Mfn, index: Index) -> u64 {
        match (table, index.get()) {
            (TABLE, 0) => self.entry.load(SeqCst),
            (PAGE, 0) => {
                // Its entries are judged from now on.
                let world = self.world.upgrade().unwrap();
                world.cpus.iter().for_each(|cpu| cpu.lock().unwrap().taken = true);
                0
            }
            _ => 0,
        }
    }

    fn write_entry(&self, table: Mfn, index: Index, value: u64) {
        // The validator adds bits to the entries of a table that it takes.
        if (table, index.get()) == (TABLE, 0) {
            self.entry.store(value, SeqCst);
        }
    }

    fn compare_exchange_entry(
        &self,
        table: Mfn,
        index: Index,
        current: u64,
        new: u64,
    ) -> Result<(), u64> {
        assert_eq!((table, index.get()), (TABLE, 0));
        self.entry.compare_exchange(current, new, SeqCst, SeqCst).map(|_| ())
    }

    fn flush_tlb(&self, cpus: CpuSet) {
        let world = self.world.upgrade().unwrap();
        cpus.iter().for_each(|cpu| world.flush(cpu));
    }

    fn dirty_cpus(&self, _: DomId) -> CpuSet {
        CpuSet::from_bits(self.dirty.load(SeqCst))
    }

    fn all_cpus(&self) -> CpuSet {
        CpuSet::from_bits((1 << CPUS) - 1)
    }

    fn clear_frame(&self, _: Mfn) {}

    fn invalidate_m2p(&self, _: Mfn) {}

    fn flush_cache(&self, _: Mfn) {}

    fn cache_policy(&self, _: DomId) -> CachePolicy {
        CachePolicy::Strict
    }

    fn report_cache_alias(&self, would_be_refused: &Refusal) {
        panic!("no memory types here: {would_be_refused}");
    }

    fn install_hypervisor_slots(&self, _: DomId, _: Mfn) {}

    fn clear_hypervisor_slots(&self, _: Mfn) {}
}
