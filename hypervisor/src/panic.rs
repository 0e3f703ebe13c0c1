//! Panics of the hypervisor: message, registers and backtrace in the log, then the end of the machine.
//! `cargo xtask report` resolves the addresses to symbols.
#![expect(unsafe_code, reason = "walks the stack when nothing can be relied on")]

use crate::arch::{ipi, percpu, stack};
use crate::console::log::write_in_panic;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};
use pinfold_abi::record::{DumpFrame, Hex, LogRecord, PanicTrap, Who, kind};
use pinfold_abi::vcpu::CpuUserRegs;

/// Number of the first CPU that panicked, plus 1; 0: none has.
static PANICKING: AtomicUsize = AtomicUsize::new(0);

/// Claims the log for this CPU and halts the others. A second panic on the same CPU ends the machine at
/// once; on another CPU it halts that CPU, while the first one reports.
fn begin() {
    x86_64::instructions::interrupts::disable();
    // Before any CPU is online there is one, whose record may not exist yet.
    let own = if percpu::online().is_empty() { 1 } else { percpu::cpu_number() + 1 };
    match PANICKING.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) if percpu::online().is_empty() => {}
        Ok(_) => ipi::halt_others(),
        Err(first) if first == own => crate::machine::end(crate::machine::RunResult::Panic),
        Err(_) => loop {
            x86_64::instructions::hlt();
        },
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    begin();
    write_in_panic(Who::Hypervisor, kind::PANIC, format_args!("{info}"));
    backtrace(stack::frame_pointer());
    crate::machine::end(crate::machine::RunResult::Panic)
}

/// Panics because of an unexpected exception in ring 0.
pub fn on_unexpected_trap(regs: &CpuUserRegs, cr2: u64) -> ! {
    begin();
    let record = PanicTrap {
        trap: regs.vector,
        error: Hex(regs.error_code.into()),
        rip: Hex(regs.rip),
        rsp: Hex(regs.rsp),
        rflags: Hex(regs.rflags),
        cr2: Hex(cr2),
    };
    write_in_panic(Who::Hypervisor, PanicTrap::KIND, format_args!("{record}"));
    dump(regs, |line| write_in_panic(Who::Hypervisor, kind::DUMP, line));
    write_frame(0, regs.rip);
    backtrace(regs.rbp);
    crate::machine::end(crate::machine::RunResult::Panic)
}

/// Writes a return address.
fn write_frame(frame: u32, rip: u64) {
    let record = DumpFrame { frame, rip: Hex(rip) };
    write_in_panic(Who::Hypervisor, DumpFrame::KIND, format_args!("{record}"));
}

macro_rules! registers {
    ($regs:expr; $($name:ident)*) => {
        [$((stringify!($name), $regs.$name)),*]
    };
}

/// Passes the general registers to `line`, four at a time.
pub fn dump(regs: &CpuUserRegs, mut line: impl FnMut(core::fmt::Arguments<'_>)) {
    let all = registers!(regs; rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15);
    for four in all.as_chunks::<4>().0 {
        line(format_args!(
            "{}={:#x} {}={:#x} {}={:#x} {}={:#x}",
            four[0].0, four[0].1, four[1].0, four[1].1, four[2].0, four[2].1, four[3].0, four[3].1
        ));
    }
}

/// Logs the return addresses of at most 32 frames, following the frame pointers while they point to a
/// stack of the hypervisor.
fn backtrace(mut frame: u64) {
    for depth in 1..=32 {
        let on_stack = frame.is_multiple_of(8) && crate::arch::layout::is_stack(frame);
        if !on_stack {
            return;
        }
        // SAFETY: both words are on a stack of the hypervisor, which is mapped.
        let (next, rip) = unsafe { (*(frame as *const u64), *((frame + 8) as *const u64)) };
        write_frame(depth, rip);
        if next <= frame {
            return;
        }
        frame = next;
    }
}
