//! What this floor asks of the floors above it: functions that they define and the linker finds.

use super::vcpu::Vcpu;
use pinfold_validator::Refusal;

unsafe extern "Rust" {
    /// Reports that an operation of the loaded vCPU was refused. Defined in `diagnostics::report`.
    pub safe fn pinfold_report_refusal(vcpu: &Vcpu, refusal: &Refusal);
}
