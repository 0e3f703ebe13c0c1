//! Dead mappings cleared in one call, with one flush.

use crate::arch::ipi;
use crate::domain::vcpu::Vcpu;
use crate::hypercall::Outcome;
use crate::memory::guest::GuestPtr;
use crate::memory::{report, validator};
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::{MAX_SHOOTDOWN_RANGES, Range, Shootdown};
use pinfold_validator::{self as heart, Budget, PageRange, Stop, Vaddr};

/// Entries that one pass may look at.
const BUDGET: u32 = 16_384;

/// Pages of all ranges together: 64 GiB, which bounds one call to some ten thousand tables looked
/// at. A range without tables is passed over a table at a time.
const MAX_PAGES: u64 = 1 << 24;

/// Clears what the ranges in the list map, flushes once, and says how much it was.
pub(super) fn run(vcpu: &Vcpu, argument: u64) -> Outcome {
    let pointer = GuestPtr::<Shootdown>::new(argument);
    let mut asked = match pointer.read() {
        Ok(asked) => asked,
        Err(errno) => return Outcome::Done(errno.as_result()),
    };
    if asked.nr_ranges > MAX_SHOOTDOWN_RANGES {
        return Outcome::Done(Errno::E2BIG.as_result());
    }
    let mut total = heart::Shootdown::new();
    let mut result = Ok(());
    let mut room = MAX_PAGES;
    for index in 0..asked.nr_ranges {
        if let Err(errno) = one(vcpu, asked.ranges, index, &mut room, &mut total) {
            result = Err(errno);
            break;
        }
    }
    asked.cleared = total.cleared;
    // Paid whatever happened: what was cleared must not be usable any more.
    let flushed = total.into_debt().pay(validator().platform());
    asked.flushed_cpus = flushed.len();
    let stats = &vcpu.domain.stats;
    stats.shootdowns.bump();
    stats.shootdown_cleared.add(asked.cleared);
    result.and_then(|()| pointer.write(&asked)).into()
}

fn one(
    vcpu: &Vcpu,
    list: u64,
    index: u32,
    room: &mut u64,
    total: &mut heart::Shootdown,
) -> Result<(), Errno> {
    let range = GuestPtr::<Range>::new(list).read_at(index.into())?;
    *room = room.checked_sub(range.pages).ok_or(Errno::E2BIG)?;
    let mut range = PageRange { start: Vaddr::new(range.start), pages: range.pages };
    loop {
        let budget = &mut Budget::new(BUDGET);
        match validator().shootdown(vcpu.domain.id, vcpu.kernel_root, &mut range, budget, total) {
            Ok(()) => return Ok(()),
            // Another processor that waits for us may be the one that is at a table of ours.
            Err(Stop::Preempted) => ipi::attend(),
            Err(Stop::Refused(refusal)) => {
                report::refused(vcpu, &refusal);
                return Err(refusal.errno());
            }
        }
    }
}
