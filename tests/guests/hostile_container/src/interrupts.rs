//! Exceptions, software interrupts and halts, many of them.

use crate::attempt::{GP, raises, stopped_by};
use core::arch::asm;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::entry::trap::{TrapFrame, set_handler};
use pinfold_guest::entry::{event, percpu, time};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::event::{bind_ipi, close, send};
use pinfold_guest::hypercall::vcpu;

const MS: u64 = 1_000_000;
const STORM: u64 = 20_000;

static COUNT: AtomicU64 = AtomicU64::new(0);

fn count(_frame: &mut TrapFrame) -> bool {
    COUNT.fetch_add(1, SeqCst);
    true
}

pub(crate) fn run(check: &mut Check) {
    storms(check);
    software_interrupts(check);
    single_steps(check);
    halts(check);
}

fn storms(check: &mut Check) {
    for vector in [1, 3] {
        set_handler(vector, Some(count));
    }
    COUNT.store(0, SeqCst);
    for _ in 0..STORM {
        // SAFETY: the handler returns.
        unsafe { asm!("int3") };
    }
    check.equal("int3", COUNT.swap(0, SeqCst), STORM);
    // It exits, as every debug exception does.
    // SAFETY: it is stopped.
    let first = stopped_by(|| unsafe { asm!(".byte 0xf1") }).map(|trap| trap.vector);
    // QEMU's translator doesn't have the instruction.
    check.holds("int1", matches!(first, Some(1 | 6)));
    if first == Some(1) {
        for _ in 0..STORM {
            // SAFETY: the handler returns.
            unsafe { asm!(".byte 0xf1") };
        }
        check.equal("many int1", COUNT.swap(0, SeqCst), STORM);
    }
    for vector in [1, 3] {
        set_handler(vector, None);
    }
    let mut wrong = 0;
    for _ in 0..STORM {
        // SAFETY: it is stopped.
        let trap = stopped_by(|| unsafe { asm!("ud2") });
        wrong += u32::from(trap.map(|trap| trap.vector) != Some(6));
    }
    check.equal("ud2", wrong, 0);
}

/// The IDT ends behind the vector of events.
fn software_interrupts(check: &mut Check) {
    let mut outside = |what: &str, vector: u64, code: fn()| {
        let seen = stopped_by(code).map(|trap| (trap.vector, trap.error));
        // The vector is bits 3 to 10 of the error code (AMD APM vol. 2, 8.4.1); in 64-bit mode QEMU
        // has it one bit higher.
        let errors = [vector << 3 | 2, vector << 4 | 2];
        check.holds(what, errors.iter().any(|&error| seen == Some((GP, error))));
    };
    // SAFETY: it is stopped.
    outside("int 0x21", 0x21, || unsafe { asm!("int 0x21") });
    // SAFETY: as above.
    outside("int 0x80", 0x80, || unsafe { asm!("int 0x80") });
    // SAFETY: as above.
    outside("int 0xff", 0xff, || unsafe { asm!("int 0xff") });
    // SAFETY: an upcall that finds nothing.
    raises_nothing(check, "the upcall's vector", || unsafe { asm!("int 0x20") });
}

fn raises_nothing(check: &mut Check, what: &str, code: fn()) {
    check.equal(what, stopped_by(code).map(|trap| trap.vector), None);
}

/// Single steps over instructions that the hypervisor executes: the exception comes behind them.
fn single_steps(check: &mut Check) {
    macro_rules! step {
        ($what:literal, $code:literal) => {
            let mut behind = 0u64;
            let trap = stopped_by(|| {
                // SAFETY: it is stopped behind the instruction.
                unsafe {
                    asm!(
                        "push rbx",
                        "lea {behind}, [rip + 2f]",
                        "mov [{place}], {behind}",
                        "xor eax, eax",
                        "xor ecx, ecx",
                        "pushfq",
                        "or qword ptr [rsp], 0x100",
                        "popfq",
                        $code,
                        "2:",
                        "nop",
                        "pushfq",
                        "and qword ptr [rsp], ~0x100",
                        "popfq",
                        "pop rbx",
                        behind = out(reg) _,
                        place = in(reg) &raw mut behind,
                        out("rax") _, out("rcx") _, out("rdx") _, out("rdi") _, out("rsi") _,
                        out("r8") _, out("r10") _, out("r11") _,
                    );
                }
            });
            check.equal($what, trap.map(|trap| (trap.vector, trap.rip)), Some((1, behind)));
        };
    }
    step!("a single step over a nop", "nop");
    step!("a single step over cpuid", "cpuid");
    step!("a single step over clts", "clts");
    step!("a single step over wbinvd", "wbinvd");
}

fn halts(check: &mut Check) {
    fn nothing(_port: pinfold_guest::hypercall::event::Port) {}
    let Some(port) = check.ok("a port", bind_ipi(0)) else { return };
    event::handle(port, percpu::this(), nothing);
    let upcalls = || percpu::this().upcalls();
    event::mask();
    let before = upcalls();
    check.ok("send", send(port));
    // SAFETY: the event is pending: the upcall comes behind `hlt`.
    unsafe { asm!("sti", "hlt") };
    check.equal("hlt with a pending event", upcalls() - before, 1);
    event::mask();
    check.ok("a timer", vcpu::set_singleshot_timer(0, time::raw() + 5 * MS, 0));
    let Some(timer) = check.ok("VIRQ_TIMER", time::bind_timer(nothing)) else { return };
    let begin = time::raw();
    // SAFETY: the timer ends it.
    unsafe { asm!("sti", "hlt") };
    check.holds("hlt until the timer", upcalls() - before >= 2);
    check.within("it took its time", time::raw() - begin, 0..=5_000 * MS);
    event::mask();
    check.ok("send", send(port));
    let before = upcalls();
    // With interrupts disabled, a pending event ends the halt and isn't delivered, or the vCPU waits for
    // ever (`mode=halt`): only an event that is pending already is tried here.
    for _ in 0..1000 {
        core::hint::spin_loop();
    }
    check.equal("nothing comes while interrupts are disabled", upcalls(), before);
    event::unmask();
    check.equal("it comes when they are enabled", upcalls(), before + 1);
    event::mask();
    for port in [port, timer] {
        check.ok("close", close(port));
        event::forget(port, percpu::this());
    }
    // SAFETY: it is stopped, as nothing is mapped at the address.
    raises(check, "a trap still works", 14, || unsafe {
        asm!("mov rax, [0x1000]", out("rax") _);
    });
}
