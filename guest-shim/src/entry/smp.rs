//! Secondary vCPUs: their initial state, and their entry into Rust.

use super::percpu::{PerCpu, this};
use super::{container, event, trap};
use crate::addr::PAGE_SIZE;
use crate::hypercall::{Errno, address, in_container, vcpu};
use alloc::alloc::{Layout, alloc_zeroed};
use alloc::boxed::Box;
use core::arch::{asm, global_asm};
use core::sync::atomic::AtomicPtr;
use core::sync::atomic::Ordering::{Acquire, Release};
use pinfold_abi::errno::Errno as Known;
use pinfold_abi::layout::{FLAT_KERNEL_CS64, FLAT_RING3_SS64};
use pinfold_abi::shared_info::LEGACY_VCPUS;
use pinfold_abi::vcpu::{VGCF_IN_KERNEL, VcpuGuestContext};
use zerocopy::FromZeros;

/// Bytes of a secondary vCPU's stack, and of the stack for entries from user mode.
const STACK_SIZE: usize = 64 * 1024;
/// The flags of a new vCPU in the container: only the bit that is always set.
const RFLAGS: u64 = 2;

/// The function that a secondary vCPU runs. When it returns, the vCPU stops itself. When the vCPU
/// is started again, it calls the function again.
pub type Main = fn(&'static PerCpu);

static CPUS: [AtomicPtr<PerCpu>; LEGACY_VCPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; LEGACY_VCPUS];

global_asm!(
    ".pushsection .text.secondary, \"ax\"",
    // rdi: the vCPU's `PerCpu`; rsp: the end of its stack.
    "pinfold_secondary_start:",
    "cld",
    "xor ebp, ebp",
    "call {secondary}",
    "ud2",
    ".popsection",
    secondary = sym secondary,
);

unsafe extern "C" {
    #[link_name = "pinfold_secondary_start"]
    safe static SECONDARY_START: u8;
}

/// Number of vCPUs that the domain may have.
pub fn count() -> u32 {
    (0..LEGACY_VCPUS as u32).take_while(|&id| vcpu::is_up(id).is_ok()).count() as u32
}

/// The data of a vCPU: the running one, or one that was launched.
pub fn cpu(id: u32) -> Option<&'static PerCpu> {
    if id == this().id() {
        return Some(this());
    }
    let cpu = CPUS.get(id as usize)?.load(Acquire);
    // SAFETY: null, or a leaked box.
    unsafe { cpu.cast_const().as_ref() }
}

/// Allocates a stack that is never freed.
fn stack() -> Option<u64> {
    let layout = Layout::from_size_align(STACK_SIZE, PAGE_SIZE as usize).ok()?;
    // SAFETY: the layout has a size.
    let stack = unsafe { alloc_zeroed(layout) };
    (!stack.is_null()).then(|| address(stack) + STACK_SIZE as u64)
}

/// Makes the initial state and the data of a secondary vCPU. The vCPU does not run yet: see
/// [`launch`].
///
/// # Errors
///
/// -EINVAL without a shared page or a record in it for the vCPU, -ENOMEM without memory.
pub fn prepare(id: u32, main: Main) -> Result<(&'static PerCpu, Box<VcpuGuestContext>), Errno> {
    let shared = event::shared().ok_or(Known::EINVAL)?;
    let record = shared.vcpus.get(id as usize).ok_or(Known::EINVAL)?;
    let (Some(rsp), Some(kernel_sp)) = (stack(), stack()) else {
        return Err(Known::ENOMEM.into());
    };
    let own: &'static PerCpu = Box::leak(Box::new(PerCpu::new(id)));
    let gs_base = own.prepare();
    own.set_record(record);
    own.main.store(main as *mut (), Release);

    let mut context = Box::new(VcpuGuestContext::new_zeroed());
    let root: u64;
    // SAFETY: it only reads; in ring 3 it is emulated.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack)) };
    context.flags = VGCF_IN_KERNEL;
    context.user_regs.rip = address(&raw const SECONDARY_START);
    context.user_regs.rsp = rsp;
    context.user_regs.rdi = gs_base;
    context.ctrlreg[3] = root;
    context.gs_base_kernel = gs_base;
    if in_container() {
        context.user_regs.rflags = RFLAGS;
        container::prepare(own, kernel_sp);
    } else {
        set_ring3_state(&mut context, kernel_sp);
    }
    Ok((own, context))
}

/// Adds what the hypervisor does for a kernel in ring 3: traps, callbacks, the kernel stack.
fn set_ring3_state(context: &mut VcpuGuestContext, kernel_sp: u64) {
    context.user_regs.cs = FLAT_KERNEL_CS64;
    context.user_regs.ss = FLAT_RING3_SS64;
    for (entry, trap) in context.trap_ctxt.iter_mut().zip(trap::table()) {
        *entry = trap;
    }
    context.kernel_ss = FLAT_RING3_SS64.into();
    context.kernel_sp = kernel_sp;
    let callbacks = trap::callbacks();
    context.event_callback_eip = callbacks.event;
    context.failsafe_callback_eip = callbacks.failsafe;
    context.syscall_callback_eip = callbacks.syscall;
}

/// Starts a vCPU for the first time, as it was [prepared](prepare).
///
/// # Errors
///
/// Those of [`vcpu::initialise`] and of [`vcpu::up`].
///
/// # Safety
///
/// The code at the state's address must be able to run in the state, if it was changed since.
pub unsafe fn launch(own: &'static PerCpu, context: &mut VcpuGuestContext) -> Result<(), Errno> {
    let id = own.id();
    // SAFETY: the code at its address gets a stack and its `PerCpu`; the rest is the caller's.
    unsafe { vcpu::initialise(id, context) }?;
    // It does not run yet, and takes no event before it unmasks them itself.
    if let Some(record) = own.record() {
        record.upcall_mask.store(1, Release);
    }
    CPUS[id as usize].store(core::ptr::from_ref(own).cast_mut(), Release);
    vcpu::up(id)
}

/// Starts a vCPU for the first time.
///
/// # Errors
///
/// Those of [`prepare`] and [`launch`].
pub fn start(id: u32, main: Main) -> Result<&'static PerCpu, Errno> {
    let (own, mut context) = prepare(id, main)?;
    // SAFETY: as it was prepared.
    unsafe { launch(own, &mut context) }?;
    Ok(own)
}

/// Starts a vCPU again whose function returned, with this function.
///
/// # Errors
///
/// -EINVAL for one that was never started, or the hypervisor's refusal.
pub fn restart(id: u32, main: Main) -> Result<(), Errno> {
    let own = cpu(id).ok_or(Known::EINVAL)?;
    own.main.store(main as *mut (), Release);
    vcpu::up(id)
}

extern "C" fn secondary(own: &'static PerCpu) -> ! {
    let id = own.id();
    if in_container() {
        // Before anything uses GS or traps.
        container::load(own).expect("the tables of a vCPU");
    }
    loop {
        let main = own.main.load(Acquire);
        // SAFETY: `prepare` stored a `Main` before the vCPU could run; `restart` stores `Main`s
        // too.
        let main = unsafe { core::mem::transmute::<*mut (), Main>(main) };
        main(own);
        event::mask();
        // When it is started again, it continues here.
        if let Err(errno) = vcpu::down(id) {
            crate::println!("vCPU {id} can't stop: {errno}");
        }
    }
}
