//! Traps: a stub for each exception, one handler in Rust, and a register dump for what nobody
//! expected.
//!
//! In ring 3 the hypervisor pushes `rcx, r11, [error], rip, cs, rflags, rsp, ss`. The stubs push 0 where an
//! exception has no error code, so that all frames are a [`TrapFrame`], and return by the `iret`
//! hypercall. The entries of the container are in `container/traps.rs`.

pub use super::frame::TrapFrame;
use super::frame::{ALIAS, EVENT, FAILSAFE};
use super::frame::{pop_registers, push_registers};
use crate::hypercall::sched::{Exit, shutdown};
use crate::hypercall::{Errno, address, call, check};
use core::arch::global_asm;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::trap::{TI_MASK_EVENTS, TrapInfo};

/// Exception vectors.
pub const VECTORS: usize = 32;

/// A trap handler. It returns true if it handled the trap: the guest resumes as the frame says
/// then.
pub type Handler = fn(&mut TrapFrame) -> bool;

static FAILSAFES: AtomicU64 = AtomicU64::new(0);

static HANDLERS: [AtomicPtr<()>; VECTORS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; VECTORS];

/// Sets the handler of a vector on every vCPU; `None` is the default, a dump and the end of the
/// domain.
pub fn set_handler(vector: u8, handler: Option<Handler>) {
    let pointer = handler.map_or(core::ptr::null_mut(), |handler| handler as *mut ());
    // Relaxed: a handler needs no data that is published with it. Whoever needs other vCPUs to use
    // it from some moment on synchronises with them by other means.
    HANDLERS[usize::from(vector)].store(pointer, Ordering::Relaxed);
}

fn handler(vector: u64) -> Option<Handler> {
    let pointer = HANDLERS.get(vector as usize)?.load(Ordering::Relaxed);
    if pointer.is_null() {
        return None;
    }
    // SAFETY: only `set_handler` stores here, and it stores null or a `Handler`.
    Some(unsafe { core::mem::transmute::<*mut (), Handler>(pointer) })
}

global_asm!(
    // 16 bytes a stub, so that a stub's address is computed. With the first two words popped,
    // rcx and r11 are the interrupted code's again.
    ".pushsection .text.traps, \"ax\"",
    ".macro pinfold_trap_stub vector:req, has_error:req",
    ".balign 16",
    "pop rcx",
    "pop r11",
    ".if \\has_error == 0",
    "push 0",
    ".endif",
    "push \\vector",
    "jmp pinfold_trap_common",
    ".endm",
    ".balign 16",
    "pinfold_trap_stubs:",
    ".irp vector, 0, 1, 2, 3, 4, 5, 6, 7",
    "pinfold_trap_stub \\vector, 0",
    ".endr",
    "pinfold_trap_stub 8, 1",
    "pinfold_trap_stub 9, 0",
    ".irp vector, 10, 11, 12, 13, 14",
    "pinfold_trap_stub \\vector, 1",
    ".endr",
    "pinfold_trap_stub 15, 0",
    "pinfold_trap_stub 16, 0",
    "pinfold_trap_stub 17, 1",
    ".irp vector, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
    "pinfold_trap_stub \\vector, 0",
    ".endr",
    ".global pinfold_trap_common",
    "pinfold_trap_common:",
    push_registers!(),
    "mov rdi, rsp",
    "mov rbx, rsp",
    "and rsp, -16",
    "cld",
    "call {dispatch}",
    "mov rsp, rbx",
    pop_registers!(),
    "add rsp, 16",
    // The rest is rip, cs, rflags, rsp, ss; `iret` wants rax, r11, rcx and flags below.
    "push 0",
    "push rcx",
    "push r11",
    "push rax",
    "mov eax, {iret}",
    "syscall",
    "ud2",
    "pinfold_event_callback:",
    "pop rcx",
    "pop r11",
    "push 0",
    "push {event}",
    "jmp pinfold_trap_common",
    // Four words of selectors are above rcx and r11; none of them is used.
    "pinfold_failsafe_callback:",
    "pop rcx",
    "pop r11",
    "add rsp, 32",
    "push 0",
    "push {failsafe}",
    "jmp pinfold_trap_common",
    ".popsection",
    dispatch = sym dispatch,
    event = const EVENT,
    failsafe = const FAILSAFE,
    iret = const Hypercall::Iret as u64,
);

