//! First states of a vCPU with any contents: each is refused, or affects that vCPU only.

use pinfold_guest::entry::percpu::PerCpu;
use pinfold_guest::entry::{smp, time};
use pinfold_guest::fixtures::{Check, Random, TableFixture};
use pinfold_guest::hypercall::vcpu;
use pinfold_guest::println;

fn never(_own: &'static PerCpu) {}

/// Random words everywhere in the state: always refused, because some part of it is always invalid.
pub(crate) fn run(_fixture: &mut TableFixture, check: &mut Check) {
    if smp::count() < 2 {
        return;
    }
    let mut random = Random::new(1);
    let mut refused = 0;
    let Some((_, mut context)) = check.ok("a first state", smp::prepare(1, never)) else { return };
    for _ in 0..2000 {
        let bytes = zerocopy_bytes(&mut context);
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&random.next_u64().to_le_bytes());
        }
        // SAFETY: refused.
        if unsafe { vcpu::initialise(1, &mut context) }.is_err() {
            refused += 1;
        }
    }
    println!("CPU random first states: refused={refused}");
    check.equal("all were refused", refused, 2000);
    check.equal("the vCPU is down", vcpu::is_up(1), Ok(false));
    let _ = time::sleep(1_000_000);
}

fn zerocopy_bytes(context: &mut pinfold_abi::vcpu::VcpuGuestContext) -> &mut [u8] {
    use zerocopy::IntoBytes;
    context.as_mut_bytes()
}
