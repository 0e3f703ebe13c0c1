//! `event_channel_op`: what each sub-operation answers.

use crate::signal;
use pinfold_abi::domid;
use pinfold_abi::errno::Errno::{EEXIST, EINVAL, ENOENT, ENOSPC, ENOSYS, EOPNOTSUPP, ESRCH};
use pinfold_abi::event::{
    self as abi, EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_EXPAND_ARRAY, EVTCHNOP_INIT_CONTROL,
    EVTCHNOP_RESET, EVTCHNOP_SET_PRIORITY, EVTCHNOP_STATUS,
};
use pinfold_abi::hypercall::Hypercall;
use pinfold_guest::entry::event;
use pinfold_guest::fixtures::{Check, Differs};
use pinfold_guest::hypercall::Errno;
use pinfold_guest::hypercall::event::{
    Kind, Port, Status, alloc_unbound, bind_interdomain, bind_ipi, bind_vcpu, bind_virq, close,
    reset, send, status, unmask,
};
use pinfold_guest::raw;
use pinfold_guest::shared::ports;

/// No domain has this number.
const NOBODY: u16 = 77;

/// Makes the call with any argument.
pub(crate) fn raw<T>(command: u64, argument: &mut T) -> Result<u64, Errno> {
    let args = [command, core::ptr::from_mut(argument) as u64, 0, 0, 0];
    // SAFETY: the hypervisor writes only to the argument.
    raw::result(unsafe { raw::call(Hypercall::EventChannelOp as u64, args) })
}

pub(crate) fn run(check: &mut Check) {
    unbound(check);
    loop_back(check);
    ipis(check);
    not_in_use(check);
    domains(check);
    fifo(check);
    exhaustion(check);
}

fn kind(port: Port) -> Option<Kind> {
    status(port).ok().map(|status| status.kind)
}

fn unbound(check: &mut Check) {
    let Some(port) = check.ok("alloc_unbound", alloc_unbound(domid::SELF)) else { return };
    check.holds("a port is never 0", port.0 != 0);
    let shown = status(port);
    check.holds(
        "an unbound port's status",
        matches!(shown, Ok(Status { kind: Kind::Unbound(_), vcpu: 0 })),
    );
    // The status names the domain by its number, never as DOMID_SELF.
    check.holds(
        "the status names a real domain",
        shown.is_ok_and(|s| s.kind != Kind::Unbound(domid::SELF)),
    );
    check.ok("send on an unbound port is lost", send(port));
    check.holds("it sets nothing pending", !event::is_pending(port));
    check.ok("bind_vcpu of an unbound port", bind_vcpu(port, 0));
    check.refused("bind_vcpu to an unknown vCPU", bind_vcpu(port, 1000), ENOENT);
    check.refused("bind_vcpu, both wrong", bind_vcpu(Port(abi::PORTS), 1000), ENOENT);
    check.ok("close", close(port));
    check.refused("close again", close(port), EINVAL);
    check.equal("a closed port's status", kind(port), Some(Kind::Closed));
    check.equal("the lowest free port is next", alloc_unbound(domid::SELF).ok(), Some(port));
    check.ok("close", close(port));
}

/// Connects two ports of one domain.
fn loop_back(check: &mut Check) {
    let Some(offer) = check.ok("alloc_unbound", alloc_unbound(domid::SELF)) else { return };
    let Some(end) = check.ok("bind to the own port", bind_interdomain(domid::SELF, offer)) else {
        return;
    };
    check.holds("a port of its own", end != offer);
    check.holds("a new connection starts with an event", event::clear_pending(end));
    check.holds("at this end only", !event::is_pending(offer));
    check.holds(
        "its status",
        matches!(kind(end), Some(Kind::Interdomain(dom, far)) if far == offer && dom != domid::SELF),
    );
    check.holds(
        "the other end's status",
        matches!(kind(offer), Some(Kind::Interdomain(_, far)) if far == end),
    );
    check.refused(
        "a bound port can't be bound again",
        bind_interdomain(domid::SELF, offer),
        EINVAL,
    );
    check.refused("nor the other end", bind_interdomain(domid::SELF, end), EINVAL);
    check.ok("send", send(offer));
    check.holds("it arrives at the other end", event::is_pending(end) && !event::is_pending(offer));
    check.ok("send again", send(offer));
    check.holds("as one event", event::clear_pending(end));
    check.ok("send back", send(end));
    check.holds("it arrives at the first end", event::clear_pending(offer));
    check.ok("bind_vcpu of a connected port", bind_vcpu(end, 0));
    check.ok("one end closes", close(end));
    check.holds("the other end is unbound again", matches!(kind(offer), Some(Kind::Unbound(_))));
    let again = check.ok("it can be bound again", bind_interdomain(domid::SELF, offer));
    check.ok("the offering end closes", close(offer));
    check.equal("it is closed", kind(offer), Some(Kind::Closed));
    if let Some(again) = again {
        event::clear_pending(again);
        check.holds("the bound end is unbound", matches!(kind(again), Some(Kind::Unbound(_))));
        check.ok("close", close(again));
    }
}

fn ipis(check: &mut Check) {
    let Some(port) = check.ok("bind_ipi", bind_ipi(0)) else { return };
    check.equal("its status", status(port).ok(), Some(Status { kind: Kind::Ipi, vcpu: 0 }));
    let second = check.ok("a vCPU can have several", bind_ipi(0));
    check.refused("bind_ipi of an unknown vCPU", bind_ipi(1000), ENOENT);
    check.refused("bind_ipi of the highest number", bind_ipi(u32::MAX), ENOENT);
    check.refused("an IPI port stays with its vCPU", bind_vcpu(port, 0), EINVAL);
    check.refused("it can't be connected", bind_interdomain(domid::SELF, port), EINVAL);
    check.ok("send", send(port));
    check.holds("the port itself becomes pending", event::clear_pending(port));
    for port in [Some(port), second].into_iter().flatten() {
        check.ok("close", close(port));
    }
}