unsafe extern "C" {
    #[link_name = "pinfold_trap_stubs"]
    safe static STUBS: u8;
    #[link_name = "pinfold_event_callback"]
    safe static EVENT_CALLBACK: u8;
    #[link_name = "pinfold_failsafe_callback"]
    safe static FAILSAFE_CALLBACK: u8;
}

pub(super) extern "C" fn dispatch(frame: &mut TrapFrame) {
    if frame.vector == EVENT {
        return super::event::upcall(frame);
    }
    if frame.vector == ALIAS {
        return super::alias::entered();
    }
    if frame.vector == FAILSAFE {
        // The selectors are null now; the kernel does not need them.
        FAILSAFES.fetch_add(1, Ordering::Relaxed);
        return;
    }
    if super::catch::resume_at_landing(frame)
        || handler(frame.vector).is_some_and(|handle| handle(frame))
    {
        return;
    }
    dump(frame);
    shutdown(Exit::Crash);
}

/// Failsafe callbacks so far: the hypervisor could not load a selector.
pub fn failsafes() -> u64 {
    FAILSAFES.load(Ordering::Relaxed)
}

/// Prints the registers of a trap.
pub fn dump(frame: &TrapFrame) {
    let TrapFrame { vector, error, rip, cs, rflags, rsp, .. } = frame;
    crate::println!("TRAP vector={vector} error={error:#x} rip={rip:#018x} cs={cs:#x}");
    crate::println!("TRAP rflags={rflags:#x} rsp={rsp:#018x} cr2={:#018x}", super::catch::cr2());
    let f = frame;
    crate::println!("TRAP rax={:#x} rbx={:#x} rcx={:#x} rdx={:#x}", f.rax, f.rbx, f.rcx, f.rdx);
    crate::println!("TRAP rsi={:#x} rdi={:#x} rbp={:#x} r8={:#x}", f.rsi, f.rdi, f.rbp, f.r8);
    crate::println!("TRAP r9={:#x} r10={:#x} r11={:#x} r12={:#x}", f.r9, f.r10, f.r11, f.r12);
    crate::println!("TRAP r13={:#x} r14={:#x} r15={:#x}", f.r13, f.r14, f.r15);
}

/// Addresses for `set_callbacks`, or for a vCPU's initial state.
pub(super) struct Callbacks {
    pub(super) event: u64,
    pub(super) failsafe: u64,
    pub(super) syscall: u64,
}

/// The callbacks of every vCPU.
pub(super) fn callbacks() -> Callbacks {
    Callbacks {
        event: address(&raw const EVENT_CALLBACK),
        failsafe: address(&raw const FAILSAFE_CALLBACK),
        syscall: super::user::syscall_callback(),
    }
}

/// In the container: the vector of the event upcall on every vCPU.
pub const UPCALL_VECTOR: u8 = super::container::tables::UPCALL_VECTOR;

/// Address of the event callback, for tests that replace it.
pub fn event_callback() -> u64 {
    callbacks().event
}

/// The trap table of every vCPU, in the order of the vectors.
pub(super) fn table() -> [TrapInfo; VECTORS] {
    let base = address(&raw const STUBS);
    core::array::from_fn(|vector| {
        // int3 and into may be used by guest user code, the rest only by the kernel.
        let dpl = if matches!(vector, 3 | 4) { 3 } else { 0 };
        TrapInfo {
            vector: vector as u8,
            flags: dpl | TI_MASK_EVENTS,
            cs: pinfold_abi::layout::FLAT_KERNEL_CS64,
            pad: 0,
            address: base + vector as u64 * 16,
        }
    })
}

/// Registers the trap table and the callbacks of the boot vCPU. The other vCPUs have them in their
/// initial state.
pub(super) fn init() -> Result<(), Errno> {
    let mut list = [TrapInfo::default(); VECTORS + 1];
    list[..VECTORS].copy_from_slice(&table());
    // SAFETY: the call reads the table, up to the entry with address 0 at its end.
    check(unsafe { call(Hypercall::SetTrapTable as u64, [address(&raw const list), 0, 0, 0, 0]) })?;
    let Callbacks { event, failsafe, syscall } = callbacks();
    // SAFETY: the call stores three addresses of code that pops what the hypervisor pushes.
    check(unsafe { call(Hypercall::SetCallbacks as u64, [event, failsafe, syscall, 0, 0]) })?;
    Ok(())
}
