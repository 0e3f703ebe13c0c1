//! Waiting for the end of a move of frames.
//!
//! A vCPU that accesses an address whose frame is being moved ([`crate::rmap`]) takes a page fault.
//! With [`handle`] as page-fault handler it continues when the move is over, as if it had only been
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

/// Counts the beginnings and ends of moves: odd while one is under way.
static TURN: AtomicU64 = AtomicU64::new(0);
/// The vCPU that moves frames.
static MOVER: AtomicU64 = AtomicU64::new(NOBODY);
/// Accesses that waited.
static WAITS: AtomicU64 = AtomicU64::new(0);
/// The last access that each vCPU tried again: its address, and [`TURN`] at that time.
static TRIED: [[AtomicU64; 2]; LEGACY_VCPUS] =
    [const { [const { AtomicU64::new(0) }; 2] }; LEGACY_VCPUS];

/// Runs a function during which accesses to unmapped pages wait. Only the vCPU that holds the `Mmu`
/// may call it. The function must access the moved frames through the direct map only.
pub fn during<T>(work: impl FnOnce() -> T) -> T {
    MOVER.store(this().id().into(), Relaxed);
    TURN.fetch_add(1, SeqCst);
    let result = work();
    TURN.fetch_add(1, Release);
    MOVER.store(NOBODY, Relaxed);
    result
}

/// Accesses so far that waited for the end of a move.
pub fn waits() -> u64 {
    WAITS.load(Relaxed)
}

/// The page-fault handler, for [`set_handler`](super::trap::set_handler). It returns true, so that
/// the access is tried again, when no move is under way any more. It returns false for a fault that
/// comes again although nothing was moved, and for a fault of the vCPU that moves: waiting does not
/// help there.
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
            // A refusal is harmless: the loop goes on.
            let _ = sched::yield_now();
            core::hint::spin_loop();
            turn = TURN.load(Acquire);
        }
    }
    // The move may have ended between the fault and this check.
    let [tried, at] = &TRIED[cpu as usize];
    let again = tried.swap(address, Relaxed) == address && at.swap(turn, Relaxed) == turn;
    at.store(turn, Relaxed);
    !again
}
