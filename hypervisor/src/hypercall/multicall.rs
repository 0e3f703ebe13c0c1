//! multicall: a list of calls in one entry.

use super::continuation::SHORT_ELEMENTS;
use super::dispatch::dispatch;
use super::outcome::{Outcome, create_continuation};
use crate::domain::vcpu::Args;
use crate::domain::vcpu::{Mode, Vcpu};
use crate::domain::work::cost;
use crate::memory::guest::GuestPtr;
use pinfold_abi::errno::Errno;
use pinfold_abi::hypercall::{Hypercall, MulticallEntry};

/// `multicall(list, count)`.
#[inline(never)]
pub fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    // The count is an unsigned int of the ABI.
    let (mut address, count) = (args[0], args[1] & 0xffff_ffff);
    for index in 0..count {
        // A pending search for the mappings of a report is done before the next call.
        if index != 0 && (vcpu.slot().reports.is_any() || vcpu.work.is_time_up()) {
            return create_continuation(vcpu, [address, count - index, args[2], args[3], args[4]]);
        }
        let pointer = GuestPtr::<MulticallEntry>::new(address);
        let Ok(mut entry) = pointer.read() else {
            return Outcome::Done(Errno::EFAULT.as_result());
        };
        let call_args = [entry.args[0], entry.args[1], entry.args[2], entry.args[3], entry.args[4]];
        vcpu.work.charge(cost::CALL);
        let outcome = match Hypercall::from_number(entry.op) {
            Some(call @ (Hypercall::MmuUpdate | Hypercall::MmuextOp)) => {
                let elements = call_args[1].min(SHORT_ELEMENTS) as u32;
                vcpu.work.charge(elements * cost::ELEMENT);
                dispatch(vcpu, call, &call_args)
            }
            Some(call) => dispatch(vcpu, call, &call_args),
            None => Outcome::Done(Errno::ENOSYS.as_result()),
        };
        let mut waits = false;
        match outcome {
            Outcome::Done(result) => {
                entry.result = result;
            }
            Outcome::Yield(result) => {
                entry.result = result;
                waits = true;
            }
            Outcome::Restart | Outcome::Upcall => {
                // The restarted multicall continues with this entry.
                entry.args[..5].copy_from_slice(&vcpu.resume);
                if pointer.write(&entry).is_err() {
                    return Outcome::Done(Errno::EFAULT.as_result());
                }
                vcpu.resume = [address, count - index, args[2], args[3], args[4]];
                return outcome;
            }
            // iret: the guest may be in user mode now, so the rest of the list is dropped (XSA-213).
            // The registers are those that iret set.
            Outcome::RegistersSet => return Outcome::RegistersSet,
            Outcome::Fatal(why) => return Outcome::Fatal(why),
        }
        debug_assert!(vcpu.mode == Mode::Kernel);
        if pointer.write(&entry).is_err() {
            let result = Errno::EFAULT.as_result();
            return if waits { Outcome::Yield(result) } else { Outcome::Done(result) };
        }
        address = address.wrapping_add(size_of::<MulticallEntry>() as u64);
        if waits {
            return match count - index - 1 {
                0 => Outcome::Yield(0),
                rest => create_continuation(vcpu, [address, rest, args[2], args[3], args[4]]),
            };
        }
    }
    Outcome::Done(0)
}
