//! memory_op exchange: frames for other frames, larger or smaller in one piece.

use super::memory_op::{check_domain, take_extent};
use crate::domain::vcpu::Vcpu;
use crate::memory::guest::GuestPtr;
use crate::memory::{frames, m2p};
use core::sync::atomic::Ordering;
use pinfold_abi::errno::Errno;
use pinfold_abi::memory::Exchange;
use pinfold_validator::{Mfn, Pfn};

/// Largest extent on either side.
const MAX_ORDER: u32 = 9;

/// Exchanges until all is done or something fails; `nr_exchanged` says how far it came. What was
/// exchanged stays exchanged, and no frame is lost: each round first gives back all its frames.
pub fn run(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let pointer = GuestPtr::<Exchange>::new(argument);
    let mut exchange = pointer.read()?;
    let (input, output) = (exchange.input, exchange.output);
    check_domain(vcpu, input.domid)?;
    check_domain(vcpu, output.domid)?;
    if input.extent_order > MAX_ORDER || output.extent_order > MAX_ORDER {
        return Err(Errno::EPERM);
    }
    // Both sides must come to the same number of frames.
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
    let (list_in, list_out) =
        (GuestPtr::<u64>::new(input.extent_start), GuestPtr::<u64>::new(output.extent_start));
    let mut result = Ok(());
    while exchange.nr_exchanged < input.nr_extents && result.is_ok() {
        let round = exchange.nr_exchanged / ins;
        result = give_back(vcpu, list_in, exchange.nr_exchanged, ins, input.extent_order)
            .and_then(|()| take(vcpu, list_out, round * outs, outs, output.extent_order));
        if result.is_ok() {
            exchange.nr_exchanged += ins;
        }
    }
    pointer.write(&exchange)?;
    result
}

fn give_back(
    vcpu: &Vcpu,
    list: GuestPtr<u64>,
    from: u64,
    count: u64,
    order: u32,
) -> Result<(), Errno> {
    for index in from..from + count {
        let first = list.read_at(index)?;
        for offset in 0..1u64 << order {
            let mfn = Mfn::new(first.checked_add(offset).ok_or(Errno::EINVAL)?);
            frames::release(mfn, vcpu.domain.id).map_err(|refusal| refusal.errno())?;
            vcpu.domain.pages.fetch_sub(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn take(vcpu: &Vcpu, list: GuestPtr<u64>, from: u64, count: u64, order: u32) -> Result<(), Errno> {
    for index in from..from + count {
        let pfn = list.read_at(index)?;
        let first = take_extent(vcpu, order)?;
        for offset in 0..1u64 << order {
            let pfn = pfn.checked_add(offset).ok_or(Errno::EINVAL)?;
            m2p::set(Mfn::new(first.get() + offset), Some(Pfn::new(pfn)));
        }
        list.write_at(index, &first.get())?;
    }
    Ok(())
}
