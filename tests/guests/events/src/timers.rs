//! Timers: in the past, in the future, periodic, and stopped.

use crate::signal::Counter;
use pinfold_abi::errno::Errno::EINVAL;
use pinfold_abi::vcpu::SINGLESHOT_FUTURE;
use pinfold_guest::entry::{event, time};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::event::{Port, close};
use pinfold_guest::hypercall::{sched, vcpu};
use pinfold_guest::println;
use pinfold_guest::shared::SharedPage;

const MS: u64 = 1_000_000;
/// How late a timer may fire: the host may be busy.
const LATE: u64 = 5_000 * MS;

static FIRED: Counter = Counter::new();
static AT: Counter = Counter::new();

fn tick(_port: Port) {
    FIRED.add();
    AT.set(time::raw());
}

pub(crate) fn run(shared: &SharedPage, check: &mut Check) {
    let Ok(port) = time::bind_timer(tick) else {
        check.holds("VIRQ_TIMER", false);
        return;
    };
    event::unmask();
    check.ok("no periodic timer", vcpu::stop_periodic_timer(0));
    past(check);
    future(check);
    taken_back(check);
    periodic(check);
    wakes(check);
    accuracy(check);
    bad(check);
    unbound(port, shared, check);
    event::mask();
}

/// A time in the past: fires at once.
fn past(check: &mut Check) {
    for flags in [0, SINGLESHOT_FUTURE] {
        FIRED.set(0);
        check.ok("singleshot in the past", vcpu::set_singleshot_timer(0, 1, flags));
        // The flag was an error once; Xen ignores it now.
        event::deliver_now();
        check.equal("it fires at once", FIRED.get(), 1);
    }
    FIRED.set(0);
    check.ok("set_timer_op in the past", vcpu::set_timer(1));
    wait(check, "it fires soon");
    check.equal("it fires once", FIRED.get(), 1);
}

/// Spins until the timer fires.
fn wait(check: &mut Check, what: &str) {
    let end = time::raw() + LATE;
    while FIRED.get() == 0 && time::raw() < end {
        core::hint::spin_loop();
    }
    check.holds(what, FIRED.get() > 0);
}

/// A time in the future: not before, and without a call by the guest in between.
fn future(check: &mut Check) {
    for flags in [0, SINGLESHOT_FUTURE] {
        FIRED.set(0);
        let due = time::raw() + 5 * MS;
        check.ok("singleshot in 5 ms", vcpu::set_singleshot_timer(0, due, flags));
        check.equal("it doesn't fire yet", FIRED.get(), 0);
        wait(check, "it fires while the guest spins");
        check.within("in time", AT.get(), due..=due + LATE);
    }
    FIRED.set(0);
    let due = time::raw() + 5 * MS;
    check.ok("set_timer_op in 5 ms", vcpu::set_timer(due));
    wait(check, "it fires while the guest spins");
    check.within("in time", AT.get(), due..=due + LATE);
    // Both calls set the same timer: the later one counts.
    FIRED.set(0);
    let start = time::raw();
    check.ok("singleshot in 20 s", vcpu::set_singleshot_timer(0, start + 20_000 * MS, 0));
    check.ok("set_timer_op in 5 ms", vcpu::set_timer(start + 5 * MS));
    wait(check, "the second call counts");
    check.within("in time", AT.get(), start + 5 * MS..=start + LATE);
    time::spin(20 * MS);
    check.equal("it fires once", FIRED.get(), 1);
}

fn taken_back(check: &mut Check) {
    FIRED.set(0);
    check.ok("singleshot in 10 ms", time::fire_in(10 * MS));
    check.ok("stop it", vcpu::stop_singleshot_timer(0));
    time::spin(30 * MS);
    check.equal("it does not fire", FIRED.get(), 0);
    check.ok("set_timer_op in 10 ms", vcpu::set_timer(time::raw() + 10 * MS));
    check.ok("stop it", vcpu::set_timer(0));
    time::spin(30 * MS);
    check.equal("it does not fire", FIRED.get(), 0);
    check.ok("stop it again", vcpu::stop_singleshot_timer(0));
    check.ok("stop it again by the other call", vcpu::set_timer(0));
}

