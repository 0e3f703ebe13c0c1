//! The hypervisor's heap: domains, vCPUs, what is parsed at boot. Nothing that a guest can make
//! grow without bound lives here.

use crate::sync::Attentive;
use talc::TalcLock;
use talc::source::Claim;

const BYTES: usize = 2 << 20;

static mut ARENA: [u8; BYTES] = [0; BYTES];

#[global_allocator]
static HEAP: TalcLock<spin::mutex::Mutex<(), Attentive>, Claim> =
    // SAFETY: the arena is used for nothing else.
    TalcLock::new(unsafe { Claim::array(&raw mut ARENA) });
