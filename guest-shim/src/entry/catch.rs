//! Running code that may trap, and finding out whether and how it did.

use super::container::{cpu, tables};
use super::frame::TrapFrame;
use super::percpu::{self, this};
use crate::hypercall::in_container;
use core::arch::global_asm;
use core::sync::atomic::Ordering::Relaxed;

/// The trap that stopped the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Exception vector.
    pub vector: u8,
    /// Error code.
    pub error: u64,
    /// Address of the instruction.
    pub rip: u64,
    /// For page faults: the address accessed.
    pub cr2: u64,
    /// The code selector shown: RPL 3 means guest user mode.
    pub cs: u64,
    /// The flags shown.
    pub rflags: u64,
}

/// The flag that says whether events can be delivered.
const RFLAGS_IF: u64 = 1 << 9;

global_asm!(
    ".pushsection .text.catch, \"ax\"",
    // pinfold_try(f, data): 0 when f returned, 1 when it was stopped.
    "pinfold_try:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push gs:[{landing}]",
    "mov gs:[{landing}], rsp",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "xor eax, eax",
    "2:",
    "pop gs:[{landing}]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    "pinfold_try_landing:",
    "mov rsp, gs:[{landing}]",
    "mov eax, 1",
    "jmp 2b",
    ".popsection",
    landing = const percpu::LANDING,
);

unsafe extern "C" {
    fn pinfold_try(code: extern "C" fn(*mut ()), data: *mut ()) -> u64;
    #[link_name = "pinfold_try_landing"]
    safe static TRY_LANDING: u8;
}

/// Called first on each trap. If the code runs under [`catch`], records the trap, has the guest
/// resume at the landing, and returns true.
pub(super) fn resume_at_landing(frame: &mut TrapFrame) -> bool {
    let cpu = this();
    let landing = cpu.landing.load(Relaxed);
    if landing == 0 {
        return false;
    }
    let noted = [frame.vector, frame.error, frame.rip, cr2(), frame.cs & 0xffff, frame.rflags];
    for (slot, value) in cpu.caught.iter().zip(noted) {
        slot.store(value, Relaxed);
    }
    frame.rip = crate::hypercall::address(&raw const TRY_LANDING);
    let (cs, ss) = kernel_selectors();
    frame.cs = (frame.cs & !0xffff) | u64::from(cs);
    frame.ss = u64::from(ss);
    frame.rsp = landing;
    // Rust code runs with none of the other flags, whatever the stopped code had.
    frame.rflags &= RFLAGS_IF;
    true
}

/// The selectors of the kernel's code and stack, as an `iret` frame has them.
fn kernel_selectors() -> (u16, u16) {
    if in_container() {
        (tables::KERNEL_CS, tables::KERNEL_SS)
    } else {
        (pinfold_abi::layout::FLAT_KERNEL_CS64, pinfold_abi::layout::FLAT_RING3_SS64)
    }
}

/// Address of the last page fault. In ring 3 it is in the shared page. Until that is mapped it is
/// read from CR2, which the hypervisor emulates.
pub fn cr2() -> u64 {
    if in_container() {
        return cpu::cr2();
    }
    if let Some(record) = this().record() {
        return record.cr2.load(Relaxed);
    }
    let cr2: u64;
    // SAFETY: `mov r, cr2` in a guest kernel is emulated by the hypervisor; it only reads.
    unsafe { core::arch::asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack)) };
    cr2
}

/// Runs a function. If an exception stops it, returns which.
///
/// # Safety
///
/// When the function is stopped, its stack frames are dropped without running destructors: nothing
/// in it, up to the point where it may be stopped, may own anything or hold a lock.
pub unsafe fn catch<F: FnMut()>(mut code: F) -> Result<(), Trap> {
    extern "C" fn run<F: FnMut()>(data: *mut ()) {
        // SAFETY: `data` is the closure of the caller's frame, borrowed by nobody else now.
        let code = unsafe { &mut *data.cast::<F>() };
        code();
    }
    // SAFETY: `run::<F>` gets the closure it was made for; dropped frames are the caller's duty.
    if unsafe { pinfold_try(run::<F>, (&raw mut code).cast()) } == 0 {
        return Ok(());
    }
    let [vector, error, rip, cr2, cs, rflags] =
        [0, 1, 2, 3, 4, 5].map(|slot: usize| this().caught[slot].load(Relaxed));
    Err(Trap { vector: vector as u8, error, rip, cr2, cs, rflags })
}

/// Reads a word that may not be mapped.
///
/// # Safety
///
/// If the address is mapped, reading it must be harmless.
pub unsafe fn read(address: u64) -> Result<u64, Trap> {
    let mut word = 0;
    // SAFETY: one volatile read owns nothing; the caller knows that it is harmless.
    unsafe { catch(|| word = (address as *const u64).read_volatile()) }.map(|()| word)
}

/// Writes a word that may not be mapped, or not writable.
///
/// # Safety
///
/// If the address is writable, no Rust code may rely on what is there.
pub unsafe fn write(address: u64, word: u64) -> Result<(), Trap> {
    // SAFETY: one volatile write owns nothing; the caller answers for what it overwrites.
    unsafe { catch(|| (address as *mut u64).write_volatile(word)) }
}
