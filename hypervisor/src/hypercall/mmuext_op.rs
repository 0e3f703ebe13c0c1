//! mmuext_op: pins, roots, flushes, the LDT, clearing and copying pages.

use super::alias_upcall::{self, PinRefusal};
use super::continuation::{Attempt, run_list};
use super::descriptors;
use super::flush::{self, Target};
use super::outcome::Outcome;
use crate::diagnostics::report;
use crate::domain::element_stop::ElementStop;
use crate::domain::roots::{new_root, new_user_root};
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::cost;
use crate::memory;
use crate::memory::frame_refs::{ReadableRef, WritableRef};
use crate::memory::guest::GuestPtr;
use pinfold_abi::domid;
use pinfold_abi::errno::Errno;
use pinfold_abi::mmu::{MmuextCmd, MmuextOp};
use pinfold_validator::{Error, Level, Mfn};

/// `mmuext_op(ops, count, done*, foreigndom)`.
pub fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    let foreign = args[3] as u16;
    if foreign != domid::SELF && foreign != vcpu.domain.id.get() {
        let errno = match foreign {
            domid::IO | domid::XEN => Errno::EPERM,
            _ => Errno::ESRCH,
        };
        return Outcome::Done(errno.as_result());
    }
    run_list(vcpu, args, size_of::<MmuextOp>() as u64, |vcpu, address, attempt, budget| {
        let before = vcpu.work.spent();
        let result = one(vcpu, address, attempt);
        budget.charge(vcpu.work.spent().wrapping_sub(before) as usize);
        result
    })
}

fn one(vcpu: &mut Vcpu, address: u64, attempt: Attempt) -> Result<(), ElementStop> {
    let op = GuestPtr::<MmuextOp>::new(address).read()?;
    let mfn = Mfn::new(op.arg1);
    let command = MmuextCmd::from_repr(op.cmd).ok_or(Errno::ENOSYS)?;
    match command {
        MmuextCmd::PinL1Table => pin(vcpu, Level::L1, mfn, attempt),
        MmuextCmd::PinL2Table => pin(vcpu, Level::L2, mfn, attempt),
        MmuextCmd::PinL3Table => pin(vcpu, Level::L3, mfn, attempt),
        MmuextCmd::PinL4Table => pin(vcpu, Level::L4, mfn, attempt),
        MmuextCmd::UnpinTable => unpin(vcpu, mfn),
        MmuextCmd::NewBaseptr => new_root(vcpu, mfn),
        MmuextCmd::NewUserBaseptr => new_user_root(vcpu, op.arg1),
        MmuextCmd::TlbFlushLocal => Ok(flush::all(vcpu, &Target::Local)?),
        MmuextCmd::TlbFlushAll => Ok(flush::all(vcpu, &Target::All)?),
        MmuextCmd::TlbFlushMulti => Ok(flush::all(vcpu, &Target::Mask(op.arg2)).map_err(bad_mask)?),
        MmuextCmd::InvlpgLocal => Ok(flush::page(vcpu, &Target::Local, op.arg1)?),
        MmuextCmd::InvlpgAll => Ok(flush::page(vcpu, &Target::All, op.arg1)?),
        MmuextCmd::InvlpgMulti => {
            Ok(flush::page(vcpu, &Target::Mask(op.arg2), op.arg1).map_err(bad_mask)?)
        }
        // For domains with devices only, as on Xen. A change of a frame's memory type flushes the
        // caches for that frame, and no guest may flush all caches of the machine.
        MmuextCmd::FlushCache | MmuextCmd::FlushCacheGlobal => Err(Errno::EACCES.into()),
        // A count is an `unsigned int` in the ABI's union: Linux leaves garbage in the other
        // half.
        // In a hardware container the guest executes `lldt`.
        MmuextCmd::SetLdt if vcpu.container.is_some() => Err(Errno::ENOSYS.into()),
        MmuextCmd::SetLdt => Ok(descriptors::load_ldt(vcpu, op.arg1, u64::from(op.arg2 as u32))?),
        MmuextCmd::ClearPage => clear_page(vcpu, mfn),
        MmuextCmd::CopyPage => copy_page(vcpu, mfn, Mfn::new(op.arg2)),
        MmuextCmd::MarkSuper | MmuextCmd::UnmarkSuper => Err(Errno::EOPNOTSUPP.into()),
    }
}

/// EINVAL, not EFAULT, for a bitmap that can't be read, as on Xen 4.17 (measured).
fn bad_mask(_: Errno) -> Errno {
    Errno::EINVAL
}

fn pin(vcpu: &mut Vcpu, level: Level, mfn: Mfn, attempt: Attempt) -> Result<(), ElementStop> {
    let (validator, id) = (memory::validator(), vcpu.domain.id);
    match vcpu.work.attempt(|budget| validator.pin(id, level, mfn, budget)) {
        Ok(()) => {
            vcpu.domain.stats.pins.bump();
            alias_upcall::forget_search(vcpu, attempt);
            if attempt == Attempt::Retry {
                alias_upcall::pinned(vcpu, mfn);
            }
            Ok(())
        }
        Err(Error::Preempted) => Err(ElementStop::Preempted),
        Err(Error::Refused(refusal)) => {
            match alias_upcall::refused(vcpu, mfn, attempt, &refusal) {
                PinRefusal::Upcall => return Err(ElementStop::Upcall),
                PinRefusal::Preempted => return Err(ElementStop::Preempted),
                PinRefusal::Stands => {}
            }
            vcpu.domain.stats.pins_refused.bump();
            Err(refusal.into())
        }
    }
}

fn unpin(vcpu: &Vcpu, mfn: Mfn) -> Result<(), ElementStop> {
    let domain = &vcpu.domain;
    let unpinned = vcpu.work.attempt(|budget| memory::validator().unpin(domain.id, mfn, budget));
    unpinned.map_err(|stop| {
        report::stopped(vcpu, &stop);
        ElementStop::from(stop)
    })?;
    domain.stats.unpins.bump();
    Ok(())
}

fn clear_page(vcpu: &Vcpu, mfn: Mfn) -> Result<(), ElementStop> {
    WritableRef::get(vcpu.domain.id, mfn)
        .map_err(|refusal| ElementStop::refused(vcpu, &refusal))?
        .clear();
    vcpu.work.charge(cost::PAGE);
    vcpu.work.clear_retries();
    Ok(())
}

fn copy_page(vcpu: &Vcpu, to: Mfn, from: Mfn) -> Result<(), ElementStop> {
    let id = vcpu.domain.id;
    // Held meanwhile: another vCPU could give the frame back, and another domain get it.
    let from = ReadableRef::get(id, from).map_err(|refusal| {
        let busy = vcpu.work.may_retry(&refusal);
        if busy { ElementStop::Preempted } else { Errno::EINVAL.into() }
    })?;
    WritableRef::get(id, to)
        .map_err(|refusal| ElementStop::refused(vcpu, &refusal))?
        .copy_from(&from);
    vcpu.work.charge(cost::PAGE);
    vcpu.work.clear_retries();
    Ok(())
}
