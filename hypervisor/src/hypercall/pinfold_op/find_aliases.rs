//! Lists every mapping of some frames, for the guest that owns them.

use super::resume::Resume;
use crate::arch::ipi;
use crate::domain::alias_search::FindProgress;
use crate::domain::alias_upcall::encode;
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::cost;
use crate::hypercall::outcome::Outcome;
use crate::memory::guest::GuestPtr;
use crate::memory::validator;
use core::ops::ControlFlow;
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::refusals::{BAD_RESUME, NOT_OWN_FRAME, TOO_MANY_FRAMES};
use pinfold_abi::pinfold::{FIND_TRUNCATED, FindAliases, MAX_FIND_FRAMES, Mapping};
use pinfold_validator::{MappingFilter, Mfn, SearchLimits};

/// Entries and frame records that one call may read, for all its frames, with all its restarts.
const READS: u64 = 1 << 24;

/// Looks for the mappings of each frame in the list.
///
/// A restarted call continues with the frame and the number of mappings that its arguments name. The
/// progress within the frame is kept in the vCPU; if another search has replaced it, the frame is
/// searched from the beginning.
pub(super) fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    let mut resume = Resume::of(args);
    match find(vcpu, args[1], &mut resume) {
        Ok(true) => Outcome::Done(0),
        Ok(false) => resume.suspend(vcpu, args),
        Err(errno) => Outcome::Done(errno.as_result()),
    }
}

/// True when it is done; false if it was preempted.
fn find(vcpu: &mut Vcpu, argument: u64, resume: &mut Resume) -> Result<bool, Errno> {
    let pointer = GuestPtr::<FindAliases>::new(argument);
    let mut asked = pointer.read()?;
    if asked.nr_frames > MAX_FIND_FRAMES {
        return Err(TOO_MANY_FRAMES.into());
    }
    let frames = GuestPtr::<u64>::new(asked.frames);
    let room = asked.nr_mappings;
    let bounds = |written: u32| SearchLimits {
        mappings: room.saturating_sub(written),
        reads: READS / u64::from(asked.nr_frames.max(1)),
    };
    let suspended = vcpu.find.take();
    let first = u32::try_from(resume.next).map_err(|_| BAD_RESUME)?;
    let (mut written, mut flags) = (resume.done as u32, (resume.done >> 32) as u32);
    if written > room || flags & !FIND_TRUNCATED != 0 {
        return Err(BAD_RESUME.into());
    }
    for index in first..asked.nr_frames {
        let frame = Mfn::new(frames.read_at(index.into())?);
        if validator().owner(frame) != Some(vcpu.domain.id) {
            return Err(NOT_OWN_FRAME.into());
        }
        (resume.next, resume.done) = (index.into(), u64::from(written) | u64::from(flags) << 32);
        let known = suspended.as_ref().filter(|one| one.index == index && one.frame == frame);
        let mut progress = match known {
            Some(one) if index == first && one.written <= room => {
                FindProgress { search: one.search.clone(), ..*one }
            }
            _ => {
                let search = validator().begin_search(
                    frame,
                    vcpu.domain.id,
                    MappingFilter::All,
                    bounds(written),
                );
                FindProgress { frame, index, search, written, flags }
            }
        };
        vcpu.work.charge(cost::ELEMENT);
        while !step(vcpu, &mut progress, asked.mappings)? {
            ipi::service_ipis();
            if vcpu.work.is_time_up() {
                vcpu.find = Some(progress);
                return Ok(false);
            }
        }
        (written, flags) = (progress.written, progress.flags);
        if index + 1 < asked.nr_frames && vcpu.work.is_time_up() {
            resume.next = (index + 1).into();
            resume.done = u64::from(written) | u64::from(flags) << 32;
            return Ok(false);
        }
    }
    (asked.nr_mappings, asked.flags) = (written, flags);
    pointer.write(&asked)?;
    Ok(true)
}

/// Continues the search for one frame. True at its end.
fn step(vcpu: &Vcpu, progress: &mut FindProgress, out: u64) -> Result<bool, Errno> {
    let out = GuestPtr::<Mapping>::new(out);
    let FindProgress { frame, search, written, flags, .. } = progress;
    let mut failed = None;
    let end = vcpu.work.attempt(|budget| {
        validator().search(search, budget, &mut |mapping| {
            // Where another domain maps the frame is not this guest's business.
            if validator().owner(mapping.table) != Some(vcpu.domain.id) {
                return ControlFlow::Continue(());
            }
            match out.write_at((*written).into(), &encode(vcpu, *frame, &mapping)) {
                Ok(()) => {
                    *written += 1;
                    ControlFlow::Continue(())
                }
                Err(errno) => {
                    failed = Some(errno);
                    ControlFlow::Break(())
                }
            }
        })
    });
    if let Some(errno) = failed {
        return Err(errno);
    }
    if end.is_some_and(|end| end.cut_short) {
        *flags |= FIND_TRUNCATED;
    }
    Ok(end.is_some())
}
