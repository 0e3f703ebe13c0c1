//! memory_op exchange: exchanges frames for others, in larger or smaller extents.

use super::memory_op::check_domain;
use super::outcome::{Outcome, create_continuation};
use crate::arch::ipi;
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::cost;
use crate::memory::frames::{self, Reserved};
use crate::memory::guest::GuestPtr;
use crate::memory::m2p;
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use pinfold_abi::errno::Errno;
use pinfold_abi::memory::Exchange;
use pinfold_validator::Mfn;

/// Largest extent on either side.
const MAX_ORDER: u32 = 9;

/// Frames of one round at most.
const ROUND: usize = 1 << MAX_ORDER;

/// Exchanges until all is done, something fails, or the call is preempted; `nr_exchanged` has the
/// progress, from which a restarted call continues. What was exchanged stays exchanged. A round
/// first allocates the frames that the guest is to get, so that it never gives its own for nothing.
pub fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    let pointer = GuestPtr::<Exchange>::new(args[1]);
    let (mut exchange, ins, outs) = match begin(vcpu, pointer) {
        Ok(begun) => begun,
        Err(errno) => return Outcome::Done(errno.as_result()),
    };
    let mut result = Ok(());
    let mut time_is_up = false;
    while exchange.nr_exchanged < exchange.input.nr_extents && result.is_ok() && !time_is_up {
        // Frames of both sides.
        vcpu.work
            .charge((2 * cost::PAGE).saturating_mul((ins << exchange.input.extent_order) as u32));
        result = round(vcpu, &exchange, ins, outs);
        if result.is_ok() {
            exchange.nr_exchanged += ins;
        }
        time_is_up = vcpu.work.is_time_up();
    }
    if let Err(errno) = pointer.write(&exchange) {
        return Outcome::Done(errno.as_result());
    }
    if result.is_ok() && exchange.nr_exchanged < exchange.input.nr_extents {
        return create_continuation(vcpu, *args);
    }
    result.into()
}

/// Reads and checks the structure; returns it, and how many extents of either side make a round.
fn begin(vcpu: &Vcpu, pointer: GuestPtr<Exchange>) -> Result<(Exchange, u64, u64), Errno> {
    let exchange = pointer.read()?;
    let (input, output) = (exchange.input, exchange.output);
    check_domain(vcpu, input.domid)?;
    check_domain(vcpu, output.domid)?;
    if input.extent_order > MAX_ORDER || output.extent_order > MAX_ORDER {
        return Err(Errno::EPERM);
    }
    // Both sides must have the same number of frames.
    let frames_in = input.nr_extents.checked_shl(input.extent_order).ok_or(Errno::EINVAL)?;
    let frames_out = output.nr_extents.checked_shl(output.extent_order).ok_or(Errno::EINVAL)?;
    let exact = frames_in >> input.extent_order == input.nr_extents
        && frames_out >> output.extent_order == output.nr_extents;
    if !exact || frames_in != frames_out || exchange.nr_exchanged > input.nr_extents {
        return Err(Errno::EINVAL);
    }
    let order = input.extent_order.max(output.extent_order);
    let (ins, outs) = (1u64 << (order - input.extent_order), 1u64 << (order - output.extent_order));
    if exchange.nr_exchanged % ins != 0 {
        return Err(Errno::EINVAL);
    }
    Ok((exchange, ins, outs))
}

fn round(vcpu: &Vcpu, exchange: &Exchange, ins: u64, outs: u64) -> Result<(), Errno> {
    let (input, output) = (exchange.input, exchange.output);
    let order = output.extent_order;
    // Those that aren't handed out are freed when they are dropped.
    let mut secured: ArrayVec<Reserved, ROUND> = ArrayVec::new();
    for _ in 0..outs {
        secured.push(frames::allocator().reserve(order).ok_or(Errno::ENOMEM)?);
    }
    let list_in = GuestPtr::<u64>::new(input.extent_start);
    let mut released = 0;
    let given =
        give_back(vcpu, list_in, exchange.nr_exchanged, ins, input.extent_order, &mut released);
    if let Err(errno) = given {
        vcpu.domain.pages.fetch_sub(released, Ordering::Relaxed);
        return Err(errno);
    }
    // From here on it gets as many as it gave, so the count of its frames doesn't change: if it went
    // down and up again, another vCPU could allocate in between, beyond the limit.
    let list_out = GuestPtr::<u64>::new(output.extent_start);
    let first_out = exchange.nr_exchanged / ins * outs;
    hand_out(vcpu, list_out, first_out, secured, order)
}

/// Releases frames of the domain; `released` counts them, also if it fails. The count of the domain's
/// frames is left alone.
fn give_back(
    vcpu: &Vcpu,
    list: GuestPtr<u64>,
    from: u64,
    count: u64,
    order: u32,
    released: &mut u64,
) -> Result<(), Errno> {
    for index in from..from + count {
        let first = list.read_at(index)?;
        for offset in 0..1u64 << order {
            ipi::service_ipis();
            let mfn = Mfn::new(first.checked_add(offset).ok_or(Errno::EINVAL)?);
            frames::release(mfn, vcpu.domain.id).map_err(|refusal| refusal.errno())?;
            *released += 1;
        }
    }
    Ok(())
}

/// Assigns the allocated frames to the domain: all of them, even if the guest's list can't be
/// written, as it gave as many.
fn hand_out(
    vcpu: &Vcpu,
    list: GuestPtr<u64>,
    from: u64,
    secured: ArrayVec<Reserved, ROUND>,
    order: u32,
) -> Result<(), Errno> {
    let mut result = Ok(());
    for (index, reserved) in (from..).zip(secured) {
        let first = reserved.assign(vcpu.domain.id);
        let told = list.read_at(index).and_then(|pfn| {
            for offset in 0..1u64 << order {
                let pfn = pfn.checked_add(offset).ok_or(Errno::EINVAL)?;
                let mfn = Mfn::new(first.get() + offset);
                // If another vCPU has released the frame already, its M2P entry is left alone.
                let _ = m2p::set_owned(vcpu.domain.id, mfn, pfn);
            }
            list.write_at(index, &first.get())
        });
        result = result.and(told);
    }
    result
}
