//! Traps: instructions and kernel entries that a PV hypervisor handles itself or passes on.
//!
//! Each forbidden instruction must end in a signal and do nothing else. The signal, vector and
//! error code are printed as `TRAP what=... signal=... vector=... error=...`, so that they can be
//! compared between two hypervisors.

use crate::os::{self, Mapping, PAGE};
use crate::{Outcome, ensure};
use std::arch::asm;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::thread;

/// The signal of the last trap; 0 for none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Its vector and error code.
static TRAP: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// Bytes of the instruction, which the handler skips.
static SKIP: AtomicU64 = AtomicU64::new(0);
/// Single-step traps so far.
static STEPS: AtomicU64 = AtomicU64::new(0);
/// RFLAGS.TF: a debug exception after each instruction.
const TRAP_FLAG: i64 = 0x100;

extern "C" fn skip(signal: i32, _: &libc::siginfo_t, context: &mut libc::ucontext_t) {
    let registers = &mut context.uc_mcontext.gregs;
    SIGNAL.store(signal, Ordering::Relaxed);
    TRAP[0].store(registers[libc::REG_TRAPNO as usize] as u64, Ordering::Relaxed);
    TRAP[1].store(registers[libc::REG_ERR as usize] as u64, Ordering::Relaxed);
    let rip = &mut registers[libc::REG_RIP as usize];
    if *rip & !(PAGE as i64 - 1) == VSYSCALL_PAGE as i64 {
        // The page is not mapped. Return to the caller: the return address is on the stack.
        let stack = registers[libc::REG_RSP as usize];
        // SAFETY: the call into the page has just pushed it.
        registers[libc::REG_RIP as usize] = unsafe { *(stack as *const i64) };
        registers[libc::REG_RSP as usize] = stack + 8;
    } else {
        *rip += SKIP.load(Ordering::Relaxed) as i64;
    }
}

extern "C" fn step(_: i32, _: &libc::siginfo_t, context: &mut libc::ucontext_t) {
    if STEPS.fetch_add(1, Ordering::Relaxed) >= 100 {
        context.uc_mcontext.gregs[libc::REG_EFL as usize] &= !TRAP_FLAG;
    }
}

/// The vsyscall page (Linux: `asm/vsyscall.h`).
const VSYSCALL_PAGE: usize = 0xffff_ffff_ff60_0000;

/// Executes an instruction of `$bytes` bytes, which must trap, and prints how.
macro_rules! expect_trap {
    ($name:literal, $bytes:literal, $code:literal $(, $operand:tt = $value:expr)*) => {{
        SIGNAL.store(0, Ordering::Relaxed);
        SKIP.store($bytes, Ordering::Relaxed);
        // SAFETY: the instruction traps before it changes anything, and the handler skips it.
        // Should it not trap, the registers that it may change are declared here.
        unsafe {
            asm!($code $(, in($operand) $value)*, lateout("rax") _, lateout("rcx") _, lateout("rdx") _)
        };
        let signal = SIGNAL.load(Ordering::Relaxed);
        let [vector, error] = [0, 1].map(|n| TRAP[n].load(Ordering::Relaxed));
        println!("TRAP what={} signal={signal} vector={vector} error={error:#x}", $name);
        ensure!(signal != 0, "{} did not trap", $name);
    }};
}

pub(crate) fn run(rounds: u64) -> Outcome {
    let signals = [libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGBUS, libc::SIGTRAP];
    signals.iter().for_each(|signal| os::set_handler(*signal, skip));
    execute_forbidden()?;
    enter_kernel()?;
    single_step()?;
    // From here on a trap is an error, which the handler would hide.
    signals.iter().for_each(|signal| os::reset_handler(*signal));
    keep_segments(rounds * 20)?;
    keep_vector_registers(rounds * 20)?;
    Ok(format!("steps={}", STEPS.load(Ordering::Relaxed)))
}

