//! vm_assist: switches of the ABI.

use crate::domain::vcpu::Vcpu;
use pinfold_abi::errno::Errno;
use pinfold_abi::mmu::*;

/// `vm_assist(command, type)`.
pub fn run(vcpu: &Vcpu, command: u64, kind: u64) -> Result<(), Errno> {
    // The type is an unsigned int of the ABI.
    let kind = kind & 0xffff_ffff;
    // 0, 1 and 3 are for 32-bit guests: known, without effect.
    let known = matches!(
        kind,
        0 | 1
            | 3
            | VMASST_TYPE_WRITABLE_PAGETABLES
            | VMASST_TYPE_ARCHITECTURAL_IOPL
            | VMASST_TYPE_RUNSTATE_UPDATE_FLAG
            | VMASST_TYPE_M2P_STRICT
    );
    if !known {
        return Err(Errno::EINVAL);
    }
    match command {
        VMASST_CMD_ENABLE => vcpu.domain.assists.set(kind, true),
        VMASST_CMD_DISABLE => vcpu.domain.assists.set(kind, false),
        _ => return Err(Errno::ENOSYS),
    };
    if vcpu.container.is_some() {
        // Their containers must follow (`domain::container::refresh`).
        for slot in &vcpu.domain.slots {
            slot.kick();
        }
    }
    Ok(())
}
