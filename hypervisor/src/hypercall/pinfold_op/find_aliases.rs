//! Every mapping of some frames, for the guest that owns them.

use crate::domain::vcpu::Vcpu;
use crate::hypercall::alias_upcall::encode;
use crate::memory::guest::GuestPtr;
use crate::memory::validator;
use core::ops::ControlFlow;
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::{FIND_TRUNCATED, FindAliases, MAX_FIND_FRAMES};
use pinfold_validator::{Bounds, Mfn, Which};

/// Entries and frame records that one call may read, over all its frames: tens of milliseconds.
const READS: u64 = 1 << 24;

/// Looks for the mappings of each frame in the list.
pub(super) fn run(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let pointer = GuestPtr::<FindAliases>::new(argument);
    let mut asked = pointer.read()?;
    if asked.nr_frames > MAX_FIND_FRAMES {
        return Err(Errno::E2BIG);
    }
    let (frames, out) = (GuestPtr::<u64>::new(asked.frames), GuestPtr::new(asked.mappings));
    let room = asked.nr_mappings;
    (asked.nr_mappings, asked.flags) = (0, 0);
    let reads = READS / u64::from(asked.nr_frames.max(1));
    for index in 0..asked.nr_frames {
        let frame = Mfn::new(frames.read_at(index.into())?);
        if validator().owner(frame) != Some(vcpu.domain.id) {
            return Err(Errno::EPERM);
        }
        let bounds = Bounds { mappings: room - asked.nr_mappings, reads };
        let mut failed = None;
        let end =
            validator().find_mappings(frame, vcpu.domain.id, Which::All, bounds, &mut |mapping| {
                // Who borrowed the frame keeps to himself where he maps it.
                if validator().owner(mapping.table) != Some(vcpu.domain.id) {
                    return ControlFlow::Continue(());
                }
                match out.write_at(asked.nr_mappings.into(), &encode(vcpu, frame, &mapping)) {
                    Ok(()) => {
                        asked.nr_mappings += 1;
                        ControlFlow::Continue(())
                    }
                    Err(errno) => {
                        failed = Some(errno);
                        ControlFlow::Break(())
                    }
                }
            });
        if let Some(errno) = failed {
            return Err(errno);
        }
        if end.cut_short {
            asked.flags |= FIND_TRUNCATED;
        }
    }
    pointer.write(&asked)
}
