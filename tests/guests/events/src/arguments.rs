//! Bad pointers, in every call about events and time.

use pinfold_abi::errno::Errno::{EFAULT, EINVAL, ENOENT, ENOSYS};
use pinfold_abi::event as evtchn;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::layout::{HYPERVISOR_END, HYPERVISOR_START};
use pinfold_abi::{sched, vcpu};
use pinfold_guest::fixtures::{Check, Differs, in_ring3};
use pinfold_guest::hypercall::Errno;
use pinfold_guest::raw;

const NOWHERE: [u64; 7] = [
    0,
    0x1000,
    HYPERVISOR_START,
    HYPERVISOR_END - 2,
    0x0123_4567_89ab_cde0,
    0x0000_8000_0000_0000,
    u64::MAX - 1,
];

fn call(op: Hypercall, args: [u64; 5]) -> Result<u64, Errno> {
    // SAFETY: every call of this file is refused, or has no effect.
    raw::result(unsafe { raw::call(op as u64, args) })
}

pub(crate) fn run(check: &mut Check) {
    for at in NOWHERE {
        for command in (0..=10).filter(|&command| command != evtchn::EVTCHNOP_BIND_PIRQ) {
            let asked = call(Hypercall::EventChannelOp, [command, at, 0, 0, 0]);
            check.refused("event_channel_op", asked, EFAULT);
        }
        let vcpu = |command: u64| call(Hypercall::VcpuOp, [command, 0, at, 0, 0]);
        check.refused("runstate", vcpu(vcpu::VCPUOP_GET_RUNSTATE_INFO), EFAULT);
        check.refused("runstate area", vcpu(vcpu::VCPUOP_REGISTER_RUNSTATE_AREA), EFAULT);
        check.refused("periodic timer", vcpu(vcpu::VCPUOP_SET_PERIODIC_TIMER), EFAULT);
        check.refused("singleshot timer", vcpu(vcpu::VCPUOP_SET_SINGLESHOT_TIMER), EFAULT);
        check.refused("vcpu_info", vcpu(vcpu::VCPUOP_REGISTER_VCPU_INFO), EFAULT);
        check.refused("time area", vcpu(vcpu::VCPUOP_REGISTER_TIME_AREA), EFAULT);
        let first_state = vcpu(vcpu::VCPUOP_INITIALISE);
        check.refused("first state", first_state, EFAULT);
        let poll = call(Hypercall::SchedOp, [sched::SCHEDOP_POLL, at, 0, 0, 0]);
        check.refused("poll", poll, EFAULT);
        let list = sched::Poll { ports: at, nr_ports: 1, pad: 0, timeout: 1 };
        let poll = call(Hypercall::SchedOp, [sched::SCHEDOP_POLL, &raw const list as u64, 0, 0, 0]);
        check.refused("poll of a list", poll, EFAULT);
        for command in [0, 1] {
            let register = call(Hypercall::CallbackOp, [command, at, 0, 0, 0]);
            check.refused("callback_op", register, in_ring3(EFAULT));
        }
    }
    let vcpu = |command: u64, id: u64, arg: u64| call(Hypercall::VcpuOp, [command, id, arg, 0, 0]);
    for id in [1u64, 77, 1 << 16, 1 << 31, u64::from(u32::MAX)] {
        for command in 0..=13 {
            check.refused("an unknown vCPU", vcpu(command, id, 0x1000), ENOENT);
        }
    }
    check.refused("an unknown vcpu_op", vcpu(99, 0, 0), ENOSYS);
    check.differs(
        "the physical CPU of a vCPU",
        vcpu(vcpu::VCPUOP_GET_PHYSID, 0, 0x1000),
        Differs {
            xen: Some(EFAULT),
            pinfold: Some(EINVAL),
            why: "the first domain is pinned where there is one CPU",
        },
    );
}
