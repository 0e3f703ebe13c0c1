//! set_trap_table, set_callbacks, callback_op.

use crate::domain::vcpu::{Handler, Vcpu};
use crate::memory::guest::{GuestPtr, is_guest_address};
use pinfold_abi::errno::Errno;
use pinfold_abi::trap::*;

/// Entries of a list at most: every vector once, and the terminator.
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
    // The list has no terminator.
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

/// `callback_op(command, argument)`.
#[inline(never)]
pub fn run(vcpu: &mut Vcpu, command: u64, argument: u64) -> Result<(), Errno> {
    match command {
        CALLBACKOP_REGISTER => {
            let asked = GuestPtr::<CallbackRegister>::new(argument).read()?;
            register(vcpu, asked)
        }
        CALLBACKOP_UNREGISTER => {
            let asked = GuestPtr::<CallbackUnregister>::new(argument).read()?;
            unregister(vcpu, asked.kind)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn register(vcpu: &mut Vcpu, asked: CallbackRegister) -> Result<(), Errno> {
    if !is_guest_address(asked.address) {
        return Err(Errno::EINVAL);
    }
    let masks_events = asked.flags & CALLBACKF_MASK_EVENTS != 0;
    let handler = Handler { address: asked.address, dpl: 0, masks_events };
    let callbacks = &mut vcpu.callbacks;
    match asked.kind {
        // The event callback always masks events.
        CALLBACKTYPE_EVENT => callbacks.event = Handler { masks_events: true, ..handler },
        CALLBACKTYPE_FAILSAFE => callbacks.failsafe = handler,
        CALLBACKTYPE_SYSCALL => callbacks.syscall = handler,
        CALLBACKTYPE_SYSCALL32 => callbacks.syscall32 = handler,
        CALLBACKTYPE_SYSENTER => callbacks.sysenter = handler,
        CALLBACKTYPE_NMI => callbacks.nmi = Handler { masks_events: true, ..handler },
        _ => return Err(Errno::ENOSYS),
    }
    Ok(())
}

/// Only the NMI callback can be unregistered, as on Xen.
fn unregister(vcpu: &mut Vcpu, kind: u16) -> Result<(), Errno> {
    match kind {
        CALLBACKTYPE_EVENT
        | CALLBACKTYPE_FAILSAFE
        | CALLBACKTYPE_SYSCALL
        | CALLBACKTYPE_SYSCALL32
        | CALLBACKTYPE_SYSENTER => Err(Errno::EINVAL),
        CALLBACKTYPE_NMI => {
            vcpu.callbacks.nmi = Handler::default();
            Ok(())
        }
        _ => Err(Errno::ENOSYS),
    }
}
