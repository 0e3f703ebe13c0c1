//! The hypervisor's heap. Memory is taken from it only while the domains are built.
//!
//! **The promise.** Once guests run, nothing is allocated. So no guest can use up or fragment what
//! another one, or the hypervisor, needs next: whatever a guest can make grow has its whole room
//! from the moment its domain is built, and a guest that fills its room meets the error that the
//! ABI has for it. Freeing is allowed at any time, and never fails. `docs/memory.md` lists who has
//! what.
//!
//! The promise is held by a guard: from [`forbid_allocations`] on, every allocation is counted, and
//! the run's last audit says how many there were ([`report_late_allocations`]). One that slipped
//! through is a bug, but it is still served: a guest must not be able to end the machine with it.

use super::{direct_map, frames};
use crate::console::log::write_record;
use crate::sync::ServiceIpis;
use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use pinfold_abi::record::{Heap, Who};
use pinfold_validator::Purpose;
use talc::TalcLock;
use talc::source::Claim;

const BYTES: usize = 2 << 20;

static mut ARENA: [u8; BYTES] = [0; BYTES];

/// An allocator that counts what is asked of it once it should be asked for nothing.
struct GuardedHeap(TalcLock<spin::mutex::Mutex<(), ServiceIpis>, Claim>);

#[global_allocator]
static HEAP: GuardedHeap =
    // SAFETY: the arena is used for nothing else.
    GuardedHeap(TalcLock::new(unsafe { Claim::array(&raw mut ARENA) }));

/// Guests run, or are about to. Relaxed everywhere: it is set before the first vCPU is queued, and
/// the run queue's lock is between that and whatever any CPU does for a guest.
static FORBIDDEN: AtomicBool = AtomicBool::new(false);
/// Allocations since then.
static LATE: AtomicU64 = AtomicU64::new(0);
/// Bytes of the first of them.
static FIRST_LATE_BYTES: AtomicUsize = AtomicUsize::new(0);

#[inline]
fn note_allocation(bytes: usize) {
    if FORBIDDEN.load(Ordering::Relaxed) && LATE.fetch_add(1, Ordering::Relaxed) == 0 {
        FIRST_LATE_BYTES.store(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to Talc's own implementation, with the caller's arguments; counting
// changes nothing that an allocator promises.
unsafe impl GlobalAlloc for GuardedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note_allocation(layout.size());
        // SAFETY: the caller's promise is Talc's precondition.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is Talc's precondition.
        unsafe { self.0.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note_allocation(bytes);
        // SAFETY: the caller's promise is Talc's precondition.
        unsafe { self.0.realloc(memory, layout, bytes) }
    }
}

/// Bytes that the allocator takes for itself in a stretch, generously: some words for each piece.
const ALLOCATOR_BYTES: usize = 2048;

/// Order of the frames that have room for so many bytes, in a few pieces.
pub fn order_for(bytes: usize) -> u32 {
    (bytes + ALLOCATOR_BYTES).div_ceil(4096).next_power_of_two().ilog2()
}

/// Adds `1 << order` free frames; `false` if there are none in one piece. They are never given
/// back: what was allocated while other domains were built may lie in them, too.
pub fn grow(order: u32) -> bool {
    let Some(frames) = frames::alloc_hypervisor_frames(order, Purpose::Heap) else { return false };
    // SAFETY: the frames were just taken, are mapped for ever, and nobody else uses them.
    unsafe { HEAP.0.lock().claim(direct_map::frame(frames.first()), 4096 << order) }.is_some()
}

/// All domains are built: from now on every allocation is a bug.
pub fn forbid_allocations() {
    FORBIDDEN.store(true, Ordering::Relaxed);
}

/// Says in the log how often memory was allocated while guests ran. Any such allocation makes the
/// audit, and so the run, a failed one.
pub fn report_late_allocations() {
    let late = LATE.load(Ordering::Relaxed);
    let first_bytes = FIRST_LATE_BYTES.load(Ordering::Relaxed) as u64;
    let record = Heap { late_allocations: late, first_bytes, wrong: late };
    write_record(Who::Hypervisor, &record);
}
