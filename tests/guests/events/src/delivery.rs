//! Delivery of events: when, and in which order.

use crate::signal::{self, Counter, bind_port, bind_port_with, close_port};
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

/// Nothing is delivered while events are masked; unmasking delivers it.
fn masked(shared: &SharedPage, check: &mut Check) {
    let record = &shared.vcpus[0];
    let port = bind_port();
    signal::reset();
    check.holds("events are masked at first", !event::is_open());
    check.ok("send", send(port));
    check.equal("nothing is delivered", signal::handled(), 0);
    check.holds("the port is pending", event::is_pending(port));
    check.equal("upcall_pending is set", record.upcall_pending.load(SeqCst), 1);
    let word = 1u64 << (port.0 / 64);
    check.equal("its bit in pending_sel is set", record.pending_sel.load(SeqCst) & word, word);
    event::unmask();
    check.equal("unmasking delivers it", signal::handled(), 1);
    check.holds("the port is not pending any more", !event::is_pending(port));
    check.equal("upcall_pending is clear", record.upcall_pending.load(SeqCst), 0);
    check.holds("events are unmasked after the handler", event::is_open());
    check.ok("send", send(port));
    check.equal("it is delivered at the call", signal::handled(), 2);
    for _ in 0..1000 {
        check.ok("send", send(port));
    }
    check.equal("each one is delivered", signal::handled(), 1002);
    let before = signal::handled();
    event::without(|| {
        for _ in 0..10 {
            check.ok("send", send(port));
        }
    });
    check.equal("ten events while masked are delivered as one", signal::handled() - before, 1);
    event::mask();
    close_port(port);
}

/// An event of a masked port is pending, and not delivered.
fn port_masks(shared: &SharedPage, check: &mut Check) {
    let record = &shared.vcpus[0];
    let port = bind_port();
    event::unmask();
    signal::reset();
    event::mask_port(port);
    check.ok("send", send(port));
    check.holds("it is pending", event::is_pending(port));
    check.equal(
        "it is not delivered",
        (signal::handled(), record.upcall_pending.load(SeqCst)),
        (0, 0),
    );
    check.ok("the unmask call", unmask(port));
    check.holds("it clears the mask bit", !ports::has(&shared.mask, port.0));
    check.equal("it delivers the event", signal::handled(), 1);
    check.ok("the unmask call with nothing pending", unmask(port));
    check.equal("it delivers nothing", signal::handled(), 1);
    // Clearing the mask bit without the call delivers nothing.
    event::mask_port(port);
    check.ok("send", send(port));
    ports::clear(&shared.mask, port.0);
    event::deliver_now();
    check.equal("the mask bit is cleared without the call", signal::handled(), 1);
    check.ok("send once more", send(port));
    check.equal("it is pending already: nothing is delivered", signal::handled(), 1);
    event::mask_port(port);
    check.ok("masked again, the unmask call", unmask(port));
    check.equal("it delivers the event", signal::handled(), 2);
    // A port that is not masked: the call does nothing.
    event::mask();
    ports::set(&shared.pending, port.0);
    check.ok("the unmask call of a port that is not masked", unmask(port));
    check.equal("it does nothing", record.upcall_pending.load(SeqCst), 0);
    event::clear_pending(port);
    close_port(port);
}

/// Several pending events are delivered in one upcall.
fn order(check: &mut Check) {
    let ports: [Port; 5] = core::array::from_fn(|_| bind_port());
    event::mask();
    signal::reset();
    let upcalls = percpu::this().upcalls();
    for &port in ports.iter().rev() {
        check.ok("send", send(port));
    }
    event::unmask();
    check.equal("all are delivered", signal::handled(), ports.len());
    check.equal("in one upcall", percpu::this().upcalls() - upcalls, 1);
    for (place, &port) in ports.iter().enumerate() {
        check.equal("in the order of the ports", signal::at(place), port);
    }
    check.equal("not nested", signal::deepest(), 1);
    event::mask();
    ports.into_iter().for_each(close_port);
}

static INNER: AtomicU32 = AtomicU32::new(0);

/// A handler that unmasks events is interrupted by others.
fn nested(check: &mut Check) {
    fn outer(port: Port) {
        let inner = Port(INNER.load(SeqCst));
        let _ = send(inner);
        signal::note(port);
        event::unmask();
        // The other event has been handled now, nested.
        signal::note(Port(0));
        event::mask();
    }
    let (first, second) = (bind_port_with(outer), bind_port());
    INNER.store(second.0, SeqCst);
    event::unmask();
    signal::reset();
    check.ok("send", send(first));
    check.equal("handled", signal::handled(), 3);
    check.equal("the outer one first", signal::at(0), first);
    check.equal("then the inner one", signal::at(1), second);
    check.equal("which ran inside the outer one", signal::at(2), Port(0));
    check.equal("two deep", signal::deepest(), 2);
    check.holds("events are unmasked afterwards", event::is_open());
    event::mask();
    close_port(first);
    close_port(second);
}