fn periodic(check: &mut Check) {
    FIRED.set(0);
    let start = time::raw();
    check.ok("periodic, 5 ms", vcpu::set_periodic_timer(0, 5 * MS));
    while FIRED.get() < 10 && time::raw() < start + 4 * LATE {
        core::hint::spin_loop();
    }
    let passed = time::raw() - start;
    check.within("ten times", FIRED.get(), 10..=11);
    check.within("ten periods take about 50 ms", passed, 40 * MS..=4 * LATE);
    check.ok("stop it", vcpu::stop_periodic_timer(0));
    FIRED.set(0);
    time::spin(30 * MS);
    check.equal("it doesn't fire any more", FIRED.get(), 0);
    // Periodic and single timer at the same time.
    let start = time::raw();
    check.ok("periodic, 50 ms", vcpu::set_periodic_timer(0, 50 * MS));
    check.ok("singleshot in 5 ms", time::fire_in(5 * MS));
    wait(check, "the singleshot fires");
    check.within("before the periodic one", AT.get() - start, 5 * MS..=LATE);
    check.ok("stop it", vcpu::stop_periodic_timer(0));
}

/// A timer wakes a blocked vCPU.
fn wakes(check: &mut Check) {
    for round in 0..5 {
        FIRED.set(0);
        event::mask();
        let due = time::raw() + 10 * MS;
        check.ok("singleshot in 10 ms", vcpu::set_singleshot_timer(0, due, 0));
        check.ok("block", sched::block());
        check.equal("it wakes the vCPU", FIRED.get(), 1);
        check.within("in time", AT.get(), due..=due + LATE);
        check.holds("events are unmasked", event::is_open());
        if round == 0 {
            println!("EVENTS woken {} us late", (AT.get() - due) / 1000);
        }
    }
    // No wake-up is lost between the check and the block: the timer may fire before the call.
    for _ in 0..200 {
        FIRED.set(0);
        event::mask();
        check.ok("singleshot very soon", time::fire_in(2_000));
        while FIRED.get() == 0 {
            check.ok("block", sched::block());
        }
    }
}

fn accuracy(check: &mut Check) {
    let mut worst = 0;
    let mut sum = 0;
    for round in 0..50u64 {
        FIRED.set(0);
        let due = time::raw() + 100_000 + round * 17_000;
        check.ok("singleshot", vcpu::set_singleshot_timer(0, due, 0));
        wait(check, "it fires");
        let late = AT.get().saturating_sub(due);
        worst = worst.max(late);
        sum += late;
    }
    println!(
        "EVENTS timers: 50, {} us late on average, {} us at worst",
        sum / 50_000,
        worst / 1000
    );
}

fn bad(check: &mut Check) {
    check.refused("a period of 0", vcpu::set_periodic_timer(0, 0), EINVAL);
    check.refused("a period too short", vcpu::set_periodic_timer(0, MS - 1), EINVAL);
    check.refused("a period too long", vcpu::set_periodic_timer(0, u64::MAX), EINVAL);
    // Times far beyond any uptime: far away or at once, but never a hang.
    for at in [1 << 50, 1 << 62, 1 << 63, u64::MAX] {
        check.ok("a time far in the future", vcpu::set_singleshot_timer(0, at, 0));
        check.ok("stop it", vcpu::stop_singleshot_timer(0));
        check.ok("set it by the other call", vcpu::set_timer(at));
        check.ok("stop it", vcpu::set_timer(0));
    }
    // What has fired meanwhile doesn't matter.
    event::deliver_now();
    time::spin(5 * MS);
    FIRED.set(0);
}

/// Without a port, the timer's event is lost.
fn unbound(port: Port, shared: &SharedPage, check: &mut Check) {
    FIRED.set(0);
    check.ok("close", close(port));
    check.ok("singleshot in the past", vcpu::set_singleshot_timer(0, 1, 0));
    time::spin(MS);
    check.equal("no event is delivered", FIRED.get(), 0);
    check.holds("nothing is pending", !event::is_pending(port));
    event::forget(port, pinfold_guest::entry::percpu::this());
    let _ = shared;
}
