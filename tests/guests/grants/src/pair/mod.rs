//! Two domains. The granter grants a page by a reference that both know: a mailbox, in which they tell
//! each other how far they are.
//!
//! | step | who      | does                                                                     |
//! |------|----------|--------------------------------------------------------------------------|
//! | 1    | granter  | opens a port, writes it to the mailbox, grants the mailbox               |
//! | 2    | borrower | maps the mailbox, connects to the port, sends                            |
//! | 3    | granter  | tries what must not be done with a granted page, sends                   |
//! | 4    | borrower | unmaps, maps read-only, copies; waits for a frame                        |
//! | 5    | granter  | transfers a frame                                                        |
//! | 6    | borrower | uses the frame; maps the mailbox again, sends                            |
//!
//! Then the domain that isn't told to be the `last` ends with the mailbox mapped. The last one sees
//! that only by the answers of its calls, and the hypervisor must have every frame back in the end.

pub(crate) mod borrower;
pub(crate) mod churn;
pub(crate) mod granter;

use crate::fixture::shared;
use core::sync::atomic::Ordering;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::event::Port;
use pinfold_guest::hypercall::sched;

/// Reference of the mailbox.
const MAILBOX: u32 = crate::fixture::FIRST;
/// Reference by which the borrower accepts a frame.
const ACCEPT: u32 = crate::fixture::FIRST + 1;
/// Words of the mailbox: the step, the granter's port, what the borrower writes.
const STEP: u64 = 0;
const PORT: u64 = 1;
const WORD: u64 = 2;
/// First word of the transferred frame.
const TRANSFERRED: u64 = 0x0067_6976_656e_2121;
/// What the borrower writes.
const WRITTEN: u64 = 0x7772_6974_7465_6e21;

/// How often a domain yields before it gives up: the other one may be slow.
const MAX_YIELDS: u32 = 2_000_000;

/// Yields until a condition holds; `false` if it never does.
fn wait(mut until: impl FnMut() -> bool) -> bool {
    (0..MAX_YIELDS).any(|_| {
        let so = until();
        if !so {
            // It can't fail.
            let _ = sched::yield_now();
        }
        so
    })
}

/// Waits for a step.
fn wait_for(mailbox: Vaddr, step: u64, check: &mut Check) -> bool {
    let reached = wait(|| shared(mailbox, STEP).load(Ordering::SeqCst) >= step);
    check.holds("the peer reaches the next step", reached);
    reached
}

/// Sets the step, and sends an event.
fn set_step(mailbox: Vaddr, step: u64, port: Port, check: &mut Check) {
    shared(mailbox, STEP).store(step, Ordering::SeqCst);
    check.ok("send", pinfold_guest::hypercall::event::send(port));
}
