//! `poll`: sleeping until a port is pending, masked or not.

use crate::signal::{self, bind_port, close_port};
use pinfold_abi::domid;
use pinfold_abi::errno::Errno::EINVAL;
use pinfold_abi::event::PORTS;
use pinfold_guest::entry::{event, time};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::event::{Port, alloc_unbound, close, send};
use pinfold_guest::hypercall::sched::{MAX_POLL, poll};

const MS: u64 = 1_000_000;

pub(crate) fn run(check: &mut Check) {
    let (port, other) = (bind_port(), bind_port());
    event::mask();
    for port in [port, other] {
        event::mask_port(port);
    }
    signal::reset();
    check.ok("send", send(port));
    let start = time::raw();
    check.ok("a masked port that is pending", poll(&[port], 0));
    check.ok("several ports, one pending", poll(&[other, port], 0));
    check.holds("poll clears nothing", event::is_pending(port));
    event::clear_pending(port);
    check.ok("a deadline in the past", poll(&[port], 1));
    check.ok("a deadline that is now", poll(&[port], start));
    check.within("all return at once", time::raw() - start, 0..=2_000 * MS);

    let start = time::raw();
    check.ok("a deadline in 20 ms", poll(&[port], start + 20 * MS));
    let slept = time::raw() - start;
    check.within("it sleeps for 20 ms", slept, 20 * MS..=5_000 * MS);
    let start = time::raw();
    check.ok("no port at all", poll(&[], start + 20 * MS));
    check.within("it sleeps too", time::raw() - start, 20 * MS..=5_000 * MS);
    check.holds("events stay masked", !event::is_open());

    // An event that can be delivered ends it, whatever the list says.
    event::unmask();
    let third = bind_port();
    signal::reset();
    event::mask();
    check.ok("send", send(third));
    let start = time::raw();
    let deaf = poll(&[port], start + 20 * MS);
    check.ok("an event of another port while events are masked", deaf);
    check.within("it doesn't end the poll", time::raw() - start, 20 * MS..=5_000 * MS);
    event::unmask();
    check.equal("it is delivered later", signal::handled(), 1);
    event::mask();

    let unbound = alloc_unbound(domid::SELF).expect("a port");
    check.ok("an unbound port", poll(&[unbound], 1));
    check.ok("close", close(unbound));
    check.refused("a port that is closed", poll(&[unbound], 1), EINVAL);
    for port in [0, PORTS, u32::MAX].map(Port) {
        check.refused("an unknown port", poll(&[port], 1), EINVAL);
    }
    check.refused("one bad port of several", poll(&[other, unbound], 1), EINVAL);
    check.ok("as many ports as are allowed", poll(&[port; MAX_POLL], 1));
    for port in [port, other, third] {
        close_port(port);
    }
}
