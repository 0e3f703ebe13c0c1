//! Ring 3 in the container: no program may do what the kernel may, and none reaches the kernel's
//! pages or the hypervisor's.

use crate::attempt::{GP, PF, UD, stopped_by};
use core::cell::UnsafeCell;
use pinfold_abi::layout::M2P_START;
use pinfold_guest::entry::catch::Trap;
use pinfold_guest::entry::user;
use pinfold_guest::fixtures::{Check, TableFixture, UserProgram};

/// The kernel stack for entries from programs.
#[repr(align(16))]
struct Stack(UnsafeCell<[u64; 2048]>);
// SAFETY: one vCPU only runs programs.
unsafe impl Sync for Stack {}
static STACK: Stack = Stack(UnsafeCell::new([0; 2048]));

/// Runs a program, and returns what stopped it.
fn run_program(fixture: &mut TableFixture, check: &mut Check, code: &[u8]) -> Option<Trap> {
    let saved = fixture.save();
    let mut trap = None;
    match UserProgram::new(fixture, code) {
        Err(errno) => check.equal("a program", errno, 0),
        Ok(program) => {
            trap = stopped_by(|| {
                // SAFETY: the program has its own root, code and stack.
                unsafe { user::run(program.rip, program.rsp, 0) };
            });
        }
    }
    check.equal("unload", UserProgram::unload(), 0);
    fixture.restore(saved);
    trap
}

pub(crate) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let top = STACK.0.get() as u64 + size_of::<Stack>() as u64;
    // SAFETY: only programs use the stack.
    check.ok("a stack", unsafe { user::set_kernel_stack(top) });
    // mov eax, 1; syscall
    let exit = [0xb8, 1, 0, 0, 0, 0x0f, 0x05];
    let trap = run_program(fixture, check, &exit);
    check.holds("a program that exits", trap.is_none());
    let attempts: [(&str, u8, &[u8]); 20] = [
        ("vmmcall", UD, &[0x0f, 0x01, 0xd9]),
        ("vmrun", GP, &[0x0f, 0x01, 0xd8]),
        ("vmload", GP, &[0x0f, 0x01, 0xda]),
        ("vmsave", GP, &[0x0f, 0x01, 0xdb]),
        ("stgi", GP, &[0x0f, 0x01, 0xdc]),
        ("clgi", GP, &[0x0f, 0x01, 0xdd]),
        ("invlpga", GP, &[0x0f, 0x01, 0xdf]),
        ("hlt", GP, &[0xf4]),
        ("cli", GP, &[0xfa]),
        ("sti", GP, &[0xfb]),
        ("in al, 0x60", GP, &[0xe4, 0x60]),
        ("out 0x60, al", GP, &[0xe6, 0x60]),
        ("rdmsr", GP, &[0x0f, 0x32]),
        ("wrmsr", GP, &[0x0f, 0x30]),
        ("mov cr0, rax", GP, &[0x0f, 0x22, 0xc0]),
        ("mov cr3, rax", GP, &[0x0f, 0x22, 0xd8]),
        ("wbinvd", GP, &[0x0f, 0x09]),
        ("invd", GP, &[0x0f, 0x08]),
        ("clts", GP, &[0x0f, 0x06]),
        ("int 0x20", GP, &[0xcd, 0x20]),
    ];
    for (what, vector, code) in attempts {
        let trap = run_program(fixture, check, code);
        let seen = trap.map(|trap| (trap.vector, trap.cs & 3));
        check.equal(what, seen, Some((vector, 3)));
    }
    addresses(fixture, check);
    // It is a call of the processor, not of the hypervisor: any number does nothing but 1.
    let mut number = [0xb8, 29, 0, 0, 0, 0x0f, 0x05, 0, 0, 0, 0, 0, 0, 0];
    number[7..].copy_from_slice(&exit);
    let trap = run_program(fixture, check, &number);
    check.holds("syscall in a program", trap.is_none());
}

/// Reads and writes the kernel's pages and the hypervisor's.
fn addresses(fixture: &mut TableFixture, check: &mut Check) {
    /// Error-code bits of page faults: a store, user mode.
    const STORE: u64 = 2;
    const USER: u64 = 4;
    let kernel = STACK.0.get() as u64;
    let table = fixture.frames().boot_root();
    let table = fixture.frames().pfn(table).map_or(0, |pfn| fixture.frames().va(pfn).0);
    for (what, at) in [
        ("the kernel's data", kernel),
        ("the kernel's code", run as *const () as u64),
        ("a page table", table),
        ("the M2P", M2P_START),
        ("the hypervisor", M2P_START + (1 << 41)),
    ] {
        // mov rax, at; mov rbx, [rax]  or  mov [rax], rbx
        let mut code = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0x8b, 0x18];
        code[2..10].copy_from_slice(&at.to_le_bytes());
        for (opcode, kind) in [(0x8b, USER), (0x89, USER | STORE)] {
            code[11] = opcode;
            let trap = run_program(fixture, check, &code);
            let seen = trap.map(|trap| (trap.vector, trap.cr2, trap.error & (USER | STORE)));
            check.equal(what, seen, Some((PF, at, kind)));
        }
    }
}
