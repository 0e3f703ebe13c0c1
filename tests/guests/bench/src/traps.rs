//! Entries and returns: the simplest hypercall, forced CPUID, exceptions, system calls.

use crate::meter::{Meter, expect};
use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::hint::black_box;
use pinfold_abi::hypercall::Hypercall;
use pinfold_guest::entry::{catch, user};
use pinfold_guest::fixtures::{TableFixture, UserProgram};
use pinfold_guest::hypercall::in_container;
use pinfold_guest::println;
use pinfold_guest::raw;

/// The simplest hypercall: the version.
pub(crate) fn hypercall(meter: &Meter) {
    meter.row("hypercall", 1, |_| {
        // SAFETY: returns a number.
        unsafe { raw::call(Hypercall::XenVersion as u64, [0; 5]) };
    });
}

/// CPUID that the hypervisor answers: in ring 3 behind the prefix that forces emulation, in the
/// container by itself.
pub(crate) fn forced_cpuid(meter: &Meter) {
    if in_container() {
        meter.row("forced_cpuid", 1, |_| {
            black_box(__cpuid(0));
        });
        return;
    }
    meter.row("forced_cpuid", 1, |_| {
        // SAFETY: ud2, "xen", cpuid: the hypervisor returns the four registers.
        unsafe {
            asm!(
                "push rbx",
                ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e",
                "cpuid",
                "pop rbx",
                inout("eax") 0 => _,
                inout("ecx") 0 => _,
                out("edx") _,
            );
        }
    });
}

/// An exception to the guest kernel and its return.
pub(crate) fn exception(meter: &Meter) {
    meter.row("exception_and_return", 1, |_| {
        // SAFETY: the closure owns nothing that would have to be dropped.
        let caught = unsafe { catch::catch(|| asm!("ud2")) };
        assert!(caught.is_err());
    });
}

/// The kernel stack for entries from user mode.
#[repr(align(16))]
struct Stack(core::cell::UnsafeCell<[u64; 1024]>);
// SAFETY: only one vCPU runs.
unsafe impl Sync for Stack {}
static STACK: Stack = Stack(core::cell::UnsafeCell::new([0; 1024]));

/// System calls of the program.
const CALLS: u32 = 1000;
/// Instructions of the program for each `syscall`: xor, dec, jnz.
const AROUND: u64 = 3;

/// System calls from user mode and their returns: a program makes a thousand.
pub(crate) fn system_call(meter: &Meter, fixture: &mut TableFixture) {
    let saved = fixture.save();
    let top = STACK.0.get() as u64 + size_of::<Stack>() as u64;
    // SAFETY: only this function uses the stack.
    unsafe { user::set_kernel_stack(top) }.expect("a stack for user mode");
    let count = CALLS.to_le_bytes();
    // mov ebx, CALLS; again: xor eax, eax; syscall; dec ebx; jnz again; mov eax, 1; syscall
    let mut code = [
        0xbb, 0, 0, 0, 0, 0x31, 0xc0, 0x0f, 0x05, 0xff, 0xcb, 0x75, 0xf8, 0xb8, 1, 0, 0, 0, 0x0f,
        0x05,
    ];
    code[1..5].copy_from_slice(&count);
    match UserProgram::new(fixture, &code) {
        Err(result) => expect("user program", result, 0),
        Ok(program) => {
            println!("user system calls: {AROUND} instructions around each are the guest's");
            meter.row("user_syscall_and_return", u64::from(CALLS), |_| {
                // SAFETY: the program has its own root, code and stack.
                unsafe { user::run(program.rip, program.rsp, 0) };
            });
        }
    }
    UserProgram::unload();
    fixture.restore(saved);
}
