//! Copies from and to frames of the caller's, or frames granted to it.

use super::elements::Preempted;
use crate::domain::vcpu::Vcpu;
use crate::grant::copy_operand::{CopyOperand, NotHeld};
use crate::memory::frame_refs::{Readable, Writable};
use pinfold_abi::grant::{COPY_DEST_REFERENCE, COPY_SOURCE_REFERENCE, Copy, Status};

/// Copies from one frame to another.
pub(super) fn copy(vcpu: &mut Vcpu, asked: &mut Copy) -> Result<(), Preempted> {
    asked.status = match copy_now(vcpu, asked) {
        Ok(()) => Status::Okay as i16,
        Err(NotHeld::Status(status)) => status as i16,
        Err(NotHeld::Busy(refusal)) if vcpu.work.may_retry(&refusal) => return Err(Preempted),
        Err(NotHeld::Busy(_)) => Status::BadPage as i16,
    };
    vcpu.work.clear_retries();
    Ok(())
}

fn copy_now(vcpu: &Vcpu, asked: &Copy) -> Result<(), NotHeld> {
    let bytes = usize::from(asked.len);
    let (from, to) = (usize::from(asked.source.offset), usize::from(asked.dest.offset));
    // No overflow: all are 16-bit numbers.
    if from + bytes > 4096 || to + bytes > 4096 {
        return Err(Status::BadCopyArgument.into());
    }
    let by = |flag| asked.flags & flag != 0;
    let source: CopyOperand<Readable> =
        CopyOperand::hold(&vcpu.domain, &asked.source, by(COPY_SOURCE_REFERENCE))?;
    let dest: CopyOperand<Writable> =
        CopyOperand::hold(&vcpu.domain, &asked.dest, by(COPY_DEST_REFERENCE))?;
    dest.frame.copy_bytes_from(to, &source.frame, from, bytes);
    Ok(())
}
