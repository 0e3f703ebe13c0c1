//! Actions that must end this domain, and nothing else. Those in the second part never end by
//! themselves: the domain's lifetime ends them.

use core::arch::asm;
use pinfold_abi::mmu::UVMF_INVLPG;
use pinfold_guest::addr::{Mfn, Vaddr};
use pinfold_guest::entry::catch::catch;
use pinfold_guest::entry::trap::{TrapFrame, set_handler};
use pinfold_guest::entry::user;
use pinfold_guest::fixtures::{TableFixture, UserProgram};
use pinfold_guest::{println, raw};

/// Operand of `lidt` and `sidt`.
#[derive(Default)]
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Loads an IDT and executes an invalid instruction.
fn trap_with_idt(base: u64, limit: u16) {
    let pointer = Pointer { limit, base };
    // SAFETY: no code runs after it.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &raw const pointer, options(noreturn)) }
}

fn idt() -> u64 {
    let mut pointer = Pointer::default();
    // SAFETY: it writes the operand.
    unsafe { asm!("sidt [{}]", in(reg) &raw mut pointer) };
    pointer.base
}

fn trap_on(rsp: u64) {
    // SAFETY: no code runs after it.
    unsafe { asm!("mov rsp, {}", "ud2", in(reg) rsp, options(noreturn)) }
}

/// A handler that resumes where the exception occurred.
fn resume(_frame: &mut TrapFrame) -> bool {
    true
}

/// Does the action of this name. Returns if there is none, or if the domain survives it.
pub(crate) fn run(name: &str, fixture: &mut TableFixture) {
    match name {
        "triple-fault" => trap_with_idt(0, 0),
        "poisoned-idt" => trap_with_idt(0xffff_c123_4567_8000, 0xfff),
        "idt-in-the-hypervisor" => trap_with_idt(0xffff_8700_0000_0000, 0xfff),
        "idt-not-canonical" => trap_with_idt(0x0123_4567_89ab_c000, 0xfff),
        "poisoned-gates" => {
            let page = fixture.frame();
            // Interrupt gates to an unmapped address, without stacks of their own.
            for gate in 0..32 {
                fixture.set(page, gate * 2, 0x0000_8e00_0008_1000);
            }
            trap_with_idt(fixture.va(page).0, 32 * 16 - 1);
        }
        "task-gate" => {
            let page = fixture.frame();
            for gate in 0..32 {
                fixture.set(page, gate * 2, 0x0000_8500_0030_0000);
            }
            trap_with_idt(fixture.va(page).0, 32 * 16 - 1);
        }
        "unmapped-idt" => {
            // SAFETY: no code runs after the next trap.
            unsafe { raw::update_va_mapping(Vaddr(idt() & !0xfff), 0, UVMF_INVLPG) };
            // SAFETY: as above.
            unsafe { asm!("ud2", options(noreturn)) }
        }
        "no-stack" => trap_on(0x1000),
        "stack-in-the-hypervisor" => trap_on(0xffff_8700_0000_0800),
        "stack-not-canonical" => trap_on(0x0123_4567_89ab_cdef),
        "real-mode" => {
            let pointer = Pointer { limit: 0, base: 0 };
            // SAFETY: no code runs after it: #GP finds no handler.
            unsafe {
                asm!("lidt [{}]", "mov rax, cr0", "and eax, 0x7ffffffe", "mov cr0, rax", "2: jmp 2b",
                    in(reg) &raw const pointer, options(noreturn));
            }
        }
        "empty-root" => {
            let root = fixture.frame();
            fixture.seal(root);
            let root = Mfn(fixture.mfn(root)).address();
            // SAFETY: no code runs after it: the root maps nothing.
            unsafe { asm!("mov cr3, {}", "2: jmp 2b", in(reg) root, options(noreturn)) }
        }
        "empty-gdt" => {
            let pointer = Pointer { limit: 0, base: 0 };
            // SAFETY: no code runs after it: no handler's selector can be loaded.
            unsafe { asm!("lgdt [{}]", "ud2", in(reg) &raw const pointer, options(noreturn)) }
        }
        _ => run_loop(name, fixture),
    }
}

/// Does an action that never ends.
fn run_loop(name: &str, fixture: &mut TableFixture) {
    match name {
        "db-loop" => {
            set_handler(1, Some(resume));
            // A breakpoint at the first instruction of the handler of debug exceptions, whose stack is
            // always the same one.
            // SAFETY: the table is the one in use; the gate's words are an address.
            let handler = unsafe {
                let [low, high] = (idt() as *const [u64; 2]).add(1).read_volatile();
                low & 0xffff | low >> 32 & 0xffff_0000 | high << 32
            };
            // SAFETY: no Rust code relies on debug registers.
            let set = unsafe {
                catch(|| asm!("mov dr0, {}", "mov dr7, {}", in(reg) handler, in(reg) 0x401u64))
            };
            println!("hostile_container: breakpoint taken: {}", set.is_ok());
            step_for_ever();
        }
        "int1-loop" => {
            set_handler(1, Some(resume));
            loop {
                // SAFETY: the handler returns.
                unsafe { asm!(".byte 0xf1") }
            }
        }
        "ac-loop" => {
            set_handler(17, Some(resume));
            // pushfq; or dword ptr [rsp], AC; popfq; again: mov eax, [rsp - 7]; jmp again
            let code =
                [0x9c, 0x81, 0x0c, 0x24, 0, 0, 4, 0, 0x9d, 0x8b, 0x44, 0x24, 0xf9, 0xeb, 0xfa];
            let stack = fixture.frame();
            let top = fixture.va(stack).page(1).0;
            let Ok(program) = UserProgram::new(fixture, &code) else { return };
            // SAFETY: no code runs after it. A processor without #AC loops, too.
            unsafe {
                let _ = user::set_kernel_stack(top);
                user::run(program.rip, program.rsp, 0);
            }
        }
        "int3-loop" => {
            set_handler(3, Some(resume));
            loop {
                // SAFETY: the handler returns.
                unsafe { asm!("int3") }
            }
        }
        "fault-loop" => {
            // Each fault comes again at once.
            set_handler(6, Some(resume));
            // SAFETY: no code runs after it.
            unsafe { asm!("ud2", options(noreturn)) }
        }
        // SAFETY: no code runs after it.
        "halt" => unsafe { asm!("cli", "2: hlt", "jmp 2b", options(noreturn)) },
        // SAFETY: no code runs after it.
        "halt-open" => unsafe { asm!("sti", "2: hlt", "jmp 2b", options(noreturn)) },
        // SAFETY: no code runs after it.
        "pause" => unsafe { asm!("cli", "2: pause", "jmp 2b", options(noreturn)) },
        // SAFETY: no code runs after it.
        "cpuid-loop" => unsafe {
            asm!("cli", "2: xor eax, eax", "cpuid", "jmp 2b", options(noreturn))
        },
        // SAFETY: no code runs after it.
        "cr3-loop" => unsafe {
            asm!("cli", "mov rax, cr3", "2: mov cr3, rax", "jmp 2b", options(noreturn));
        },
        // SAFETY: no code runs after it.
        "vmmcall-loop" => unsafe {
            asm!("cli", "2: mov eax, 17", "xor edi, edi", "vmmcall", "jmp 2b", options(noreturn));
        },
        "step-loop" => {
            set_handler(1, Some(resume));
            step_for_ever();
        }
        _ => {}
    }
}

/// Every instruction is a debug exception.
fn step_for_ever() {
    // SAFETY: the handler of debug exceptions returns; no other code runs after it.
    unsafe {
        asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "2: nop", "jmp 2b", options(noreturn));
    }
}
