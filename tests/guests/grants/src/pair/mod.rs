//! Two domains. The granter lends a page under a reference that both know; in the page is a board
//! on which they tell each other how far they are.
//!
//! | step | who      | does                                                                     |
//! |------|----------|--------------------------------------------------------------------------|
//! | 1    | granter  | offers a port, writes it on the board, lends the board                   |
//! | 2    | borrower | maps the board, connects to the port, sends                              |
//! | 3    | granter  | tries what may not be done with a page that is lent, sends               |
//! | 4    | borrower | unmaps, maps again for reading, copies; waits for a frame                |
//! | 5    | granter  | gives a frame away                                                       |
//! | 6    | borrower | has the frame; maps the board again, sends                               |
//!
//! Then the one that isn't told to be the `last` ends, with the board mapped. The last one must not
//! notice, but by what the calls say; and the hypervisor must have every frame back in the end.

pub(crate) mod borrower;
pub(crate) mod churn;
pub(crate) mod granter;

use crate::fixture::shared;
use core::sync::atomic::Ordering;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::event::Port;
use pinfold_guest::hypercall::sched;

/// Reference of the board.
const BOARD: u32 = crate::fixture::FIRST;
/// Reference by which the borrower accepts a frame.
const ACCEPT: u32 = crate::fixture::FIRST + 1;
/// Words of the board: how far, the granter's port, what the borrower writes.
const STEP: u64 = 0;
const PORT: u64 = 1;
const WORD: u64 = 2;
/// First word of a page given away.
const GIVEN: u64 = 0x0067_6976_656e_2121;
/// What the borrower writes.
const WRITTEN: u64 = 0x7772_6974_7465_6e21;

/// How often to look before giving up: the other one may be slow.
const PATIENCE: u32 = 2_000_000;

/// Lets others run until something is so; `false` if it never is.
fn wait(mut until: impl FnMut() -> bool) -> bool {
    (0..PATIENCE).any(|_| {
        let so = until();
        if !so {
            // It can't fail.
            let _ = sched::yield_now();
        }
        so
    })
}

/// Waits for a step on the board.
fn wait_for(board: Vaddr, step: u64, check: &mut Check) -> bool {
    let reached = wait(|| shared(board, STEP).load(Ordering::SeqCst) >= step);
    check.holds("the other one goes on", reached);
    reached
}

/// Goes to a step, and tells the other.
fn go_to(board: Vaddr, step: u64, port: Port, check: &mut Check) {
    shared(board, STEP).store(step, Ordering::SeqCst);
    check.ok("send", pinfold_guest::hypercall::event::send(port));
}
