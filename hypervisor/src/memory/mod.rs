//! Machine memory: frame table and validator, frame allocator, heap, M2P, and access to guest memory.
#![expect(unsafe_code, reason = "the direct map, page tables and the heap: memory by its address")]

pub mod canaries;
pub mod container;
pub mod direct_map;
pub mod early;
pub mod frame_refs;
pub mod frames;
pub mod guest;
mod guest_walk;
pub mod heap;
mod hooks;
pub mod isolation;
pub mod m2p;
pub mod page_walk;
pub mod paging;
pub mod platform;
pub mod tlb;

use crate::arch::flaws;
use crate::memory::early::{EarlyFrames, Region, RegionKind};
use crate::memory::paging::IdleRoot;
use core::mem::MaybeUninit;
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_cpu_flaws::Flaw;
use pinfold_validator::{FrameEntry, Limits, Mfn, Policy, Validator};
use platform::MachinePlatform;
use spin::Once;

/// First frame that may be allocated: the first MiB is left to the firmware and to starting APs.
const FIRST_USED_FRAME: Mfn = Mfn::new(0x100);

/// The validator over all frames of the machine.
pub type MachineValidator = Validator<'static, MachinePlatform>;

static VALIDATOR: Once<MachineValidator> = Once::new();
static BOOT_TABLES: Once<BootTables> = Once::new();

/// The tables that are allocated before the validator exists.
struct BootTables {
    frame_table: &'static [FrameEntry],
    bitmap: u64,
    bitmap_words: usize,
    early: EarlyFrames,
}

/// The validator of the machine.
pub fn validator() -> &'static MachineValidator {
    VALIDATOR.get().expect("`init` creates it before any guest runs")
}

/// Allocates the frame table, the M2P and the bitmap of free frames, and maps the M2P for guests.
pub fn reserve_tables(mut early: EarlyFrames, regions: &[Region], root: IdleRoot) {
    let end = regions.iter().filter(|r| r.is_usable()).map(|r| r.end).max().unwrap_or(0);
    let count = end.div_ceil(PAGE_SIZE);
    let table = early.alloc(count * size_of::<FrameEntry>() as u64, PAGE_SIZE);
    m2p::create(&mut early, count, root);
    let bitmap_words = count.div_ceil(64) as usize;
    let bitmap = early.alloc(bitmap_words as u64 * 8, PAGE_SIZE);
    tlb::set_idle_root(root);
    let table = direct_map::address(table) as *mut MaybeUninit<FrameEntry>;
    for index in 0..count as usize {
        // SAFETY: the range was just allocated for `count` entries.
        unsafe { (*table.add(index)).write(FrameEntry::new()) };
    }
    // SAFETY: all entries have been written; the memory is never freed.
    let frame_table = unsafe { core::slice::from_raw_parts(table.cast(), count as usize) };
    BOOT_TABLES.call_once(|| BootTables { frame_table, bitmap, bitmap_words, early });
}

/// Highest frame that may be cacheable memory: RAM, and below 4 GiB every region of the memory map,
/// because the firmware reserves RAM there. Above 4 GiB, regions that aren't RAM are devices.
fn max_cached_mfn(regions: &[Region]) -> Mfn {
    const LOW: u64 = 4 << 30;
    let ends = regions.iter().map(|region| match region.kind {
        RegionKind::Usable | RegionKind::BootLoader => region.end,
        RegionKind::Other => region.end.min(LOW),
    });
    Mfn::new(ends.max().unwrap_or(0).div_ceil(PAGE_SIZE).saturating_sub(1))
}

/// Creates the validator and the frame allocator, and adds the free memory to it.
pub fn init(regions: &[Region], physical_bits: u8) {
    let begin = crate::time::clock::now_ns();
    let tables = BOOT_TABLES.get().expect("`reserve_tables` has run");
    let count = tables.frame_table.len() as u64;
    let limits = Limits {
        physical_bits,
        nx: true,
        max_mfn: Mfn::new(count - 1),
        max_cached_mfn: max_cached_mfn(regions),
        // Copies to guest pointers run in ring 0, for which the U/S bit is no protection: see `Policy`.
        policy: Policy { l1tf: flaws::has(Flaw::L1tf), refuse_linear_roots: true },
    };
    // SAFETY: the validator names frames of its frame table that are RAM, and tracks what each is.
    let platform = unsafe { MachinePlatform::new() };
    let validator = VALIDATOR.call_once(|| Validator::new(platform, tables.frame_table, limits));
    // SAFETY: the words were allocated for the bitmap, are zero, and are referenced only here.
    let words = unsafe {
        core::slice::from_raw_parts_mut(
            direct_map::address(tables.bitmap) as *mut u64,
            tables.bitmap_words,
        )
    };
    frames::init(validator, words);
    for region in regions {
        for mfn in (region.start.div_ceil(PAGE_SIZE)..region.end / PAGE_SIZE).map(Mfn::new) {
            let free = mfn >= FIRST_USED_FRAME && !tables.early.has_allocated(mfn.address());
            match region.kind {
                RegionKind::Usable if free => frames::allocator().add_free(mfn),
                RegionKind::Usable | RegionKind::BootLoader => validator.reserve_boot_frame(mfn),
                RegionKind::Other => break,
            };
        }
    }
    log::info!(
        "memory frames={count} free={} MiB frame_table={} KiB ({} bytes a frame) m2p={} KiB own={} KiB in={} us",
        frames::free_count() / 256,
        count * size_of::<FrameEntry>() as u64 / 1024,
        size_of::<FrameEntry>(),
        count * 8 / 1024,
        tables.early.allocated_bytes() / 1024,
        (crate::time::clock::now_ns() - begin) / 1000
    );
}

/// Highest frame of RAM.
pub fn max_mfn() -> Mfn {
    Mfn::new(BOOT_TABLES.get().map_or(0, |tables| tables.frame_table.len() as u64 - 1))
}

/// Entry of the idle root in one of the hypervisor's slots, except the per-domain slot.
pub fn reserved_entry(slot: usize) -> u64 {
    use core::sync::atomic::Ordering;
    let root = Mfn::from_address(tlb::idle_root());
    // SAFETY: the root is RAM and the hypervisor's own.
    unsafe { direct_map::entry(root, pinfold_validator::Index::new(slot)) }.load(Ordering::Relaxed)
}
