//! The hypervisor's heap: domains, vCPUs, what is parsed at boot, and the guests' stores. Nothing
//! that a guest can make grow without bound lives here; each domain adds what its guest may take.

use super::{direct_map, frames};
use crate::sync::Attentive;
use pinfold_validator::Purpose;
use talc::TalcLock;
use talc::source::Claim;

const BYTES: usize = 2 << 20;

static mut ARENA: [u8; BYTES] = [0; BYTES];

#[global_allocator]
static HEAP: TalcLock<spin::mutex::Mutex<(), Attentive>, Claim> =
    // SAFETY: the arena is used for nothing else.
    TalcLock::new(unsafe { Claim::array(&raw mut ARENA) });

/// Adds `1 << order` free frames; `false` if there are none in one piece. They are never given
/// back: another domain's store may lie in them by then.
pub fn grow(order: u32) -> bool {
    let Some(frames) = frames::alloc_hypervisor_frames(order, Purpose::Heap) else { return false };
    // SAFETY: the frames were just taken, are mapped for ever, and nobody else uses them.
    unsafe { HEAP.lock().claim(direct_map::frame(frames.first()), 4096 << order) }.is_some()
}
