//! What the validator needs from the machine.

use crate::addr::{Index, Mfn};
use crate::ids::{CpuSet, DomId};
use crate::memtype::CachePolicy;
use crate::refusal::Refusal;
use pinfold_abi::mmu::EntryFlags;

/// Entries that are read together: one cache line.
pub const GROUP: usize = 8;

/// The machine, as the validator sees it: tables of 512 entries, and TLBs and caches that can be flushed.
///
/// The validator calls the methods that access a frame only with frames that [`add_ram_frame`] named. Other CPUs walk
/// the same tables and set accessed and dirty bits in them, so accesses are single atomic ones.
///
/// [`add_ram_frame`]: crate::Validator::add_ram_frame
pub trait Platform {
    /// Reads an entry (atomically; relaxed will do).
    fn read_entry(&self, table: Mfn, index: Index) -> u64;

    /// Whether the [`GROUP`] entries from `first` on are all zero, each read as by
    /// [`Platform::read_entry`]. `first` is a multiple of [`GROUP`]. Most tables are mostly empty, so it
    /// pays to override this with something fast.
    fn group_is_zero(&self, table: Mfn, first: Index) -> bool {
        let from = first.get();
        (from..from + GROUP)
            .all(|slot| self.read_entry(table, Index::new_truncate(slot as u64)) == 0)
    }

    /// Whether any of the [`GROUP`] entries from `first` on equals `wanted` under a mask, each read as by
    /// [`Platform::read_entry`]. `first` is a multiple of [`GROUP`].
    fn group_matches(&self, table: Mfn, first: Index, mask: u64, wanted: u64) -> bool {
        let from = first.get();
        (from..from + GROUP)
            .any(|slot| self.read_entry(table, Index::new_truncate(slot as u64)) & mask == wanted)
    }

    /// Stores an entry (atomically, release).
    fn write_entry(&self, table: Mfn, index: Index, value: u64);

    /// Stores `new` if the entry is `current`. Must be a full barrier (on x86, any locked instruction):
    /// a mapping that it removes is gone for every CPU's page walk before the validator reads the flush
    /// clock.
    ///
    /// # Errors
    /// The entry, if it is not `current`.
    fn compare_exchange_entry(
        &self,
        table: Mfn,
        index: Index,
        current: u64,
        new: u64,
    ) -> Result<(), u64>;

    /// Drops every translation of guests, paging-structure caches included, on these CPUs, and returns
    /// when that is done. Each CPU records its flush
    /// ([`Validator::record_flush`](crate::Validator::record_flush)).
    fn flush_tlb(&self, cpus: CpuSet);

    /// The CPUs that can have a translation of the domain cached: those where it has run since they last
    /// flushed. A CPU enters the set *before* it loads a root of the domain, and leaves it only *after*
    /// a flush. Also of a domain that is gone.
    fn dirty_cpus(&self, dom: DomId) -> CpuSet;

    /// All CPUs that guests run on: those that can have a foreign-mapped frame cached.
    fn all_cpus(&self) -> CpuSet;

    /// Fills a frame with zeros. It has no owner, and no CPU has a translation of it cached.
    fn clear_frame(&self, frame: Mfn);

    /// Invalidates the frame's entry of the machine-to-physical table (M2P). The frame has no owner at
    /// that moment, so no guest can set the entry at the same time.
    fn invalidate_m2p(&self, frame: Mfn);

    /// Writes back and drops the frame's lines in all caches of the machine, and returns when that is
    /// done. Caches are coherent with each other, so that one CPU can do it for all. It must not be
    /// reordered with the TLB flush before it, nor with what follows.
    fn flush_cache(&self, frame: Mfn);

    /// What is done about mappings of one frame of the domain's with several memory types.
    fn cache_policy(&self, dom: DomId) -> CachePolicy;

    /// Reports an entry whose memory type differs from that of the frame's other mappings, of a domain
    /// with [`CachePolicy::Report`]: what would have been refused
    /// ([`Cause::CacheAlias`](crate::Cause::CacheAlias)), but is done. The entry isn't stored yet, so a
    /// search finds the others. At most one in a call of the validator.
    fn report_cache_alias(&self, would_be_refused: &Refusal);

    /// Flags that every present entry of a domain's tables gets: USER, if its kernel runs in ring 3, as
    /// all do outside of a hardware container. Never changes while the domain has tables.
    #[inline]
    fn forced_flags(&self, _dom: DomId) -> EntryFlags {
        EntryFlags::USER
    }

    /// Writes the hypervisor's slots ([`pinfold_abi::layout::HYPERVISOR_SLOTS`]) of a root that is about
    /// to be validated.
    fn install_hypervisor_slots(&self, dom: DomId, root: Mfn);

    /// Clears the hypervisor's slots of a frame that is no root any more.
    fn clear_hypervisor_slots(&self, root: Mfn);
}

impl<P: Platform + ?Sized> Platform for &P {
    fn read_entry(&self, table: Mfn, index: Index) -> u64 {
        (**self).read_entry(table, index)
    }

    fn group_is_zero(&self, table: Mfn, first: Index) -> bool {
        (**self).group_is_zero(table, first)
    }

    fn group_matches(&self, table: Mfn, first: Index, mask: u64, wanted: u64) -> bool {
        (**self).group_matches(table, first, mask, wanted)
    }

    fn write_entry(&self, table: Mfn, index: Index, value: u64) {
        (**self).write_entry(table, index, value);
    }

    fn compare_exchange_entry(
        &self,
        table: Mfn,
        index: Index,
        current: u64,
        new: u64,
    ) -> Result<(), u64> {
        (**self).compare_exchange_entry(table, index, current, new)
    }

    fn flush_tlb(&self, cpus: CpuSet) {
        (**self).flush_tlb(cpus);
    }

    fn dirty_cpus(&self, dom: DomId) -> CpuSet {
        (**self).dirty_cpus(dom)
    }

    fn all_cpus(&self) -> CpuSet {
        (**self).all_cpus()
    }

    fn clear_frame(&self, frame: Mfn) {
        (**self).clear_frame(frame);
    }

    fn invalidate_m2p(&self, frame: Mfn) {
        (**self).invalidate_m2p(frame);
    }

    fn flush_cache(&self, frame: Mfn) {
        (**self).flush_cache(frame);
    }

    fn cache_policy(&self, dom: DomId) -> CachePolicy {
        (**self).cache_policy(dom)
    }

    fn forced_flags(&self, dom: DomId) -> EntryFlags {
        (**self).forced_flags(dom)
    }

    fn report_cache_alias(&self, would_be_refused: &Refusal) {
        (**self).report_cache_alias(would_be_refused);
    }

    fn install_hypervisor_slots(&self, dom: DomId, root: Mfn) {
        (**self).install_hypervisor_slots(dom, root);
    }

    fn clear_hypervisor_slots(&self, root: Mfn) {
        (**self).clear_hypervisor_slots(root);
    }
}
