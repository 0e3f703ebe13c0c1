//! Virtual interrupts.

use pinfold_abi::domid;
use pinfold_abi::errno::Errno::{EEXIST, EINVAL, ENOENT};
use pinfold_abi::event::{NR_VIRQS, VIRQ_CONSOLE, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENPMU};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::event::{
    Kind, Status, bind_interdomain, bind_vcpu, bind_virq, close, send, status,
};

pub(crate) fn run(check: &mut Check) {
    for virq in [VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENPMU] {
        let Some(port) = check.ok("bind_virq", bind_virq(virq, 0)) else { continue };
        let kind = Kind::Virq(virq);
        check.equal("its status", status(port).ok(), Some(Status { kind, vcpu: 0 }));
        check.refused("bound already", bind_virq(virq, 0), EEXIST);
        check.refused("send", send(port), EINVAL);
        check.refused("it can't be connected", bind_interdomain(domid::SELF, port), EINVAL);
        check.refused("it can't be moved to another vCPU", bind_vcpu(port, 0), EINVAL);
        check.ok("close", close(port));
        let Some(port) = check.ok("bind_virq again", bind_virq(virq, 0)) else { continue };
        check.ok("close", close(port));
    }
    for virq in [NR_VIRQS, 99, 1 << 31, u32::MAX] {
        check.refused("an unknown VIRQ", bind_virq(virq, 0), EINVAL);
    }
    check.refused("an unknown vCPU", bind_virq(VIRQ_TIMER, 1000), ENOENT);
    check.refused("the highest number", bind_virq(VIRQ_TIMER, u32::MAX), ENOENT);
    // A global VIRQ belongs to the domain: it is bound on vCPU 0, and can be moved.
    check.refused("a global VIRQ on another vCPU", bind_virq(VIRQ_CONSOLE, 1), EINVAL);
    if let Some(port) = check.ok("a global VIRQ", bind_virq(VIRQ_CONSOLE, 0)) {
        check.ok("it can be moved", bind_vcpu(port, 0));
        check.refused("but not to an unknown vCPU", bind_vcpu(port, 1000), ENOENT);
        check.ok("close", close(port));
    }
}