fn execute_forbidden() -> Result<(), String> {
    expect_trap!("hlt", 1, "hlt");
    expect_trap!("cli", 1, "cli");
    expect_trap!("sti", 1, "sti");
    expect_trap!("in", 1, "in al, dx", "dx" = 0x3f8u16);
    expect_trap!("out", 1, "out dx, al", "dx" = 0x80u16, "al" = 0u8);
    expect_trap!("rdmsr", 2, "rdmsr", "ecx" = 0xc000_0080u32);
    expect_trap!("wrmsr", 2, "wrmsr", "ecx" = 0xc000_0080u32, "eax" = 0, "edx" = 0);
    expect_trap!("wbinvd", 2, "wbinvd");
    expect_trap!("invlpg", 3, "invlpg [rdi]", "rdi" = 0);
    expect_trap!("clts", 2, "clts");
    expect_trap!("read-cr0", 3, "mov rax, cr0");
    expect_trap!("read-cr3", 3, "mov rax, cr3");
    expect_trap!("write-cr3", 3, "mov cr3, rax", "rax" = 0u64);
    expect_trap!("write-cr4", 3, "mov cr4, rax", "rax" = 0u64);
    expect_trap!("read-dr7", 3, "mov rax, dr7");
    expect_trap!("swapgs", 3, "swapgs");
    expect_trap!("xsetbv", 3, "xsetbv", "ecx" = 0, "eax" = 7, "edx" = 0);
    expect_trap!("vmcall", 3, "vmcall");
    expect_trap!("ud2", 2, "ud2");
    expect_trap!("divide", 2, "div ecx", "ecx" = 0, "eax" = 1, "edx" = 0);
    expect_trap!("int3", 0, "int3");
    // A vector below 0x10 only: in long mode QEMU 7.2's TCG computes the error code of a forbidden
    // `int N` as 16 N + 2 instead of 8 N + 2. Xen takes the vector from the error code, and with a
    // large N would look beyond its table.
    expect_trap!("int-0x0d", 2, "int 0x0d");
    expect_trap!("read-null", 2, "mov al, [rdi]", "rdi" = 0);
    expect_trap!("read-hole", 2, "mov al, [rdi]", "rdi" = 0x8000_0000_0000u64);
    expect_trap!("read-hypervisor", 2, "mov al, [rdi]", "rdi" = 0xffff_8000_0000_0000u64);
    expect_trap!("write-hypervisor", 2, "mov [rdi], al", "rdi" = 0xffff_8300_0000_0000u64);
    expect_trap!("read-kernel", 2, "mov al, [rdi]", "rdi" = 0xffff_ffff_8100_0000u64);
    expect_trap!("write-vsyscall", 2, "mov [rdi], al", "rdi" = 0xffff_ffff_ff60_0000u64);
    expect_trap!("segment-hypervisor", 2, "mov ds, eax", "eax" = 0xe008u32);
    expect_trap!("segment-beyond", 2, "mov ds, eax", "eax" = 0xfff8u32);
    Ok(())
}

/// Enters the kernel by other ways than `syscall`: `int 0x80` and the vsyscall page.
fn enter_kernel() -> Result<(), String> {
    let own = std::process::id();
    for _ in 0..100 {
        let number: u32;
        // SAFETY: the 32-bit system call 20, getpid. The entry code clears r8 to r11.
        unsafe {
            asm!("int 0x80", inlateout("eax") 20u32 => number, lateout("r8") _, lateout("r9") _,
                lateout("r10") _, lateout("r11") _);
        };
        ensure!(number == own, "getpid by int 0x80 gives {number}, not {own}");
    }
    SIGNAL.store(0, Ordering::Relaxed);
    // SAFETY: the kernel emulates the call, or delivers a signal, whose handler returns from it.
    let seconds = unsafe {
        let time: extern "C" fn(usize) -> i64 = std::mem::transmute(VSYSCALL_PAGE + 0x400);
        time(0)
    };
    let signal = SIGNAL.load(Ordering::Relaxed);
    println!("TRAP what=vsyscall signal={signal}");
    if signal != 0 {
        // The kernel was built or started without the page.
        return Ok(());
    }
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs() as i64);
    ensure!((now - 2..=now).contains(&seconds), "the vsyscall page says {seconds}, it is {now}");
    Ok(())
}

/// Single-steps with RFLAGS.TF: each instruction ends in a signal.
fn single_step() -> Result<(), String> {
    os::set_handler(libc::SIGTRAP, step);
    STEPS.store(0, Ordering::Relaxed);
    // SAFETY: only the trap flag changes, and the handler clears it again.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", ".rept 200", "nop", ".endr",) };
    let steps = STEPS.load(Ordering::Relaxed);
    ensure!(steps == 101, "{steps} single steps, not 101");
    Ok(())
}

