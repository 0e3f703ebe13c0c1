//! Why and how a domain ends.

use super::{Domain, Tally};
use crate::console::input;
use crate::console::log::{record, write};
use crate::domain::vcpu::Vcpu;
use crate::memory::guest;
use pinfold_abi::record::kind;
use pinfold_abi::sched;

/// Why a domain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It said so, with a reason of the ABI.
    Shutdown(u32),
    /// It left the hypervisor no way to go on with it.
    Crash(&'static str),
}

/// Name of a shutdown reason.
fn reason_name(reason: u32) -> &'static str {
    match reason {
        sched::SHUTDOWN_POWEROFF => "poweroff",
        sched::SHUTDOWN_REBOOT => "reboot",
        sched::SHUTDOWN_SUSPEND => "suspend",
        sched::SHUTDOWN_CRASH => "crash",
        sched::SHUTDOWN_WATCHDOG => "watchdog",
        _ => "soft-reset",
    }
}

/// Writes the records of a crash: registers, and the top of the stack if it can be read. The
/// vCPU's address space must be loaded.
pub fn report_crash(vcpu: &Vcpu, why: &'static str) {
    let who = vcpu.who();
    let regs = &vcpu.file.regs;
    record!(
        who,
        CRASH,
        "name={:?} reason=\"{why}\" mode={} rip={:#x} vector={} error={:#x} cr2={:#x} cs={:#x} ss={:#x} rflags={:#x} cr3={:#x}",
        vcpu.domain.name,
        vcpu.mode.name(),
        regs.rip,
        regs.vector,
        regs.error_code,
        vcpu.last_fault_address,
        regs.cs,
        regs.ss,
        regs.rflags,
        vcpu.root().get() << 12
    );
    crate::panic::dump(regs, |line| write(who, kind::DUMP, line));
    for row in 0..4u64 {
        let at = regs.rsp.wrapping_add(row * 32);
        let mut words = [0u8; 32];
        if guest::read_bytes(&mut words, at).is_err() {
            record!(who, DUMP, "stack={at:#x} unreadable=yes");
            return;
        }
        let word = |i: usize| u64::from_le_bytes(words[i * 8..][..8].try_into().expect("8 bytes"));
        record!(
            who,
            DUMP,
            "stack={at:#x} words={:#018x},{:#018x},{:#018x},{:#018x}",
            word(0),
            word(1),
            word(2),
            word(3)
        );
    }
}

/// Counts an ended domain and says how it ended.
pub fn close(domain: &Domain, tally: &mut Tally) {
    domain.console.lock().close();
    input::ended(domain.id);
    let dropped = domain.log_limit.dropped();
    if dropped != 0 {
        record!(domain.who(), DROPPED, "records={dropped}");
    }
    tally.aliases += domain.stats.aliases.get();
    match domain.ending.get() {
        Some(Ending::Shutdown(reason)) => {
            let good = matches!(*reason, sched::SHUTDOWN_POWEROFF | sched::SHUTDOWN_REBOOT);
            if good {
                tally.ok += 1;
            } else {
                tally.failed += 1;
            }
            record!(
                domain.who(),
                SHUTDOWN,
                "name={:?} reason={} pins={} refused={} aliases={}",
                domain.name,
                reason_name(*reason),
                domain.stats.pins.get(),
                domain.stats.pins_refused.get(),
                domain.stats.aliases.get()
            );
        }
        _ => tally.crashed += 1,
    }
}
