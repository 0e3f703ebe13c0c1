//! Crashes: what the log has of a guest that can't go on, and the end of its domain.

use crate::console::log::{record, write};
use crate::domain::exit::{Fatal, Next};
use crate::domain::shutdown_reason::ShutdownReason;
use crate::domain::vcpu::Vcpu;
use crate::memory::guest;
use pinfold_abi::record::kind;

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
    crate::panic::dump(regs, |line| {
        write(who, kind::DUMP, line);
    });
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

/// Ends the domain if what was done says so.
pub fn finish(vcpu: &mut Vcpu, result: Result<(), Fatal>) -> Next {
    match result {
        Ok(()) => Next::Continue,
        Err(Fatal(why)) => {
            crash(vcpu, why);
            Next::Yield
        }
    }
}

/// Ends the domain of the loaded vCPU, with a report.
pub fn crash(vcpu: &mut Vcpu, why: &'static str) {
    report_crash(vcpu, why);
    vcpu.domain.end(ShutdownReason::Crash(why));
}
