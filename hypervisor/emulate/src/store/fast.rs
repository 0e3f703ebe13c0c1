//! x
use super::PteStore;
use pinfold_abi::vcpu::CpuUserRegs;
pub(super) fn decode(_bytes: &[u8], _regs: &CpuUserRegs) -> Option<PteStore> {
    None
}
