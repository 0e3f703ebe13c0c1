//! set_debugreg, get_debugreg.

use super::outcome::Outcome;
use crate::domain::debug_registers;
use crate::domain::vcpu::Vcpu;
use pinfold_abi::errno::Errno;
use pinfold_emulate::control::has_debug_extensions;

/// `set_debugreg(register, value)`.
pub fn set(vcpu: &mut Vcpu, register: u64, value: u64) -> Result<(), Errno> {
    let extensions = has_debug_extensions(vcpu.cr4);
    vcpu.debug.set(register, value, extensions)?;
    debug_registers::reload(vcpu);
    Ok(())
}

/// `get_debugreg(register)`: the value itself is the result.
pub fn get(vcpu: &Vcpu, register: u64) -> Outcome {
    let extensions = has_debug_extensions(vcpu.cr4);
    vcpu.debug.get(register, extensions).map(|value| value as i64).into()
}
