//! Clears lazily kept mappings in one call, with one TLB flush for each of its parts.

use super::resume::Resume;
use crate::arch::ipi;
use crate::diagnostics::report;
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::cost;
use crate::hypercall::outcome::Outcome;
use crate::memory::guest::GuestPtr;
use crate::memory::validator;
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::refusals::{BAD_RESUME, TOO_MANY_PAGES, TOO_MANY_RANGES};
use pinfold_abi::pinfold::{MAX_SHOOTDOWN_RANGES, Range, Shootdown};
use pinfold_validator::{CpuSet, Error, PageRange, ShootdownProgress, Vaddr};

/// Pages of all ranges together at most: 64 GiB, so that one call visits some ten thousand tables. A
/// range without tables is skipped a table at a time.
const MAX_PAGES: u64 = 1 << 24;

/// A call's progress.
#[derive(Clone, Copy, Debug)]
struct At {
    /// The range, and how many of its pages are done.
    index: u32,
    pages: u64,
    /// Pages of the ranges before it.
    before: u64,
}

impl At {
    /// Reads it from the words of a restarted call, which may be anything.
    fn of(resume: &Resume) -> Result<At, Errno> {
        let index = u32::try_from(resume.next).map_err(|_| BAD_RESUME)?;
        let (pages, before) = (resume.done & 0xffff_ffff, resume.done >> 32);
        if before > MAX_PAGES {
            return Err(BAD_RESUME.into());
        }
        Ok(At { index, pages, before })
    }
}

/// Clears all mappings in the ranges of the list, flushes, and returns the count. A call that is
/// preempted flushes for what it cleared so far; the count so far is in the guest's structure, and
/// the CPUs that were flushed are in the arguments.
pub(super) fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    let mut resume = Resume::of(args);
    match shoot(vcpu, args[1], &mut resume) {
        Ok(true) => Outcome::Done(0),
        Ok(false) => resume.suspend(vcpu, args),
        Err(errno) => Outcome::Done(errno.as_result()),
    }
}

/// True when it is done; false if it was preempted.
fn shoot(vcpu: &mut Vcpu, argument: u64, resume: &mut Resume) -> Result<bool, Errno> {
    let pointer = GuestPtr::<Shootdown>::new(argument);
    let mut asked = pointer.read()?;
    if asked.nr_ranges > MAX_SHOOTDOWN_RANGES {
        return Err(TOO_MANY_RANGES.into());
    }
    let mut at = At::of(resume)?;
    let is_new = resume.next == 0 && resume.done == 0;
    if is_new {
        asked.cleared = 0;
    }
    let mut total = ShootdownProgress::new();
    let mut result = Ok(true);
    while at.index < asked.nr_ranges {
        result = one(vcpu, asked.ranges, &mut at, &mut total);
        if result != Ok(true) {
            break;
        }
        vcpu.work.charge(cost::ELEMENT);
        if at.index < asked.nr_ranges && vcpu.work.is_time_up() {
            result = Ok(false);
            break;
        }
    }
    let cleared = total.cleared;
    // Flush in any case: what was cleared must not be usable any more.
    let flushed = total.into_debt().pay(validator().platform());
    let flushed = flushed.union(CpuSet::from_bits(resume.more));
    asked.cleared = asked.cleared.wrapping_add(cleared);
    asked.flushed_cpus = flushed.len();
    let stats = &vcpu.domain.stats;
    stats.shootdown_cleared.add(cleared);
    if result != Ok(false) {
        stats.shootdowns.bump();
    }
    let done = result?;
    pointer.write(&asked)?;
    *resume =
        Resume { next: at.index.into(), done: at.pages | at.before << 32, more: flushed.bits() };
    Ok(done)
}

/// Clears the current range. True when it is done.
fn one(vcpu: &Vcpu, list: u64, at: &mut At, total: &mut ShootdownProgress) -> Result<bool, Errno> {
    let asked = GuestPtr::<Range>::new(list).read_at(at.index.into())?;
    let sum = at.before.checked_add(asked.pages).filter(|&sum| sum <= MAX_PAGES);
    let sum = sum.ok_or(TOO_MANY_PAGES)?;
    // The guest may have changed it since the restart: what it says now counts.
    let left = asked.pages.checked_sub(at.pages).ok_or(BAD_RESUME)?;
    let start = asked.start.wrapping_add(at.pages * 4096);
    let mut range = PageRange { start: Vaddr::new(start), pages: left };
    let (validator, id) = (validator(), vcpu.domain.id);
    loop {
        let step = vcpu.work.attempt(|budget| {
            validator.shootdown(id, vcpu.kernel_root.frame(), &mut range, budget, total)
        });
        match step {
            Ok(()) => {
                *at = At { index: at.index + 1, pages: 0, before: sum };
                return Ok(true);
            }
            Err(Error::Preempted) => {
                // The CPU that keeps a table busy may itself be waiting for this one.
                ipi::service_ipis();
                vcpu.work.charge(cost::ELEMENT);
                if vcpu.work.is_time_up() {
                    at.pages = asked.pages - range.pages;
                    return Ok(false);
                }
            }
            Err(Error::Refused(refusal)) => {
                report::refused(vcpu, &refusal);
                return Err(refusal.errno());
            }
        }
    }
}
