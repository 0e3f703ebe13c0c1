//! Actions that must end this domain, and nothing else.

use crate::iret;
use core::arch::asm;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::layout::{FLAT_RING3_CS64, HYPERVISOR_END, HYPERVISOR_START, M2P_START};
use pinfold_abi::trap::IretFrame;
use pinfold_abi::vcpu::VcpuGuestContext;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::entry::percpu::PerCpu;
use pinfold_guest::entry::{Boot, event, smp, time, user};
use pinfold_guest::fixtures::{TableFixture, UserProgram};
use pinfold_guest::hypercall::vcpu;
use pinfold_guest::raw;

/// Does the action of this name. Returns if there is none, or if the domain survives it.
pub(crate) fn run(name: &str, boot: &Boot, fixture: &mut TableFixture) {
    match name {
        "rsp-low" => trap_on(0x1000),
        "rsp-zero" => trap_on(0),
        "rsp-eight" => trap_on(8),
        "rsp-noncanonical" => trap_on(0x0123_4567_89ab_cdef),
        "rsp-hole" => trap_on(HYPERVISOR_START + 0x1_0000),
        "rsp-hole-start" => trap_on(HYPERVISOR_START + 8),
        // The frame would begin below the end of the hypervisor's hole.
        "rsp-hole-end" => trap_on(HYPERVISOR_END + 16),
        "rsp-m2p" => trap_on(M2P_START + 0x2000),
        "rsp-last" => trap_on(u64::MAX),
        "rsp-table" => trap_on(Vaddr(boot.start_info().pt_base).page(1).0),
        "rsp-read-only" => {
            let page = fixture.frame();
            fixture.seal(page);
            trap_on(fixture.va(page).page(1).0);
        }
        "iret-unmapped" => iret_from(0x1000),
        "iret-hole" => iret_from(HYPERVISOR_START),
        "iret-noncanonical" => iret_from(0x0123_4567_89ab_cde0),
        "iret-end" => iret_from(u64::MAX - 7),
        "iret-user-without-root" => {
            let frame = IretFrame { cs: FLAT_RING3_CS64.into(), ..iret::good_frame() };
            iret_from(&raw const frame as u64);
        }
        "iret-rsp-noncanonical" => {
            let frame = IretFrame { rsp: 0x0123_4567_89ab_cde0, ..iret::good_frame() };
            iret_from(&raw const frame as u64);
        }
        "no-trap-table" => {
            // SAFETY: no trap is expected but the last one.
            unsafe { raw::call(Hypercall::SetTrapTable as u64, [0; 5]) };
            trap_here();
        }
        "trap-handler-unmapped" => handlers_at(0x1000),
        "user-stack" => from_user(fixture, 0x1000),
        "user-stack-noncanonical" => from_user(fixture, 0x0123_4567_89ab_cde0),
        "user-stack-hole" => from_user(fixture, HYPERVISOR_START + 0x100),
        "event-stack" => {
            event::unmask();
            let _ = time::bind_timer(|_| {});
            // Again and again: the first event may come while there is a stack.
            let _ = vcpu::set_periodic_timer(0, 2_000_000);
            // SAFETY: no code runs after it: an event finds no stack.
            unsafe { asm!("xor esp, esp", "2: pause", "jmp 2b", options(noreturn)) }
        }
        "vcpu-stack" => second(|context| {
            context.user_regs.rsp = 0x1000;
        }),
        "vcpu-rip" => second(|context| {
            context.user_regs.rip = 0x1000;
            context.user_regs.rsp = 0;
        }),
        "vcpu-no-traps" => second(|context| {
            context.trap_ctxt = [pinfold_abi::trap::TrapInfo::default(); 256];
            context.user_regs.rip = 0x1000;
        }),
        "vcpu-selectors" => second(|context| {
            context.user_regs.cs = 0x1230;
            context.user_regs.ss = 0x4560;
            context.trap_ctxt = [pinfold_abi::trap::TrapInfo::default(); 256];
        }),
        _ => {}
    }
}

/// Traps with this stack pointer.
fn trap_on(rsp: u64) {
    // SAFETY: no code runs after it.
    unsafe { asm!("mov rsp, {}", "ud2", in(reg) rsp, options(noreturn)) }
}

fn trap_here() {
    // SAFETY: as above.
    unsafe { asm!("ud2", options(noreturn)) }
}

/// Makes the `iret` hypercall with this stack pointer.
fn iret_from(rsp: u64) {
    // SAFETY: as above.
    unsafe {
        asm!("mov rsp, {}", "mov eax, 23", "syscall", "ud2", in(reg) rsp, options(noreturn));
    }
}

/// Sets an unmapped address as the handler of all exceptions: each trap causes the next one, until
/// the stack is used up.
fn handlers_at(address: u64) {
    let table: [pinfold_abi::trap::TrapInfo; 33] =
        core::array::from_fn(|vector| pinfold_abi::trap::TrapInfo {
            vector: vector as u8,
            flags: 4,
            cs: 0xe033,
            pad: 0,
            address: if vector < 32 { address } else { 0 },
        });
    // SAFETY: no trap is expected but the last one.
    unsafe { raw::call(Hypercall::SetTrapTable as u64, [table.as_ptr() as u64, 0, 0, 0, 0]) };
    trap_here();
}

/// Makes a system call from user mode, with this kernel stack.
fn from_user(fixture: &mut TableFixture, stack: u64) {
    // mov eax, 1; syscall
    let Ok(program) = UserProgram::new(fixture, &[0xb8, 1, 0, 0, 0, 0x0f, 0x05]) else { return };
    // SAFETY: no code runs after it.
    unsafe {
        let _ = user::set_kernel_stack(stack);
        user::run(program.rip, program.rsp, 0);
    }
}

/// Starts the second vCPU in a state in which it soon fails, and waits for the domain's end.
fn second(change: impl Fn(&mut VcpuGuestContext)) {
    fn never(_own: &'static PerCpu) {}
    let Ok((_, mut context)) = smp::prepare(1, never) else { return };
    change(&mut context);
    // SAFETY: what it does in that state is the test.
    let started = unsafe { vcpu::initialise(1, &mut context) }.and_then(|()| vcpu::up(1));
    if started.is_ok() {
        let _ = time::sleep(10_000_000_000);
    }
}
