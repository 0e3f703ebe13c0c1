//! What this floor asks of the floors above it: functions that they define and the linker finds.
#![expect(unsafe_code, reason = "functions of the floors above, which the linker connects")]

use super::vcpu::Vcpu;
use pinfold_validator::Refusal;

unsafe extern "Rust" {
    /// Reports that an operation of the loaded vCPU was refused. Defined in `diagnostics::report`.
    pub safe fn pinfold_report_refusal(vcpu: &Vcpu, refusal: &Refusal);
}
