//! Stopping and restarting vCPUs: by themselves, and by others while they run.

use crate::sync::{Flag, VcpuPool, until};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_abi::vcpu::RUNSTATE_OFFLINE;
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::event::send;
use pinfold_guest::hypercall::vcpu;

const MS: u64 = 1_000_000;

pub(crate) fn run(pool: &VcpuPool, check: &mut Check) {
    by_itself(pool, check);
    by_another(pool, check);
    asleep(pool, check);
    quickly(pool, check);
}

/// A vCPU stops itself, and goes on where it was when another one starts it again.
fn by_itself(pool: &VcpuPool, check: &mut Check) {
    let rounds = AtomicU64::new(0);
    let errors = AtomicU64::new(0);
    let seen = AtomicU64::new(0);
    pool.run(&|id| match id {
        1 => {
            for _ in 0..5 {
                rounds.fetch_add(1, SeqCst);
                if vcpu::down(1).is_err() {
                    errors.fetch_add(1, SeqCst);
                }
            }
        }
        0 => {
            for round in 0..5u64 {
                let stopped = until(|| {
                    rounds.load(SeqCst) == round + 1
                        && vcpu::is_up(1) == Ok(false)
                        && vcpu::runstate(1).is_ok_and(|info| info.state == RUNSTATE_OFFLINE)
                });
                // An event does not start it.
                let _ = send(pool.wake_port(1));
                let _ = time::sleep(2 * MS);
                let still = rounds.load(SeqCst) == round + 1 && vcpu::is_up(1) == Ok(false);
                seen.fetch_add(u64::from(stopped && still), SeqCst);
                if vcpu::up(1).is_err() {
                    errors.fetch_add(1, SeqCst);
                }
            }
        }
        _ => {}
    });
    check.equal("stopped five times, until started again", seen.load(SeqCst), 5);
    check.equal("no call was refused", errors.load(SeqCst), 0);
    check.equal("it is online", vcpu::is_up(1), Ok(true));
}

/// A vCPU is stopped by another one while it counts.
fn by_another(pool: &VcpuPool, check: &mut Check) {
    let count = AtomicU64::new(0);
    let over = Flag::new();
    let [ran_on, stood, errors] = [const { AtomicU64::new(0) }; 3];
    pool.run(&|id| match id {
        1 => {
            while !over.is_up() {
                count.fetch_add(1, SeqCst);
            }
        }
        0 => {
            until(|| count.load(SeqCst) > 0);
            for _ in 0..5 {
                errors.fetch_add(u64::from(vcpu::down(1).is_err()), SeqCst);
                // The call may return before the other processor has seen it.
                until(|| vcpu::runstate(1).is_ok_and(|info| info.state == RUNSTATE_OFFLINE));
                let before = count.load(SeqCst);
                let _ = time::sleep(5 * MS);
                stood.fetch_add(u64::from(count.load(SeqCst) == before), SeqCst);
                errors.fetch_add(u64::from(vcpu::up(1).is_err()), SeqCst);
                ran_on.fetch_add(u64::from(until(|| count.load(SeqCst) > before)), SeqCst);
            }
            over.raise();
        }
        _ => {}
    });
    check.equal("it doesn't run while it is stopped", stood.into_inner(), 5);
    check.equal("it runs when it is started again", ran_on.into_inner(), 5);
    check.equal("no call was refused", errors.into_inner(), 0);
}

/// A blocked vCPU is stopped and started: it is blocked as before, and its event wakes it.
fn asleep(pool: &VcpuPool, check: &mut Check) {
    let last = pool.count() - 1;
    check.ok("down of a blocked one", vcpu::down(last));
    check.equal("is_up", vcpu::is_up(last), Ok(false));
    check.ok("down again", vcpu::down(last));
    // Its event comes while it is stopped, and is not lost.
    check.ok("up", vcpu::up(last));
    check.ok("up again", vcpu::up(last));
    let here = AtomicU64::new(0);
    pool.run(&|id| {
        here.fetch_add(1 << (8 * id.min(7)), SeqCst);
    });
    check.holds("it runs again", here.load(SeqCst) != 0);
}

/// A vCPU is stopped and started hundreds of times in quick succession, while it runs.
fn quickly(pool: &VcpuPool, check: &mut Check) {
    let over = Flag::new();
    let errors = AtomicU64::new(0);
    let count = AtomicU64::new(0);
    pool.run(&|id| match id {
        0 => {
            for _ in 0..3 {
                let before = count.load(SeqCst);
                for _ in 0..100 {
                    if vcpu::down(1).is_err() || vcpu::up(1).is_err() {
                        errors.fetch_add(1, SeqCst);
                    }
                }
                if !until(|| count.load(SeqCst) > before) {
                    errors.fetch_add(1 << 32, SeqCst);
                }
            }
            over.raise();
        }
        1 => {
            while !over.is_up() {
                count.fetch_add(1, SeqCst);
                let _ = pinfold_guest::hypercall::sched::yield_now();
            }
        }
        _ => {
            while !over.is_up() {
                core::hint::spin_loop();
            }
        }
    });
    check.equal("no call was refused, and it ran on each time", errors.load(SeqCst), 0);
}
