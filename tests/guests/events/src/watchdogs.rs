//! Watchdog timers, which shut the domain down unless they are set again in time.

use pinfold_abi::errno::Errno::{EFAULT, EINVAL, ENOSPC};
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::sched::{SCHEDOP_SHUTDOWN_CODE, SCHEDOP_WATCHDOG, Watchdog};
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::{Check, Differs};
use pinfold_guest::hypercall::Errno;
use pinfold_guest::raw;

fn watchdog(id: u32, timeout: u32) -> Result<u64, Errno> {
    let argument = Watchdog { id, timeout };
    let args = [SCHEDOP_WATCHDOG, &raw const argument as u64, 0, 0, 0];
    // SAFETY: the call reads its argument.
    raw::result(unsafe { raw::call(Hypercall::SchedOp as u64, args) })
}

pub(crate) fn run(check: &mut Check) {
    for id in [1, 2, 3, 77, u32::MAX] {
        check.refused("set a watchdog that doesn't run", watchdog(id, 5), EINVAL);
        check.refused("stop a watchdog that doesn't run", watchdog(id, 0), EINVAL);
    }
    check.equal("start a first one", watchdog(0, 1), Ok(1));
    check.equal("start a second one", watchdog(0, 100_000), Ok(2));
    check.differs(
        "there are only two",
        watchdog(0, 5),
        Differs {
            xen: None,
            pinfold: Some(ENOSPC),
            why: "Xen 4.17 drops the sign of its error, and returns 2^32 - 28",
        },
    );
    // Sleeps longer than its timeout, setting it again in between.
    for _ in 0..3 {
        check.ok("sleep", time::sleep(400_000_000));
        check.equal("set it again", watchdog(1, 1), Ok(0));
    }
    check.equal("stop", watchdog(1, 0), Ok(0));
    check.refused("stop it again", watchdog(1, 0), EINVAL);
    check.equal("start it again", watchdog(0, 1000), Ok(1));
    check.equal("stop", watchdog(1, 0), Ok(0));
    check.equal("stop", watchdog(2, 0), Ok(0));
    for command in [SCHEDOP_WATCHDOG, SCHEDOP_SHUTDOWN_CODE] {
        // SAFETY: the call is refused.
        let nowhere = unsafe { raw::call(Hypercall::SchedOp as u64, [command, 0x1000, 0, 0, 0]) };
        check.refused("an argument at a bad address", raw::result(nowhere), EFAULT);
    }
}
