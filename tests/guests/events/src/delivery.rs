//! When events come in, and in which order.

use crate::signal::{self, Counter, bell, bell_with, drop_bell};
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::entry::trap::{TrapFrame, set_handler};
use pinfold_guest::entry::{event, percpu};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::event::{Port, send, unmask};
use pinfold_guest::hypercall::sched;
use pinfold_guest::shared::{SharedPage, ports};

pub(crate) fn run(shared: &SharedPage, check: &mut Check) {
    masked(shared, check);
    port_masks(shared, check);
    order(check);
    nested(check);
    again_in_the_handler(check);
    at_iret(check);
    selector(shared, check);
    blocking(check);
    trap_in_a_handler(check);
}

/// Nothing comes in while events are masked; unmasking brings it in.
fn masked(shared: &SharedPage, check: &mut Check) {
    let record = &shared.vcpus[0];
    let port = bell();
    signal::reset();
    check.holds("events are masked at first", !event::is_open());
    check.ok("send", send(port));
    check.equal("nothing comes in", signal::handled(), 0);
    check.holds("the port is pending", event::is_pending(port));
    check.equal("the flag is up", record.upcall_pending.load(SeqCst), 1);
    let word = 1u64 << (port.0 / 64);
    check.equal("the word is named", record.pending_sel.load(SeqCst) & word, word);
    event::unmask();
    check.equal("unmasking lets it in", signal::handled(), 1);
    check.holds("the port is not pending any more", !event::is_pending(port));
    check.equal("the flag is down", record.upcall_pending.load(SeqCst), 0);
    check.holds("events are open behind the handler", event::is_open());
    check.ok("send", send(port));
    check.equal("it comes in at the call", signal::handled(), 2);
    for _ in 0..1000 {
        check.ok("send", send(port));
    }
    check.equal("each one", signal::handled(), 1002);
    let before = signal::handled();
    event::without(|| {
        for _ in 0..10 {
            check.ok("send", send(port));
        }
    });
    check.equal("ten while masked are one", signal::handled() - before, 1);
    event::mask();
    drop_bell(port);
}

/// A masked port is marked, and brings nobody in.
fn port_masks(shared: &SharedPage, check: &mut Check) {
    let record = &shared.vcpus[0];
    let port = bell();
    event::unmask();
    signal::reset();
    event::mask_port(port);
    check.ok("send", send(port));
    check.holds("pending", event::is_pending(port));
    check.equal("nobody comes in", (signal::handled(), record.upcall_pending.load(SeqCst)), (0, 0));
    check.ok("the unmask call", unmask(port));
    check.holds("clears the mask bit", !ports::has(&shared.mask, port.0));
    check.equal("and brings it in", signal::handled(), 1);
    check.ok("the unmask call with nothing pending", unmask(port));
    check.equal("brings nothing", signal::handled(), 1);
    // Clearing the bit by hand is not enough: nobody looks.
    event::mask_port(port);
    check.ok("send", send(port));
    ports::clear(&shared.mask, port.0);
    event::deliver_now();
    check.equal("a bit cleared by hand", signal::handled(), 1);
    check.ok("send once more", send(port));
    check.equal("is pending already: still nobody", signal::handled(), 1);
    event::mask_port(port);
    check.ok("masked again, the unmask call", unmask(port));
    check.equal("finds it", signal::handled(), 2);
    // A port that is unmasked already: nothing to do.
    event::mask();
    ports::set(&shared.pending, port.0);
    check.ok("the unmask call of an open port", unmask(port));
    check.equal("does nothing", record.upcall_pending.load(SeqCst), 0);
    event::clear_pending(port);
    drop_bell(port);
}

/// Several at once come in one upcall.
fn order(check: &mut Check) {
    let bells: [Port; 5] = core::array::from_fn(|_| bell());
    event::mask();
    signal::reset();
    let upcalls = percpu::this().upcalls();
    for &port in bells.iter().rev() {
        check.ok("send", send(port));
    }
    event::unmask();
    check.equal("all came", signal::handled(), bells.len());
    check.equal("in one upcall", percpu::this().upcalls() - upcalls, 1);
    for (place, &port) in bells.iter().enumerate() {
        check.equal("in the order of the ports", signal::at(place), port);
    }
    check.equal("not one in the other", signal::deepest(), 1);
    event::mask();
    bells.into_iter().for_each(drop_bell);
}

static INNER: AtomicU32 = AtomicU32::new(0);

/// A handler that lets others in is interrupted by them.
fn nested(check: &mut Check) {
    fn outer(port: Port) {
        let inner = Port(INNER.load(SeqCst));
        let _ = send(inner);
        signal::note(port);
        event::unmask();
        // By now the other one has been handled, deeper.
        signal::note(Port(0));
        event::mask();
    }
    let (first, second) = (bell_with(outer), bell());
    INNER.store(second.0, SeqCst);
    event::unmask();
    signal::reset();
    check.ok("send", send(first));
    check.equal("handled", signal::handled(), 3);
    check.equal("the outer one first", signal::at(0), first);
    check.equal("then the inner one", signal::at(1), second);
    check.equal("in the middle of it", signal::at(2), Port(0));
    check.equal("two deep", signal::deepest(), 2);
    check.holds("events are open behind it", event::is_open());
    event::mask();
    drop_bell(first);
    drop_bell(second);
}

