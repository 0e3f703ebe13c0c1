//! Fairness: vCPUs that spin, and one that sleeps and works; none may starve.

use crate::sync::{Flag, VcpuPool};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::entry::{event, time};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::vcpu;
use pinfold_guest::println;

const MS: u64 = 1_000_000;

pub(crate) fn run(pool: &VcpuPool, check: &mut Check) {
    for masked in [false, true] {
        let over = Flag::new();
        let spun = AtomicU64::new(0);
        let worst = AtomicU64::new(0);
        pool.run(&|id| {
            if id == 0 {
                for _ in 0..15 {
                    let start = time::raw();
                    let _ = time::sleep(5 * MS);
                    worst.fetch_max(time::raw() - start - 5 * MS, SeqCst);
                }
                over.raise();
                return;
            }
            if masked {
                event::mask();
            }
            while !over.is_up() {
                core::hint::spin_loop();
            }
            spun.fetch_add(1, SeqCst);
            if masked {
                event::unmask();
            }
        });
        let worst = worst.load(SeqCst) / 1000;
        println!("SMP {} spin: woken {worst} us late at worst", pool.count() - 1);
        check.within("a sleeper wakes among spinners", worst, 0..=3_000_000);
        check.equal("the spinners went on", spun.load(SeqCst), u64::from(pool.count() - 1));
    }
    shares(pool, check);
}

/// Checks that each vCPU gets a share of the time.
fn shares(pool: &VcpuPool, check: &mut Check) {
    let counts: [AtomicU64; crate::sync::MAX_VCPUS] =
        [const { AtomicU64::new(0) }; crate::sync::MAX_VCPUS];
    let end = time::now() + 600 * MS;
    pool.run(&|id| {
        let mine = &counts[id as usize];
        while time::raw() < end {
            mine.fetch_add(1, SeqCst);
        }
    });
    let counts = &counts[..pool.count() as usize];
    let least = counts.iter().map(|count| count.load(SeqCst)).min().unwrap_or(0);
    let most = counts.iter().map(|count| count.load(SeqCst)).max().unwrap_or(0);
    println!("SMP shares: {least} the least, {most} the most");
    // Not an even one: the host may be busy with something else.
    check.holds("each gets a share", least > 0 && least * 50 > most);
    for id in 0..pool.count() {
        let Some(info) = check.ok("runstate", vcpu::runstate(id)) else { continue };
        let sum: u64 = info.time.iter().sum();
        check.holds("runstate times add up to at most the elapsed time", sum <= time::now() + MS);
        check.holds("it ran", info.time[0] > 0);
    }
}
