//! Crashes of guests: logs the state of a vCPU that can't be resumed, and ends its domain.

use crate::console::log::{write, write_record};
use crate::domain::exit::{Fatal, Next};
use crate::domain::shutdown_reason::ShutdownReason;
use crate::domain::vcpu::Vcpu;
use crate::memory::guest;
use pinfold_abi::record::{Crash, DumpStack, DumpUnreadable, Hex, Hex16, Text, YesNo, kind};

/// Writes the records of a crash: registers, and the top of the stack if it can be read. The
/// vCPU's address space must be loaded.
pub fn report_crash(vcpu: &mut Vcpu, why: &'static str) {
    let who = vcpu.who();
    if let Vcpu { container: Some(guest), file, .. } = vcpu {
        guest.save_selectors(&mut file.regs);
    }
    let regs = &vcpu.file.regs;
    let record = Crash {
        name: Text::Str(&vcpu.domain.name),
        reason: Text::Str(why),
        mode: vcpu.mode.name(),
        rip: Hex(regs.rip),
        vector: regs.vector,
        error: Hex(regs.error_code.into()),
        cr2: Hex(vcpu.last_fault_address),
        cs: Hex(regs.cs.into()),
        ss: Hex(regs.ss.into()),
        rflags: Hex(regs.rflags),
        cr3: Hex(vcpu.root().frame().address()),
    };
    write_record(who, &record);
    crate::panic::dump(regs, |line| {
        write(who, kind::DUMP, line);
    });
    for row in 0..4u64 {
        let at = regs.rsp.wrapping_add(row * 32);
        let mut words = [0u8; 32];
        if guest::read_bytes(&mut words, at).is_err() {
            let record = DumpUnreadable { stack: Hex(at), unreadable: YesNo(true) };
            write_record(who, &record);
            return;
        }
        let word = |i: usize| u64::from_le_bytes(words[i * 8..][..8].try_into().expect("8 bytes"));
        let words = [0, 1, 2, 3].map(|at| Hex16(word(at)));
        write(who, kind::DUMP, format_args!("{}", DumpStack { stack: Hex(at), words }));
    }
}

/// Crashes the domain of the loaded vCPU if a result says so.
pub fn finish(vcpu: &mut Vcpu, result: Result<(), Fatal>) -> Next {
    match result {
        Ok(()) => Next::Continue,
        Err(Fatal(why)) => {
            crash(vcpu, why);
            Next::Yield
        }
    }
}

/// Crashes the domain of the loaded vCPU, and logs its state.
pub fn crash(vcpu: &mut Vcpu, why: &'static str) {
    report_crash(vcpu, why);
    vcpu.domain.end(ShutdownReason::Crash(why));
}
