//! set_trap_table, set_callbacks.

use crate::domain::vcpu::{Handler, Vcpu};
use crate::memory::guest::{GuestPtr, is_guest_address};
use pinfold_abi::errno::Errno;
use pinfold_abi::trap::{TI_DPL, TI_MASK_EVENTS, TrapInfo};

/// Longest list: every vector once, and its end.
const MAX_ENTRIES: u64 = 257;

/// `set_trap_table(list)`: sets the handlers that the list names; null clears all.
pub fn set_trap_table(vcpu: &mut Vcpu, list: u64) -> Result<(), Errno> {
    let list = GuestPtr::<TrapInfo>::new(list);
    if list.is_null() {
        vcpu.traps = [Handler::default(); 256];
        return Ok(());
    }
    for index in 0..MAX_ENTRIES {
        let info = list.read_at(index)?;
        if info.address == 0 {
            return Ok(());
        }
        if !is_guest_address(info.address) {
            return Err(Errno::EINVAL);
        }
        vcpu.traps[usize::from(info.vector)] = Handler {
            address: info.address,
            dpl: info.flags & TI_DPL,
            masks_events: info.flags & TI_MASK_EVENTS != 0,
        };
    }
    // A list without an end could go on for ever.
    Err(Errno::E2BIG)
}

/// `set_callbacks(event, failsafe, syscall)`.
pub fn set_callbacks(
    vcpu: &mut Vcpu,
    event: u64,
    failsafe: u64,
    syscall: u64,
) -> Result<(), Errno> {
    if [event, failsafe, syscall].iter().any(|&address| !is_guest_address(address)) {
        return Err(Errno::EINVAL);
    }
    vcpu.callbacks.event = Handler { address: event, dpl: 0, masks_events: true };
    vcpu.callbacks.failsafe = Handler { address: failsafe, ..vcpu.callbacks.failsafe };
    vcpu.callbacks.syscall = Handler { address: syscall, ..vcpu.callbacks.syscall };
    Ok(())
}
