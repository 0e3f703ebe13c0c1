//! The container: `hvm_op` names the vector of events, and what `callback_op` does in ring 3 doesn't
//! exist.

use crate::signal::{self, bind_port, close_port};
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_abi::errno::Errno::{EFAULT, EINVAL, ENOENT, ENOSYS};
use pinfold_abi::hvm::{FIRST_UPCALL_VECTOR, HVMOP_SET_EVTCHN_UPCALL_VECTOR};
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::vcpu::VCPUOP_SEND_NMI;
use pinfold_guest::entry::time;
use pinfold_guest::entry::trap::{TrapFrame, set_handler};
use pinfold_guest::entry::{event, trap};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::event::send;
use pinfold_guest::hypercall::{Errno, hvm, sched};
use pinfold_guest::raw;

fn call(op: Hypercall, args: [u64; 2]) -> Result<u64, Errno> {
    let [first, second] = args;
    // SAFETY: every call of this file is refused, or names the vector that is in use.
    raw::result(unsafe { raw::call(op as u64, [first, second, 0, 0, 0]) })
}

fn set_vector(vcpu: u32, vector: u8) -> Result<(), Errno> {
    // SAFETY: as above.
    unsafe { hvm::set_upcall_vector(vcpu, vector) }
}

pub(crate) fn run(check: &mut Check) {
    let port = bind_port();
    event::unmask();
    signal::reset();
    for vector in [0, 1, 3, 14, FIRST_UPCALL_VECTOR - 1] {
        check.refused("the vector of an exception", set_vector(0, vector), EINVAL);
    }
    for vcpu in [1, 77, u32::MAX] {
        let refused = set_vector(vcpu, trap::UPCALL_VECTOR);
        check.refused("the vector of an unknown vCPU", refused, ENOENT);
    }
    for at in [0, 0x1000, 0x0123_4567_89ab_cde0, u64::MAX - 1] {
        let refused = call(Hypercall::HvmOp, [HVMOP_SET_EVTCHN_UPCALL_VECTOR, at]);
        check.refused("an argument at a bad address", refused, EFAULT);
    }
    check.refused("an unknown command", call(Hypercall::HvmOp, [99, 0]), ENOSYS);
    check.ok("send", send(port));
    check.equal("the refusals change nothing", signal::handled(), 1);
    check.ok("the same vector again", set_vector(0, trap::UPCALL_VECTOR));
    check.ok("send", send(port));
    check.equal("it is delivered there", signal::handled(), 2);

    for op in [
        Hypercall::SetTrapTable,
        Hypercall::SetGdt,
        Hypercall::StackSwitch,
        Hypercall::SetCallbacks,
        Hypercall::FpuTaskswitch,
        Hypercall::SetDebugreg,
        Hypercall::GetDebugreg,
        Hypercall::UpdateDescriptor,
        Hypercall::CallbackOp,
        Hypercall::SetSegmentBase,
        Hypercall::Iret,
    ] {
        check.refused("a call for ring 3", call(op, [0, 0]), ENOSYS);
    }

    nmis(check);

    // RFLAGS.IF alone masks events, and `hlt` waits for one.
    event::mask();
    check.ok("send", send(port));
    check.equal("with interrupts disabled", signal::handled(), 2);
    // SAFETY: interrupts are enabled when it waits, and the event is pending already.
    unsafe { core::arch::asm!("sti", "hlt") };
    check.equal("it ends a halt", signal::handled(), 3);
    check.holds("interrupts stay enabled", event::is_open());
    event::mask();
    check.ok("send", send(port));
    check.ok("block enables interrupts", sched::block());
    check.equal("and returns for an event", (signal::handled(), event::is_open()), (4, true));
    event::mask();
    close_port(port);
}

/// NMIs that the handler still sends itself.
static LEFT: AtomicU32 = AtomicU32::new(0);
/// NMIs that came, and the deepest nesting.
static CAME: AtomicU32 = AtomicU32::new(0);
static DEPTH: AtomicU32 = AtomicU32::new(0);
static DEEPEST: AtomicU32 = AtomicU32::new(0);

fn send_nmi(vcpu: u64) -> Result<u64, Errno> {
    call(Hypercall::VcpuOp, [VCPUOP_SEND_NMI, vcpu])
}

/// Counts. While some are left, it sends the next one, which must not come before this returns.
fn count_nmi(_frame: &mut TrapFrame) -> bool {
    CAME.fetch_add(1, SeqCst);
    DEEPEST.fetch_max(DEPTH.fetch_add(1, SeqCst) + 1, SeqCst);
    if LEFT.load(SeqCst) > 0 {
        LEFT.fetch_sub(1, SeqCst);
        let _ = send_nmi(0);
    }
    DEPTH.fetch_sub(1, SeqCst);
    true
}

/// NMIs come whether interrupts are enabled or not, one after the other.
fn nmis(check: &mut Check) {
    set_handler(2, Some(count_nmi));
    check.ok("an NMI", send_nmi(0));
    check.equal("it came", CAME.swap(0, SeqCst), 1);
    event::without(|| {
        check.ok("an NMI with interrupts disabled", send_nmi(0));
        check.equal("it came", CAME.swap(0, SeqCst), 1);
    });
    LEFT.store(20, SeqCst);
    check.ok("an NMI whose handler sends others", send_nmi(0));
    // A pending one is raised at the first exit after the handler of the last one has returned.
    let end = time::raw() + 10_000_000_000;
    while CAME.load(SeqCst) < 21 && time::raw() < end {
        let _ = time::sleep(1_000_000);
    }
    check.equal("all came", (CAME.swap(0, SeqCst), LEFT.load(SeqCst)), (21, 0));
    check.equal("not nested", DEEPEST.load(SeqCst), 1);
    check.refused("an NMI to an unknown vCPU", send_nmi(1), ENOENT);
    set_handler(2, None);
}
