//! What the validator needs of the machine.

use super::frame_refs::RootRef;
use super::{direct_map, hooks, m2p, reserved_entry};
use crate::arch::layout::PER_DOMAIN_SLOT;
use crate::arch::{cache, ipi, percpu};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use pinfold_abi::layout::HYPERVISOR_SLOTS;
use pinfold_abi::mmu::EntryFlags;
use pinfold_core::grant::pages::FrameWords;
use pinfold_validator::{CachePolicy, CpuSet, DomId, GROUP, Index, Mfn, Platform, Refusal};

/// Most domains that can run at once.
pub const MAX_DOMAINS: usize = 256;

/// L4 entry of each domain's window; 0: no such domain.
static WINDOWS: [AtomicU64; MAX_DOMAINS] = [const { AtomicU64::new(0) }; MAX_DOMAINS];

/// Processors that may hold translations of each domain, as bits.
static DIRTY: [AtomicU64; MAX_DOMAINS] = [const { AtomicU64::new(0) }; MAX_DOMAINS];

/// Notes that the calling processor may hold translations of a domain, or none any more. `SeqCst`:
/// set before the root is loaded, so who changed a table before it looked here either finds the
/// processor, or that one's walks find the change.
pub fn set_dirty(domain: DomId, dirty: bool) {
    let (cpus, bit) = (&DIRTY[usize::from(domain.get())], 1 << percpu::cpu_number());
    if dirty {
        cpus.fetch_or(bit, Ordering::SeqCst);
    } else {
        cpus.fetch_and(!bit, Ordering::SeqCst);
    }
}

/// Processors that may hold translations of a domain.
pub fn dirty_cpus(domain: DomId) -> CpuSet {
    let cpus = DIRTY.get(usize::from(domain.get()));
    CpuSet::from_bits(cpus.map_or(0, |cpus| cpus.load(Ordering::SeqCst)))
}

/// Present, writable, accessed, dirty: supervisor only.
const WINDOW_FLAGS: u64 = 0x63;

/// Tells which table the per-domain slot of a domain's roots points to.
///
/// # Panics
/// If the domain's number is too large.
pub fn set_window(domain: DomId, l3: Option<Mfn>) {
    let entry = l3.map_or(0, |l3| l3.get() << 12 | WINDOW_FLAGS);
    WINDOWS[usize::from(domain.get())].store(entry, Ordering::Release);
}

/// Whether a domain's mappings may be cached in several ways, if they are told of.
static MAY_MIX: [AtomicBool; MAX_DOMAINS] = [const { AtomicBool::new(false) }; MAX_DOMAINS];

/// Sets what is done about a domain's mappings that are cached in several ways.
///
/// # Panics
/// If the domain's number is too large.
pub fn set_cache_policy(domain: DomId, policy: CachePolicy) {
    let may_mix = policy == CachePolicy::Report;
    MAY_MIX[usize::from(domain.get())].store(may_mix, Ordering::Relaxed);
}

/// Whether a domain's kernel runs in ring 0, in a hardware container.
static CONTAINED: [AtomicBool; MAX_DOMAINS] = [const { AtomicBool::new(false) }; MAX_DOMAINS];

/// Makes a domain one whose vCPUs run in hardware containers. To be called before it has page tables.
///
/// # Panics
/// If the domain's number is too large.
pub fn set_contained(domain: DomId) {
    CONTAINED[usize::from(domain.get())].store(true, Ordering::Relaxed);
}

/// Whether the domain's vCPUs run in hardware containers: its kernel is in ring 0, and its roots don't
/// map the hypervisor.
#[inline]
pub fn is_contained(domain: DomId) -> bool {
    let contained = CONTAINED.get(usize::from(domain.get()));
    contained.is_some_and(|contained| contained.load(Ordering::Relaxed))
}

/// The entry of a domain's kernel roots that maps the M2P. In a hardware container only the kernel,
/// in ring 0, can read it.
fn m2p_entry(domain: DomId) -> u64 {
    let entry = reserved_entry(M2P_SLOT);
    if is_contained(domain) { entry & !EntryFlags::USER.bits() } else { entry }
}

/// L4 slot of the machine-to-physical table.
const M2P_SLOT: usize = HYPERVISOR_SLOTS.start;

/// Maps the M2P in a root, or unmaps it: guest kernels read it, guest user mode must not.
pub fn set_m2p_visible(root: &RootRef, visible: bool) {
    let entry = if visible { m2p_entry(root.domain()) } else { 0 };
    // SAFETY: the reference keeps the frame a validated L4, whose reserved slots are the
    // hypervisor's.
    let slot = unsafe { direct_map::entry(root.frame(), Index::new(M2P_SLOT)) };
    slot.store(entry, Ordering::Release);
}

