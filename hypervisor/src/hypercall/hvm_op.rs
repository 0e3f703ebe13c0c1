//! hvm_op: the vector of event upcalls, for kernels in a hardware container.

use crate::domain::vcpu::Vcpu;
use crate::memory::guest::GuestPtr;
use pinfold_abi::errno::Errno;
use pinfold_abi::hvm::{EvtchnUpcallVector, FIRST_UPCALL_VECTOR, HVMOP_SET_EVTCHN_UPCALL_VECTOR};

/// `hvm_op(command, argument)`.
pub fn run(vcpu: &Vcpu, command: u64, argument: u64) -> Result<(), Errno> {
    if vcpu.container.is_none() || command != HVMOP_SET_EVTCHN_UPCALL_VECTOR {
        return Err(Errno::ENOSYS);
    }
    let asked = GuestPtr::<EvtchnUpcallVector>::new(argument).read()?;
    let slot = vcpu.domain.slots.get(asked.vcpu as usize).ok_or(Errno::ENOENT)?;
    if asked.vector < FIRST_UPCALL_VECTOR {
        return Err(Errno::EINVAL);
    }
    slot.set_upcall_vector(asked.vector);
    Ok(())
}
