//! Waiting for the end of a move: what is done with frames while nobody has them mapped.
//!
//! A vCPU that touches an address whose frame is being moved ([`crate::rmap`]) faults, and with
//! [`handle`] for a page-fault handler it goes on when the move is over, as if it had only been
//! slow.

use super::catch::cr2;
use super::frame::TrapFrame;
use super::percpu::this;
use crate::hypercall::sched;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use pinfold_abi::shared_info::LEGACY_VCPUS;

/// Error-code bit of a page fault: the page is mapped, and the access not permitted.
const PROTECTION: u64 = 1;
/// In place of a vCPU's number: none.
const NOBODY: u64 = u64::MAX;

/// Moves begun and ended: odd while one is under way.
static TURN: AtomicU64 = AtomicU64::new(0);
/// The vCPU that moves something.
static MOVER: AtomicU64 = AtomicU64::new(NOBODY);
/// Touches that had to wait.
static WAITS: AtomicU64 = AtomicU64::new(0);
/// The last fault of each vCPU that was none any more when it was looked at: address, and turn.
static TRIED: [[AtomicU64; 2]; LEGACY_VCPUS] =
    [const { [const { AtomicU64::new(0) }; 2] }; LEGACY_VCPUS];

/// Does something during which touches of what is not mapped wait. One vCPU at a time: who holds
/// the owner of the mappings. What is done in here must itself not touch what it moves, but at
/// its home.
pub fn during<T>(work: impl FnOnce() -> T) -> T {
    MOVER.store(this().id().into(), Relaxed);
    TURN.fetch_add(1, SeqCst);
    let result = work();
    TURN.fetch_add(1, Release);
    MOVER.store(NOBODY, Relaxed);
    result
}

/// Touches so far that had to wait for the end of a move.
pub fn waits() -> u64 {
    WAITS.load(Relaxed)
}

/// The page-fault handler, for [`set_handler`](super::trap::set_handler): has the access tried
/// again when no move is under way. A fault that comes again although nothing was moved is nothing
/// that waiting helps against; so is one of the mover itself.
pub fn handle(frame: &mut TrapFrame) -> bool {
    let (cpu, address) = (this().id(), cr2());
    if frame.error & PROTECTION != 0 {
        return false;
    }
    let mut turn = TURN.load(Acquire);
    if !turn.is_multiple_of(2) {
        if MOVER.load(Relaxed) == u64::from(cpu) {
            return false;
        }
        WAITS.fetch_add(1, Relaxed);
        while !turn.is_multiple_of(2) {
            // Refused or not: it is tried again.
            let _ = sched::yield_now();
            core::hint::spin_loop();
            turn = TURN.load(Acquire);
        }
    }
    // The move may have ended between the fault and the look.
    let [tried, at] = &TRIED[cpu as usize];
    let again = tried.swap(address, Relaxed) == address && at.swap(turn, Relaxed) == turn;
    at.store(turn, Relaxed);
    !again
}
