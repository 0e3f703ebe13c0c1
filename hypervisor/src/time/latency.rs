//! Report of the latencies that [`crate::arch::latency`] has measured.

use super::clock;
use crate::arch::latency::{self, Latency};
use crate::arch::percpu;
use crate::console::log::write_record;
use pinfold_abi::record::{self, Who};

/// Converts TSC ticks to nanoseconds.
pub fn ns(ticks: u64) -> u64 {
    let ns = u128::from(ticks) * 1_000_000 / u128::from(clock::tsc_khz().max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// Writes a LATENCY record for each CPU.
pub fn report() {
    for cpu in percpu::online().iter() {
        let Latency { ipi, irq_off, sched } = latency::longest_of(cpu);
        let us = |ticks| ns(ticks).div_ceil(1000);
        let record = record::Latency {
            cpu: cpu as u64,
            ipi_us: us(ipi.0),
            ipi_at: ipi.1.name(),
            irq_off_us: us(irq_off.0),
            irq_off_at: irq_off.1.name(),
            sched_us: us(sched.0),
            sched_at: sched.1.name(),
        };
        write_record(Who::Hypervisor, &record);
    }
}

/// The longest times of any CPU in nanoseconds: without servicing IPIs, with interrupts disabled, and
/// without checking the scheduler.
pub fn longest() -> [u64; 3] {
    let all = percpu::online().iter().map(latency::longest_of);
    let ticks = all.fold([0; 3], |[ipi, irq_off, sched]: [u64; 3], of| {
        [ipi.max(of.ipi.0), irq_off.max(of.irq_off.0), sched.max(of.sched.0)]
    });
    ticks.map(ns)
}