static LEFT: Counter = Counter::new();

/// A handler that rings its own port is called again, not deeper.
fn again_in_the_handler(check: &mut Check) {
    fn ring(port: Port) {
        signal::note(port);
        let left = LEFT.get();
        if left > 0 {
            LEFT.set(left - 1);
            let _ = send(port);
        }
    }
    let port = bell_with(ring);
    event::unmask();
    signal::reset();
    LEFT.set(50);
    check.ok("send", send(port));
    check.equal("as often as it rang", signal::handled(), 51);
    check.equal("never deeper", signal::deepest(), 1);
    event::mask();
    drop_bell(port);
}

static IN_TRAP: Counter = Counter::new();

/// An event that becomes pending while a trap handler keeps events out comes in at its `iret`.
fn at_iret(check: &mut Check) {
    fn trapped(_frame: &mut TrapFrame) -> bool {
        let _ = send(Port(INNER.load(SeqCst)));
        IN_TRAP.set(signal::handled() as u64 + 1);
        true
    }
    let port = bell();
    INNER.store(port.0, SeqCst);
    set_handler(3, Some(trapped));
    event::unmask();
    signal::reset();
    // SAFETY: the handler above goes on behind the instruction.
    unsafe { core::arch::asm!("int3") };
    check.equal("the trap handler ran with events masked", IN_TRAP.get(), 1);
    check.equal("the event came at its end", signal::handled(), 1);
    check.holds("and events are open", event::is_open());
    event::mask();
    signal::reset();
    // SAFETY: as above.
    unsafe { core::arch::asm!("int3") };
    check.equal("masked before, masked behind", (signal::handled(), event::is_open()), (0, false));
    event::unmask();
    check.equal("it comes at the unmasking", signal::handled(), 1);
    event::mask();
    set_handler(3, None);
    drop_bell(port);
}

/// What the guest itself writes to the shared words.
fn selector(shared: &SharedPage, check: &mut Check) {
    let record = &shared.vcpus[0];
    let port = bell();
    event::unmask();
    signal::reset();
    // A flag without a port is an upcall that finds nothing.
    let upcalls = percpu::this().upcalls();
    record.upcall_pending.store(1, SeqCst);
    event::deliver_now();
    check.equal("a flag of its own making", percpu::this().upcalls() - upcalls, 1);
    check.equal("brings nothing", signal::handled(), 0);
    // All words named, nothing pending.
    record.pending_sel.store(u64::MAX, SeqCst);
    record.upcall_pending.store(0xff, SeqCst);
    event::deliver_now();
    check.equal("a selector of its own making", signal::handled(), 0);
    // An event put there by hand is as good as any.
    ports::set(&shared.pending, port.0);
    record.pending_sel.store(1 << (port.0 / 64), SeqCst);
    record.upcall_pending.store(1, SeqCst);
    event::deliver_now();
    check.equal("an event of its own making", signal::handled(), 1);
    // The word was named already: the flag is not raised again.
    event::mask();
    record.pending_sel.store(u64::MAX, SeqCst);
    record.upcall_pending.store(0, SeqCst);
    check.ok("send", send(port));
    check.equal("a word named before", record.upcall_pending.load(SeqCst), 0);
    check.holds("pending all the same", event::is_pending(port));
    record.pending_sel.store(0, SeqCst);
    // Any mask byte but 0 is one.
    event::clear_pending(port);
    record.upcall_mask.store(0x80, SeqCst);
    check.ok("send", send(port));
    check.equal("a mask of another value", signal::handled(), 1);
    event::unmask();
    check.equal("is a mask", signal::handled(), 2);
    event::mask();
    drop_bell(port);
}

/// `block` opens events and comes back for one.
fn blocking(check: &mut Check) {
    let port = bell();
    event::mask();
    signal::reset();
    check.ok("send", send(port));
    check.ok("block with one pending", sched::block());
    check.equal("it came in", signal::handled(), 1);
    check.holds("block opens events", event::is_open());
    event::mask();
    drop_bell(port);
}

/// A trap in a handler is not the one that the interrupted code expects.
fn trap_in_a_handler(check: &mut Check) {
    fn fault(port: Port) {
        // SAFETY: nothing is there.
        let caught = unsafe { pinfold_guest::entry::catch::read(0x1000) };
        if caught.is_err() {
            signal::note(port);
        }
    }
    let port = bell_with(fault);
    event::unmask();
    signal::reset();
    // SAFETY: a call that owns nothing.
    let outer = unsafe {
        pinfold_guest::entry::catch::catch(|| {
            let _ = send(port);
        })
    };
    check.equal("the handler caught its own", signal::handled(), 1);
    check.holds("the interrupted code was not stopped", outer.is_ok());
    event::mask();
    drop_bell(port);
}