static LEFT: Counter = Counter::new();

/// A handler that sends to its own port is called again, not nested.
fn again_in_the_handler(check: &mut Check) {
    fn send_again(port: Port) {
        signal::note(port);
        let left = LEFT.get();
        if left > 0 {
            LEFT.set(left - 1);
            let _ = send(port);
        }
    }
    let port = bind_port_with(send_again);
    event::unmask();
    signal::reset();
    LEFT.set(50);
    check.ok("send", send(port));
    check.equal("it is called once for each event", signal::handled(), 51);
    check.equal("it is never nested", signal::deepest(), 1);
    event::mask();
    close_port(port);
}

static IN_TRAP: Counter = Counter::new();

/// An event that becomes pending while a trap handler has events masked is delivered at its `iret`.
fn at_iret(check: &mut Check) {
    fn trapped(_frame: &mut TrapFrame) -> bool {
        let _ = send(Port(INNER.load(SeqCst)));
        IN_TRAP.set(signal::handled() as u64 + 1);
        true
    }
    let port = bind_port();
    INNER.store(port.0, SeqCst);
    set_handler(3, Some(trapped));
    event::unmask();
    signal::reset();
    // SAFETY: the handler above continues after the instruction.
    unsafe { core::arch::asm!("int3") };
    check.equal("the trap handler ran with events masked", IN_TRAP.get(), 1);
    check.equal("the event was delivered at its end", signal::handled(), 1);
    check.holds("events are unmasked", event::is_open());
    event::mask();
    signal::reset();
    // SAFETY: as above.
    unsafe { core::arch::asm!("int3") };
    check.equal("masked before and after", (signal::handled(), event::is_open()), (0, false));
    event::unmask();
    check.equal("it is delivered when events are unmasked", signal::handled(), 1);
    event::mask();
    set_handler(3, None);
    close_port(port);
}

/// The guest itself writes the shared words.
fn selector(shared: &SharedPage, check: &mut Check) {
    let record = &shared.vcpus[0];
    let port = bind_port();
    event::unmask();
    signal::reset();
    // upcall_pending without a pending port: an upcall that finds nothing.
    let upcalls = percpu::this().upcalls();
    record.upcall_pending.store(1, SeqCst);
    event::deliver_now();
    check.equal("upcall_pending set by the guest", percpu::this().upcalls() - upcalls, 1);
    check.equal("nothing is delivered", signal::handled(), 0);
    // All bits of pending_sel, nothing pending.
    record.pending_sel.store(u64::MAX, SeqCst);
    record.upcall_pending.store(0xff, SeqCst);
    event::deliver_now();
    check.equal("pending_sel set by the guest", signal::handled(), 0);
    // A pending bit set by the guest counts like any other.
    ports::set(&shared.pending, port.0);
    record.pending_sel.store(1 << (port.0 / 64), SeqCst);
    record.upcall_pending.store(1, SeqCst);
    event::deliver_now();
    check.equal("a pending bit set by the guest", signal::handled(), 1);
    // The bit in pending_sel was set already: upcall_pending is not set again.
    event::mask();
    record.pending_sel.store(u64::MAX, SeqCst);
    record.upcall_pending.store(0, SeqCst);
    check.ok("send", send(port));
    check.equal("upcall_pending stays clear", record.upcall_pending.load(SeqCst), 0);
    check.holds("the port is pending", event::is_pending(port));
    record.pending_sel.store(0, SeqCst);
    // Any value of upcall_mask but 0 masks.
    event::clear_pending(port);
    record.upcall_mask.store(0x80, SeqCst);
    check.ok("send", send(port));
    check.equal("a mask of another value masks", signal::handled(), 1);
    event::unmask();
    check.equal("unmasking delivers it", signal::handled(), 2);
    event::mask();
    close_port(port);
}

/// `block` unmasks events, and returns for one.
fn blocking(check: &mut Check) {
    let port = bind_port();
    event::mask();
    signal::reset();
    check.ok("send", send(port));
    check.ok("block with one pending", sched::block());
    check.equal("it was delivered", signal::handled(), 1);
    check.holds("block unmasks events", event::is_open());
    event::mask();
    close_port(port);
}

/// A trap in a handler is not taken for the one that the interrupted code expects.
fn trap_in_a_handler(check: &mut Check) {
    fn fault(port: Port) {
        // SAFETY: nothing is mapped there.
        let caught = unsafe { pinfold_guest::entry::catch::read(0x1000) };
        if caught.is_err() {
            signal::note(port);
        }
    }
    let port = bind_port_with(fault);
    event::unmask();
    signal::reset();
    // SAFETY: the call owns nothing.
    let outer = unsafe {
        pinfold_guest::entry::catch::catch(|| {
            let _ = send(port);
        })
    };
    check.equal("the handler caught its own trap", signal::handled(), 1);
    check.holds("the interrupted code was not stopped", outer.is_ok());
    event::mask();
    close_port(port);
}
