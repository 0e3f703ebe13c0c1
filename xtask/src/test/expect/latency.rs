//! Limits for the LATENCY records of a run.

use pinfold_abi::record::Fields;

/// Most time that a processor may keep others waiting, in what QEMU's `-icount shift=0` makes a
/// nanosecond: instructions.
#[derive(Clone, Copy, Debug)]
pub(in crate::test) struct Latency {
    /// Without servicing IPIs.
    pub(in crate::test) ipi: u64,
    /// With interrupts off.
    pub(in crate::test) irq_off: u64,
    /// Without a look at the scheduler.
    pub(in crate::test) sched: u64,
}

impl Latency {
    /// Checks the LATENCY records of all processors.
    pub(in crate::test) fn check(&self, records: &[String]) -> Result<(), String> {
        if records.is_empty() {
            return Err("the log has no LATENCY record".into());
        }
        let limits = [("ipi_us", self.ipi), ("irq_off_us", self.irq_off), ("sched_us", self.sched)];
        for body in records {
            for (key, limit) in limits {
                let value = Fields::of(body).find(|(name, _)| *name == key);
                let us: u64 = value
                    .and_then(|(_, value)| value.parse().ok())
                    .ok_or(format!("no {key} in `{body}`"))?;
                if us > limit.div_ceil(1000) {
                    return Err(format!("{key} is above {} us: {body}", limit.div_ceil(1000)));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_held_against_their_limits() {
        let limits = Latency { ipi: 1_000_000, irq_off: 2_000_000, sched: 1_500_000 };
        let held = |bodies: &[&str]| {
            limits.check(&bodies.iter().map(|body| (*body).to_owned()).collect::<Vec<_>>())
        };
        let good = "cpu=0 ipi_us=1000 ipi_at=mmu_update irq_off_us=2000 sched_us=1500";
        assert!(held(&[good]).is_ok());
        assert!(held(&[]).is_err(), "nothing measured proves nothing");
        assert!(held(&["cpu=0 ipi_us=1 irq_off_us=1"]).is_err());
        for bad in [
            "ipi_us=1001 irq_off_us=1 sched_us=1",
            "ipi_us=1 irq_off_us=2001 sched_us=1",
            "ipi_us=1 irq_off_us=1 sched_us=1501",
        ] {
            assert!(held(&[good, bad]).is_err(), "{bad}");
        }
    }
}