/// The machine, as the validator sees it.
///
/// Its methods take frame numbers, and are safe since only code that proved the frames to be RAM has
/// one: the validator, which looks each up in its frame table, and the grant tables, which own theirs.
#[derive(Clone, Copy, Debug)]
pub struct MachinePlatform(());

impl MachinePlatform {
    /// Makes one.
    ///
    /// # Safety
    /// It is only used for frames that are RAM, by code that tracks what each may be used for.
    pub const unsafe fn new() -> MachinePlatform {
        MachinePlatform(())
    }
}

#[inline]
fn machine_entry(frame: Mfn, index: Index) -> &'static AtomicU64 {
    // SAFETY: whoever made the `MachinePlatform` vouched that its user names frames of RAM; the
    // hypervisor and guests access page tables and grant tables atomically.
    unsafe { direct_map::entry(frame, index) }
}

#[inline]
fn machine_group(table: Mfn, first: Index) -> &'static [AtomicU64; GROUP] {
    // SAFETY: as for `machine_entry`.
    unsafe { direct_map::group(table, first) }
}

impl FrameWords for MachinePlatform {
    fn word(&self, frame: Mfn, index: Index) -> &AtomicU64 {
        machine_entry(frame, index)
    }
}

impl Platform for MachinePlatform {
    #[inline]
    fn read_entry(&self, table: Mfn, index: Index) -> u64 {
        machine_entry(table, index).load(Ordering::Acquire)
    }

    #[inline]
    fn group_is_zero(&self, table: Mfn, first: Index) -> bool {
        // Acquire, as every read of an entry. The first one decides for most groups that aren't.
        machine_group(table, first).iter().all(|entry| entry.load(Ordering::Acquire) == 0)
    }

    #[inline]
    fn group_matches(&self, table: Mfn, first: Index, mask: u64, wanted: u64) -> bool {
        let group = machine_group(table, first);
        group.iter().any(|entry| entry.load(Ordering::Acquire) & mask == wanted)
    }

    #[inline]
    fn write_entry(&self, table: Mfn, index: Index, value: u64) {
        machine_entry(table, index).store(value, Ordering::Release);
    }

    #[inline]
    fn compare_exchange_entry(
        &self,
        table: Mfn,
        index: Index,
        old: u64,
        new: u64,
    ) -> Result<(), u64> {
        machine_entry(table, index)
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
    }

    fn flush_tlb(&self, cpus: CpuSet) {
        ipi::flush(cpus);
    }

    fn dirty_cpus(&self, domain: DomId) -> CpuSet {
        dirty_cpus(domain)
    }

    fn all_cpus(&self) -> CpuSet {
        percpu::online()
    }

    fn clear_frame(&self, frame: Mfn) {
        // One of many, perhaps, and others may wait for a flush.
        ipi::service_ipis();
        // SAFETY: as for `machine_entry`; the frame is free, and flushed.
        unsafe { direct_map::clear(frame) };
    }

    fn invalidate_m2p(&self, frame: Mfn) {
        m2p::set(frame, None);
    }

    fn flush_cache(&self, frame: Mfn) {
        cache::flush_page(direct_map::frame(frame));
    }

    fn cache_policy(&self, domain: DomId) -> CachePolicy {
        match MAY_MIX.get(usize::from(domain.get())).map(|mix| mix.load(Ordering::Relaxed)) {
            Some(true) => CachePolicy::Report,
            _ => CachePolicy::Strict,
        }
    }

    #[inline]
    fn forced_flags(&self, domain: DomId) -> EntryFlags {
        if is_contained(domain) { EntryFlags::empty() } else { EntryFlags::USER }
    }

    fn report_cache_alias(&self, would_be_refused: &Refusal) {
        hooks::pinfold_report_memtype_conflict(would_be_refused);
    }

    fn install_hypervisor_slots(&self, domain: DomId, l4: Mfn) {
        if is_contained(domain) {
            // A root gets the M2P as below, and nothing else.
            return self.clear_hypervisor_slots(l4);
        }
        for slot in HYPERVISOR_SLOTS {
            let entry = match slot {
                // A root gets the M2P when it becomes a kernel root: see `set_m2p_visible`.
                M2P_SLOT => 0,
                PER_DOMAIN_SLOT => {
                    WINDOWS.get(usize::from(domain.get())).map_or(0, |w| w.load(Ordering::Acquire))
                }
                _ => reserved_entry(slot),
            };
            self.write_entry(l4, Index::new(slot), entry);
        }
    }

    fn clear_hypervisor_slots(&self, l4: Mfn) {
        for slot in HYPERVISOR_SLOTS {
            self.write_entry(l4, Index::new(slot), 0);
        }
    }
}
