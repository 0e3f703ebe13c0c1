//! `poll`: sleeping until a port is pending, masked or not.

use crate::signal::{self, bell, drop_bell};
use pinfold_abi::domid;
use pinfold_abi::errno::Errno::EINVAL;
use pinfold_guest::entry::{event, time};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::event::{Port, alloc_unbound, close, send};
use pinfold_guest::hypercall::sched::{MAX_POLL, poll};

const MS: u64 = 1_000_000;

pub(crate) fn run(check: &mut Check) {
    let (port, other) = (bell(), bell());
    event::mask();
    for port in [port, other] {
        event::mask_port(port);
    }
    signal::reset();
    check.ok("send", send(port));
    let start = time::raw();
    check.ok("a masked port that is pending", poll(&[port], 0));
    check.ok("among others", poll(&[other, port], 0));
    check.holds("poll takes nothing", event::is_pending(port));
    event::clear_pending(port);
    check.ok("a time that is over", poll(&[port], 1));
    check.ok("one that is now", poll(&[port], start));
    check.within("all at once", time::raw() - start, 0..=2_000 * MS);

    let start = time::raw();
    check.ok("20 ms", poll(&[port], start + 20 * MS));
    let slept = time::raw() - start;
    check.within("20 ms of sleep", slept, 20 * MS..=5_000 * MS);
    let start = time::raw();
    check.ok("no port at all", poll(&[], start + 20 * MS));
    check.within("is a sleep too", time::raw() - start, 20 * MS..=5_000 * MS);
    check.holds("events stay as they were", !event::is_open());

    // An event that can be delivered ends it, whatever the list.
    event::unmask();
    let third = bell();
    signal::reset();
    event::mask();
    check.ok("send", send(third));
    let start = time::raw();
    let deaf = poll(&[port], start + 20 * MS);
    check.ok("an event of another port, masked", deaf);
    check.within("does not end it", time::raw() - start, 20 * MS..=5_000 * MS);
    event::unmask();
    check.equal("it comes in later", signal::handled(), 1);
    event::mask();

    let unbound = alloc_unbound(domid::SELF).expect("a port");
    check.ok("a port that is offered only", poll(&[unbound], 1));
    check.ok("close", close(unbound));
    check.refused("a port that is closed", poll(&[unbound], 1), EINVAL);
    for port in [0, 4096, u32::MAX].map(Port) {
        check.refused("a port that is none", poll(&[port], 1), EINVAL);
    }
    check.refused("one of several", poll(&[other, unbound], 1), EINVAL);
    check.ok("as many as may be", poll(&[port; MAX_POLL], 1));
    for port in [port, other, third] {
        drop_bell(port);
    }
}
