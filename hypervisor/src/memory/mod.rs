//! Machine memory: the frame table and the validator over it, the free frames, the M2P.

pub mod canaries;
pub mod direct_map;
pub mod early;
pub mod frame_refs;
pub mod frames;
pub mod guest;
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
use core::mem::MaybeUninit;
use pinfold_cpu_flaws::Flaw;
use pinfold_validator::{FrameEntry, Limits, Mfn, Policy, Validator};
use platform::MachinePlatform;
use spin::Once;

/// Frames below this are no guest's: firmware and starting CPUs want them.
const FIRST_USED_FRAME: u64 = 0x100;

/// The validator over all frames of the machine.
pub type MachineValidator = Validator<'static, MachinePlatform>;

static VALIDATOR: Once<MachineValidator> = Once::new();
static PLAN: Once<Plan> = Once::new();

/// Where the big tables are.
struct Plan {
    frame_table: &'static [FrameEntry],
    bitmap: u64,
    bitmap_words: usize,
    early: EarlyFrames,
}

/// The validator.
pub fn validator() -> &'static MachineValidator {
    VALIDATOR.get().expect("memory::init makes it before any guest")
}

/// Takes memory for the frame table, the M2P and the bitmap, and maps the M2P for guests.
pub fn reserve_tables(mut early: EarlyFrames, regions: &[Region], root: u64) {
    let end = regions.iter().filter(|r| r.is_usable()).map(|r| r.end).max().unwrap_or(0);
    let count = end.div_ceil(4096);
    let table = early.alloc(count * size_of::<FrameEntry>() as u64, 4096);
    m2p::place(&mut early, count, root);
    let bitmap_words = count.div_ceil(64) as usize;
    let bitmap = early.alloc(bitmap_words as u64 * 8, 4096);
    tlb::set_idle_root(root);
    let table = direct_map::address(table) as *mut MaybeUninit<FrameEntry>;
    for index in 0..count as usize {
        // SAFETY: the range was just taken for `count` entries, and nobody else knows it.
        unsafe { (*table.add(index)).write(FrameEntry::new()) };
    }
    // SAFETY: all entries were written; the memory is never given back.
    let frame_table = unsafe { core::slice::from_raw_parts(table.cast(), count as usize) };
    PLAN.call_once(|| Plan { frame_table, bitmap, bitmap_words, early });
}

/// Highest frame of what may be memory that CPUs cache: RAM, and below 4 GiB whatever the memory
/// map lists, since the firmware hides memory of its own there. Above, what isn't RAM is devices.
fn max_cached_mfn(regions: &[Region]) -> Mfn {
    const LOW: u64 = 4 << 30;
    let ends = regions.iter().map(|region| match region.kind {
        RegionKind::Usable | RegionKind::BootLoader => region.end,
        RegionKind::Other => region.end.min(LOW),
    });
    Mfn::new(ends.max().unwrap_or(0).div_ceil(4096).saturating_sub(1))
}

/// Starts the validator and hands it the free memory.
pub fn init(regions: &[Region], physical_bits: u8) {
    let begin = crate::time::clock::now_ns();
    let plan = PLAN.get().expect("planned before the change of stacks");
    let count = plan.frame_table.len() as u64;
    let limits = Limits {
        physical_bits,
        nx: true,
        max_mfn: Mfn::new(count - 1),
        max_cached_mfn: max_cached_mfn(regions),
        // Copies by guest pointers run in ring 0: see the policy.
        policy: Policy { l1tf: flaws::has(Flaw::L1tf), refuse_linear_roots: true },
    };
    // SAFETY: the validator names frames of its frame table that are RAM, and tracks what each is.
    let platform = unsafe { MachinePlatform::new() };
    let validator = VALIDATOR.call_once(|| Validator::new(platform, plan.frame_table, limits));
    // SAFETY: the words were taken for the bitmap, are zero, and are referred to only here.
    let words = unsafe {
        core::slice::from_raw_parts_mut(
            direct_map::address(plan.bitmap) as *mut u64,
            plan.bitmap_words,
        )
    };
    frames::start(validator, words);
    for region in regions {
        for mfn in region.start.div_ceil(4096)..region.end / 4096 {
            let free = mfn >= FIRST_USED_FRAME && !plan.early.has_allocated(mfn << 12);
            match region.kind {
                RegionKind::Usable if free => frames::allocator().add_free(Mfn::new(mfn)),
                RegionKind::Usable | RegionKind::BootLoader => {
                    validator.reserve_boot_frame(Mfn::new(mfn))
                }
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
        plan.early.allocated_bytes() / 1024,
        (crate::time::clock::now_ns() - begin) / 1000
    );
}

/// Highest frame of RAM.
pub fn max_mfn() -> Mfn {
    Mfn::new(PLAN.get().map_or(0, |plan| plan.frame_table.len() as u64 - 1))
}

/// A piece of the hypervisor's own L4: its sixteen slots, without the per-domain one.
pub fn reserved_entry(slot: usize) -> u64 {
    use core::sync::atomic::Ordering;
    let root = Mfn::new(tlb::idle_root() >> 12);
    // SAFETY: the root is RAM and the hypervisor's own.
    unsafe { direct_map::entry(root, pinfold_validator::Index::new(slot)) }.load(Ordering::Relaxed)
}
