//! Events that are delivered while user mode runs.

use crate::signal::Counter;
use pinfold_guest::entry::{event, percpu, time, user};
use pinfold_guest::fixtures::{Check, TableFixture, UserProgram};
use pinfold_guest::hypercall::event::{Port, close};
use pinfold_guest::hypercall::vcpu;
use pinfold_guest::println;

const MS: u64 = 1_000_000;
/// Iterations of the loop: some hundred milliseconds under TCG.
const ROUNDS: u32 = 60_000_000;

static TICKS: Counter = Counter::new();

fn tick(_port: Port) {
    TICKS.add();
}

// Counts up and down with registers and a flag in use, checks them all, and exits with 7 if they
// are right, else with 8. It is copied to where it runs.
core::arch::global_asm!(
    ".pushsection .rodata.program, \"a\"",
    "events_program:",
    "mov ecx, {rounds}",
    "xor ebx, ebx",
    "mov r11d, 0x04030201",
    "mov r15d, 0x08070605",
    "mov rbp, rsp",
    "stc",
    "2:",
    "lea rbx, [rbx + 1]",
    "lea rcx, [rcx - 1]",
    "jrcxz 3f",
    "jmp 2b",
    "3:",
    "jnc 4f",
    "cmp ebx, {rounds}",
    "jne 4f",
    "cmp r11d, 0x04030201",
    "jne 4f",
    "cmp r15d, 0x08070605",
    "jne 4f",
    "cmp rbp, rsp",
    "jne 4f",
    "mov edi, 7",
    "mov eax, {exit}",
    "syscall",
    "4:",
    "mov edi, 8",
    "mov eax, {exit}",
    "syscall",
    "events_program_end:",
    ".popsection",
    rounds = const ROUNDS,
    exit = const user::SYS_EXIT,
);

unsafe extern "C" {
    #[link_name = "events_program"]
    safe static PROGRAM: u8;
    #[link_name = "events_program_end"]
    safe static PROGRAM_END: u8;
}

fn code() -> &'static [u8] {
    let (start, end) = (&raw const PROGRAM, &raw const PROGRAM_END);
    // SAFETY: read-only bytes between two symbols of one section.
    unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

pub(crate) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let program = match UserProgram::new(fixture, code()) {
        Ok(program) => program,
        Err(errno) => {
            println!("EVENTS no user program: {errno}");
            check.holds("a user program can be built", false);
            return;
        }
    };
    let stack = fixture.frame();
    let top = fixture.va(stack).page(1).0;
    // SAFETY: a fixture frame.
    check.ok("set a kernel stack", unsafe { user::set_kernel_stack(top) });
    let Some(port) = check.ok("VIRQ_TIMER", time::bind_timer(tick)) else { return };
    event::unmask();
    TICKS.set(0);
    check.ok("periodic, 5 ms", vcpu::set_periodic_timer(0, 5 * MS));
    let start = time::raw();
    let upcalls = percpu::this().upcalls();
    // SAFETY: the program is mapped, and a kernel stack is set.
    let left = unsafe { user::run(program.rip, program.rsp, 0) };
    let passed = time::raw() - start;
    check.equal("the program's registers are unchanged", left, 7);
    check.ok("stop it", vcpu::stop_periodic_timer(0));
    println!("EVENTS user program: {} ticks in {} ms", TICKS.get(), passed / MS);
    check.within("the timer fired meanwhile", TICKS.get(), 2..=u64::MAX);
    check.within("by upcalls to the kernel", percpu::this().upcalls() - upcalls, 2..=u64::MAX);
    check.ok("close", close(port));
    event::forget(port, percpu::this());
    event::mask();
    check.equal("unload", UserProgram::unload(), 0);
}
