//! Events between vCPUs, in both directions.

use crate::Plan;
use crate::sync::{self, Flag, VcpuPool, until};
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicU32, AtomicU64};
use pinfold_guest::entry::percpu::{PerCpu, this};
use pinfold_guest::entry::{event, smp, time};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::event::{
    Port, bind_interdomain, bind_ipi, bind_vcpu, close, send, status,
};
use pinfold_guest::hypercall::sched;
use pinfold_guest::println;

static PING: AtomicU64 = AtomicU64::new(0);
static PONG: AtomicU64 = AtomicU64::new(0);
static BACK: AtomicU32 = AtomicU32::new(0);
static ELSEWHERE: AtomicU64 = AtomicU64::new(0);

/// Binds a port of a vCPU, with this handler.
fn port_of(cpu: &'static PerCpu, handler: event::Handler) -> Port {
    let port = bind_ipi(cpu.id()).expect("a port");
    event::handle(port, cpu, handler);
    port
}

fn drop_port(port: Port, cpu: &'static PerCpu) {
    close(port).expect("in use");
    event::forget(port, cpu);
}

fn ping(_port: Port) {
    PING.fetch_add(1, SeqCst);
    let _ = send(Port(BACK.load(SeqCst)));
}

fn pong(_port: Port) {
    PONG.fetch_add(1, SeqCst);
    if this().id() != 0 {
        ELSEWHERE.fetch_add(1, SeqCst);
    }
}

pub(crate) fn run(pool: &VcpuPool, plan: &Plan, check: &mut Check) {
    for id in 1..pool.count() {
        let Some(cpu) = smp::cpu(id) else { continue };
        round_trips(pool, id, cpu, plan, check);
    }
    storm(pool, plan, check);
    moving(pool, check);
    spread(pool, check);
}

/// Sends an event and waits for the answer: with the other vCPU blocked, then spinning.
fn round_trips(pool: &VcpuPool, id: u32, cpu: &'static PerCpu, plan: &Plan, check: &mut Check) {
    for spinning in [false, true] {
        PING.store(0, SeqCst);
        PONG.store(0, SeqCst);
        let there = port_of(cpu, ping);
        let back = port_of(this(), pong);
        BACK.store(back.0, SeqCst);
        let over = Flag::new();
        // With one processor, each round trip to a spinning vCPU takes its whole time slice.
        let trips = if spinning { plan.rounds.min(100) } else { plan.rounds.min(500) };
        let start = time::raw();
        pool.run(&|me| {
            if me == id {
                while !over.is_up() {
                    if spinning {
                        core::hint::spin_loop();
                    } else {
                        event::mask();
                        if !over.is_up() {
                            sched::block().expect("block");
                        }
                        event::unmask();
                    }
                }
            }
            if me != 0 {
                return;
            }
            for trip in 1..=trips {
                send(there).expect("an IPI port");
                until(|| PONG.load(SeqCst) >= trip);
            }
            over.raise();
            send(there).expect("an IPI port");
        });
        let each = (time::raw() - start) / trips.max(1) / 1000;
        let how = if spinning { "spinning" } else { "blocked" };
        println!("SMP vCPU 0 to {id}, {how}, and back: {each} us a round trip");
        // The last event only wakes a blocked vCPU; a spinning one may have left before it comes.
        until(|| PING.load(SeqCst) > trips);
        check.equal("each event arrived", PING.load(SeqCst), trips + 1);
        until(|| PONG.load(SeqCst) > trips);
        check.equal("each answer arrived", PONG.load(SeqCst), trips + 1);
        drop_port(there, cpu);
        drop_port(back, this());
    }
    check.equal("all answers on vCPU 0", ELSEWHERE.load(SeqCst), 0);
}

static STORM: AtomicU64 = AtomicU64::new(0);

/// All vCPUs send to all: no event is lost except those that are pending already.
fn storm(pool: &VcpuPool, plan: &Plan, check: &mut Check) {
    fn count(_port: Port) {
        STORM.fetch_add(1, SeqCst);
    }
    let ports: alloc::vec::Vec<Port> =
        (0..pool.count()).filter_map(smp::cpu).map(|cpu| port_of(cpu, count)).collect();
    STORM.store(0, SeqCst);
    let sent = AtomicU64::new(0);
    pool.run(&|_| {
        for _ in 0..plan.rounds * 4 {
            for &port in &ports {
                send(port).expect("an IPI port");
                sent.fetch_add(1, SeqCst);
            }
        }
    });
    // The last event of each port was sent after everything else: it must arrive.
    let settled = until(|| ports.iter().all(|&port| !event::is_pending(port)));
    check.holds("all were delivered", settled);
    println!("SMP storm: {} sent, {} handled", sent.load(SeqCst), STORM.load(SeqCst));
    check.holds("no more events came than were sent", STORM.load(SeqCst) <= sent.load(SeqCst));
    check.holds("each vCPU had some", STORM.load(SeqCst) >= u64::from(pool.count()));
    for (&port, cpu) in ports.iter().zip((0..pool.count()).filter_map(smp::cpu)) {
        drop_port(port, cpu);
    }
}

static WHERE: AtomicU32 = AtomicU32::new(u32::MAX);

/// Binds a connected port to each vCPU in turn.
fn moving(pool: &VcpuPool, check: &mut Check) {
    fn note(_port: Port) {
        WHERE.store(this().id(), SeqCst);
    }
    use pinfold_abi::domid::SELF;
    use pinfold_guest::hypercall::event::alloc_unbound;
    let Some(far) = check.ok("alloc_unbound", alloc_unbound(SELF)) else { return };
    let Some(near) = check.ok("bind", bind_interdomain(SELF, far)) else { return };
    event::clear_pending(near);
    for id in (0..pool.count()).rev() {
        let Some(cpu) = smp::cpu(id) else { continue };
        check.ok("bind_vcpu", bind_vcpu(near, id));
        check.equal("status has the vCPU", status(near).map(|status| status.vcpu), Ok(id));
        event::handle(near, cpu, note);
        WHERE.store(u32::MAX, SeqCst);
        check.ok("send", send(far));
        until(|| WHERE.load(SeqCst) != u32::MAX);
        check.equal("its event arrives there", WHERE.load(SeqCst), id);
        event::forget(near, cpu);
    }
    check.ok("close", close(near));
    check.ok("close", close(far));
}

/// Ports that one vCPU binds for every vCPU, and another one sends to.
fn spread(pool: &VcpuPool, check: &mut Check) {
    fn note(_port: Port) {
        this().scratch[0].fetch_add(1, SeqCst);
    }
    for id in 0..pool.count() {
        let Some(cpu) = smp::cpu(id) else { continue };
        cpu.scratch[0].store(0, SeqCst);
        let port = port_of(cpu, note);
        let ringer = (id + 1) % pool.count();
        pool.run(&|me| {
            sync::set_progress(100 + me);
            if me == ringer {
                send(port).expect("an IPI port");
            }
        });
        until(|| cpu.scratch[0].load(SeqCst) > 0);
        check.equal("an event from another vCPU arrives", cpu.scratch[0].load(SeqCst), 1);
        drop_port(port, cpu);
    }
}