/// Calls on ports that are not in use.
fn not_in_use(check: &mut Check) {
    for port in [0, abi::PORTS, abi::PORTS + 1, 1 << 16, 1 << 31, u32::MAX].map(Port) {
        check.refused("send", send(port), EINVAL);
        check.refused("close", close(port), EINVAL);
        check.refused("bind_interdomain", bind_interdomain(domid::SELF, port), EINVAL);
        check.refused("bind_vcpu", bind_vcpu(port, 0), EINVAL);
        if port.0 != 0 {
            // Port 0 exists, but is never in use.
            check.refused("status", status(port), EINVAL);
            check.refused("unmask", unmask(port), EINVAL);
        }
    }
    let closed = signal::bind_port();
    event::mask_port(closed);
    check.ok("send", send(closed));
    check.ok("close", close(closed));
    check.holds("closing clears the pending bit", !event::is_pending(closed));
    let masked = event::shared().is_some_and(|shared| ports::has(&shared.mask, closed.0));
    check.holds("it leaves the mask bit", masked);
    signal::clear_port(closed);
    check.refused("send on a closed port", send(closed), EINVAL);
    check.refused("bind to a closed port", bind_interdomain(domid::SELF, closed), EINVAL);
    check.refused("bind_vcpu of a closed port", bind_vcpu(closed, 0), EINVAL);
    check.ok("unmask of a closed port", unmask(closed));
    check.equal("port 0 is closed", kind(Port(0)), Some(Kind::Closed));
}

/// Names domains that don't exist.
fn domains(check: &mut Check) {
    let port = Port(1);
    check.refused("bind to a port of an unknown domain", bind_interdomain(NOBODY, port), ESRCH);
    check.refused("bind to a port of DOMID_INVALID", bind_interdomain(domid::INVALID, port), ESRCH);
    let mut unbound = abi::AllocUnbound { dom: NOBODY, remote_dom: domid::SELF, port: 0 };
    check.refused(
        "alloc_unbound for an unknown domain",
        raw(EVTCHNOP_ALLOC_UNBOUND, &mut unbound),
        ESRCH,
    );
    let offered = alloc_unbound(NOBODY);
    // Allowed: the domain may be created later.
    if let Some(port) = check.ok("alloc_unbound for another domain", offered) {
        check.equal("its status", kind(port), Some(Kind::Unbound(NOBODY)));
        check.refused("this domain can't bind to it", bind_interdomain(domid::SELF, port), EINVAL);
        check.ok("close", close(port));
    }
    let mut status = abi::Status { dom: NOBODY, port: 1, ..abi::Status::default() };
    check.refused("status of an unknown domain's port", raw(EVTCHNOP_STATUS, &mut status), ESRCH);
    let mut whose = abi::Reset { dom: NOBODY };
    check.refused("reset of an unknown domain", raw(EVTCHNOP_RESET, &mut whose), ESRCH);
}

/// The FIFO ABI, which is not offered.
fn fifo(check: &mut Check) {
    let mut argument = [u64::MAX; 4];
    let why = "Xen has the FIFO ABI, and checks the arguments";
    let differs = |xen| Differs { xen: Some(xen), pinfold: Some(ENOSYS), why };
    check.differs("init_control", raw(EVTCHNOP_INIT_CONTROL, &mut argument), differs(ENOENT));
    check.differs("expand_array", raw(EVTCHNOP_EXPAND_ARRAY, &mut argument), differs(EOPNOTSUPP));
    let port = signal::bind_port();
    let mut priority = [port.0, 3];
    check.refused("set_priority", raw(EVTCHNOP_SET_PRIORITY, &mut priority), ENOSYS);
    signal::close_port(port);
    // On Xen, sub-operation 14 continues a reset.
    for command in [15, 99, 1 << 31, u64::from(u32::MAX)] {
        check.refused("an unknown command", raw(command, &mut argument), ENOSYS);
    }
}

/// Binds all ports, and closes them by a reset.
fn exhaustion(check: &mut Check) {
    let mut taken = 0;
    let mut highest = 0;
    let end = loop {
        match bind_ipi(0) {
            Ok(port) => {
                taken += 1;
                highest = highest.max(port.0);
            }
            Err(errno) => break errno,
        }
        if taken > abi::PORTS {
            break Errno(0);
        }
    };
    check.refused("one port too many", Err::<(), _>(end), ENOSPC);
    check.refused("nor one of another kind", alloc_unbound(domid::SELF), ENOSPC);
    check.equal("the highest port is the highest of the shared page", highest, abi::PORTS - 1);
    // The first domain can bind all but port 0; a domain with console and store rings has a
    // port for each of those, too.
    let all = abi::PORTS - 1;
    check.holds("all free ports could be bound", taken == all || taken == all - 2);
    let Some(last) = event::shared().map(|_| Port(highest)) else { return };
    check.ok("send on the highest port", send(last));
    check.holds("it becomes pending", event::clear_pending(last));
    check.ok("reset", reset());
    check.equal("all are closed", kind(last), Some(Kind::Closed));
    check.refused("they can't be used", send(last), EINVAL);
    check.equal("the first one is free again", bind_virq(abi::VIRQ_DEBUG, 0).ok(), Some(Port(1)));
    check.refused("a second time", bind_virq(abi::VIRQ_DEBUG, 0), EEXIST);
    check.ok("reset again", reset());
    check.ok("nothing is bound", bind_virq(abi::VIRQ_DEBUG, 0));
    check.ok("reset at last", reset());
}
