//! The shared info page of a new domain.

use crate::domain::shared_page::SharedPage;
use crate::time::{clock, wall_clock};
use pinfold_abi::shared_info::{LEGACY_VCPUS, SharedInfo, VcpuInfo, VcpuTimeInfo};
use zerocopy::IntoBytes;

/// Writes the initial shared info page: events are masked on every vCPU, and the clock's scale is never
/// updated later, because the TSC has a constant rate. System time 0 is the start of the hypervisor.
pub(super) fn fill_shared_info(page: SharedPage) {
    let (tsc_to_system_mul, tsc_shift) = clock::scale();
    let time = VcpuTimeInfo {
        version: 2,
        tsc_timestamp: clock::tsc_at_start(),
        system_time: 0,
        tsc_to_system_mul,
        tsc_shift,
        ..VcpuTimeInfo::default()
    };
    let info = VcpuInfo { evtchn_upcall_mask: 1, time, ..VcpuInfo::default() };
    for vcpu in 0..LEGACY_VCPUS {
        let offset = core::mem::offset_of!(SharedInfo, vcpu_info) + vcpu * size_of::<VcpuInfo>();
        page.write_bytes(offset, info.as_bytes());
    }
    let (seconds, nanoseconds) = wall_clock::at_start();
    let wall = [2, seconds as u32, nanoseconds, (seconds >> 32) as u32];
    let offset = core::mem::offset_of!(SharedInfo, wc_version);
    page.write_bytes(offset, wall.as_bytes());
}
