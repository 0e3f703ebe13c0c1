//! `callback_op`, and how it changes where events are delivered.

use crate::signal::{self, bind_port, close_port};
use pinfold_abi::errno::Errno::{EINVAL, ENOSYS};
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::trap::{
    CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE, CALLBACKTYPE_NMI, CALLBACKTYPE_SYSCALL,
    CALLBACKTYPE_SYSCALL32, CALLBACKTYPE_SYSENTER,
};
use pinfold_guest::entry::{event, percpu, trap};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::Errno;
use pinfold_guest::hypercall::event::send;
use pinfold_guest::raw;

const NONCANONICAL: u64 = 0x0123_4567_89ab_cdef;

/// `type`, `flags`, padding, address.
fn callback(command: u64, kind: u16, address: u64) -> Result<u64, Errno> {
    let argument = [u64::from(kind), address];
    let args = [command, argument.as_ptr() as u64, 0, 0, 0];
    // SAFETY: the addresses are those of callback code, or of callbacks that never come.
    raw::result(unsafe { raw::call(Hypercall::CallbackOp as u64, args) })
}

core::arch::global_asm!(
    ".pushsection .text.other_callback, \"ax\"",
    // Another event callback: counts, and continues with the shim's.
    "events_other_callback:",
    "lock inc qword ptr [rip + {count}]",
    "jmp [rip + {shim}]",
    ".popsection",
    count = sym COUNT,
    shim = sym SHIM,
);

static COUNT: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
static SHIM: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

unsafe extern "C" {
    #[link_name = "events_other_callback"]
    safe static OTHER: u8;
}

pub(crate) fn run(check: &mut Check) {
    use core::sync::atomic::Ordering::SeqCst;
    let count = || COUNT.load(SeqCst);
    let shim = trap::event_callback();
    SHIM.store(shim, SeqCst);
    let other = &raw const OTHER as u64;
    let port = bind_port();
    event::unmask();
    signal::reset();
    check.ok("register another event callback", callback(0, CALLBACKTYPE_EVENT, other));
    let upcalls = percpu::this().upcalls();
    check.ok("send", send(port));
    check.equal("it is called", (count(), signal::handled()), (1, 1));
    check.equal("the shim's is called after it", percpu::this().upcalls() - upcalls, 1);
    check.ok("register the shim's callback again", callback(0, CALLBACKTYPE_EVENT, shim));
    check.ok("send", send(port));
    check.equal("the other is not called", (count(), signal::handled()), (1, 2));
    for kind in [CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE, CALLBACKTYPE_SYSCALL] {
        let refused = callback(0, kind, NONCANONICAL);
        check.refused("a non-canonical address", refused, EINVAL);
    }
    check.ok("send", send(port));
    check.equal("the refusal changes nothing", signal::handled(), 3);
    for kind in [
        CALLBACKTYPE_EVENT,
        CALLBACKTYPE_FAILSAFE,
        CALLBACKTYPE_SYSCALL,
        CALLBACKTYPE_SYSENTER,
        CALLBACKTYPE_SYSCALL32,
    ] {
        check.refused("unregister", callback(1, kind, 0), EINVAL);
    }
    check.ok("register NMI", callback(0, CALLBACKTYPE_NMI, other));
    check.ok("unregister NMI", callback(1, CALLBACKTYPE_NMI, 0));
    check.ok("unregister NMI again", callback(1, CALLBACKTYPE_NMI, 0));
    for kind in [3, 6, 8, u16::MAX] {
        check.refused("an unknown type", callback(0, kind, other), ENOSYS);
    }
    for command in [2, 3, u64::from(u32::MAX)] {
        check.refused("an unknown command", callback(command, 0, other), ENOSYS);
    }
    check.ok("send", send(port));
    check.equal("all as before", (count(), signal::handled()), (1, 4));
    event::mask();
    close_port(port);
}