/// Checks that the GS base and the local descriptor table stay those of the thread, over context
/// switches.
fn keep_segments(yields: u64) -> Result<(), String> {
    const ARCH_SET_GS: i32 = 0x1001;
    let others: Vec<_> = (0..2 * os::processors() as u64)
        .map(|n| thread::spawn(move || keep_own_segments(0x5e6_0000 + n, yields)))
        .collect();
    others.into_iter().try_for_each(|t| t.join().map_err(|_| "a thread panicked".to_owned())?)?;

    fn keep_own_segments(mark: u64, yields: u64) -> Result<(), String> {
        let words = Mapping::low(2)?;
        words.write(0, mark);
        words.write(1, !mark);
        // SAFETY: only the GS base changes, which nothing else in this program uses.
        let set = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, words.address()) };
        ensure!(set == 0, "arch_prctl fails");
        for _ in 0..yields {
            let word: u64;
            // SAFETY: the GS base is the mapping's first page.
            unsafe { asm!("mov {}, gs:[0]", out(reg) word) };
            ensure!(word == mark, "the GS base is another thread's: {word:#x}");
            thread::yield_now();
        }
        // `struct user_desc`: entry number, base, limit, and the bits seg_32bit, limit_in_pages
        // and useable.
        let entry = (mark % 64) as u32;
        let base = (words.address() + PAGE) as u32;
        let descriptor = [entry, base, 0xf_ffff, 1 | 1 << 4 | 1 << 6];
        // SAFETY: the kernel reads 16 bytes.
        let set = unsafe { libc::syscall(libc::SYS_modify_ldt, 1, descriptor.as_ptr(), 16) };
        ensure!(set == 0, "modify_ldt: {}", std::io::Error::last_os_error());
        let selector = (entry as u16) << 3 | 7;
        for _ in 0..yields {
            let word: u64;
            // SAFETY: the descriptor's base is the mapping's second page.
            unsafe {
                asm!("mov gs, {selector:x}", "mov {word}, gs:[0]",
                    selector = in(reg) selector, word = out(reg) word);
            };
            ensure!(word == !mark, "LDT entry {entry} has another base: {word:#x}");
            thread::yield_now();
        }
        // SAFETY: as above; the null selector can always be loaded.
        unsafe { asm!("mov gs, {:x}", in(reg) 0u16) };
        Ok(())
    }
    Ok(())
}

/// Checks that vector registers keep their contents over system calls and context switches.
fn keep_vector_registers(yields: u64) -> Result<(), String> {
    fn are_kept(mark: u64, yields: u64) -> bool {
        let pattern = [mark, !mark, mark.rotate_left(13), mark ^ 0x5555];
        let avx = std::arch::is_x86_feature_detected!("avx");
        (0..yields).all(|_| {
            let mut back = [0u64; 4];
            // SAFETY: sched_yield between a load and a store of declared registers.
            unsafe {
                if avx {
                    asm!("vmovdqu ymm15, [{from}]", "syscall", "vmovdqu [{to}], ymm15",
                        from = in(reg) &raw const pattern, to = in(reg) &raw mut back,
                        inlateout("rax") libc::SYS_sched_yield => _,
                        lateout("rcx") _, lateout("r11") _, out("ymm15") _);
                } else {
                    asm!("movdqu xmm15, [{from}]", "movdqu xmm14, [{from} + 16]", "syscall",
                        "movdqu [{to}], xmm15", "movdqu [{to} + 16], xmm14",
                        from = in(reg) &raw const pattern, to = in(reg) &raw mut back,
                        inlateout("rax") libc::SYS_sched_yield => _,
                        lateout("rcx") _, lateout("r11") _, out("xmm14") _, out("xmm15") _);
                }
            }
            back == pattern
        })
    }
    let threads: Vec<_> = (0..2 * os::processors() as u64)
        .map(|n| thread::spawn(move || are_kept(0x0123_4567_89ab_cdef ^ n << 48, 10 * yields)))
        .collect();
    for thread in threads {
        let kept = thread.join().map_err(|_| "a thread panicked".to_owned())?;
        ensure!(kept, "a vector register changed over a system call");
    }
    Ok(())
}
