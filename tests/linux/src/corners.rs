//! Corners: instructions and ways into the kernel that a PV hypervisor has a hand in.
//!
//! Each forbidden thing must end in a signal and nothing else. Which signal, and with which trap,
//! is printed as `CORNER what=... signal=... trap=...`, so that two hypervisors can be held against each
//! other.

use crate::os::{self, Mapping};
use crate::{Outcome, must};
use std::arch::asm;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::thread;

/// The signal of the last fault; 0 for none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Its trap number and error code.
static TRAP: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// Bytes that the handler skips.
static SKIP: AtomicU64 = AtomicU64::new(0);
/// Single steps that were taken.
static STEPS: AtomicU64 = AtomicU64::new(0);
/// The trap flag in the flags register.
const TRAP_FLAG: i64 = 0x100;

extern "C" fn skip(signal: i32, _: &libc::siginfo_t, context: &mut libc::ucontext_t) {
    let registers = &mut context.uc_mcontext.gregs;
    SIGNAL.store(signal, Ordering::Relaxed);
    TRAP[0].store(registers[libc::REG_TRAPNO as usize] as u64, Ordering::Relaxed);
    TRAP[1].store(registers[libc::REG_ERR as usize] as u64, Ordering::Relaxed);
    let rip = &mut registers[libc::REG_RIP as usize];
    if *rip & !0xfff == VSYSCALL_PAGE as i64 {
        // No page is there: the way on is the way back, and the return address is on the stack.
        let stack = registers[libc::REG_RSP as usize];
        // SAFETY: the call that led to the page has just written it.
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

/// The page that has had an address of its own since the first 64-bit kernels.
const VSYSCALL_PAGE: usize = 0xffff_ffff_ff60_0000;

/// Runs an instruction of `$bytes` bytes that must fault, and tells how.
macro_rules! faults {
    ($name:literal, $bytes:literal, $code:literal $(, $operand:tt = $value:expr)*) => {{
        SIGNAL.store(0, Ordering::Relaxed);
        SKIP.store($bytes, Ordering::Relaxed);
        // SAFETY: the instruction faults before it changes anything, and the handler goes on
        // behind it; where it does not fault, the registers it may change are given up here.
        unsafe {
            asm!($code $(, in($operand) $value)*, lateout("rax") _, lateout("rcx") _, lateout("rdx") _)
        };
        let signal = SIGNAL.load(Ordering::Relaxed);
        let [trap, code] = [0, 1].map(|n| TRAP[n].load(Ordering::Relaxed));
        println!("CORNER what={} signal={signal} trap={trap} code={code:#x}", $name);
        must!(signal != 0, "{} went through", $name);
    }};
}

pub(crate) fn run(rounds: u64) -> Outcome {
    let signals = [libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGBUS, libc::SIGTRAP];
    signals.iter().for_each(|signal| os::handle(*signal, skip));
    forbidden()?;
    ways_in()?;
    single_steps()?;
    // From here on a fault is wrong, and skipping what faulted would only hide it.
    signals.iter().for_each(|signal| os::leave(*signal));
    segments(rounds * 20)?;
    vectors(rounds * 20)?;
    Ok(format!("steps={}", STEPS.load(Ordering::Relaxed)))
}

fn forbidden() -> Result<(), String> {
    faults!("hlt", 1, "hlt");
    faults!("cli", 1, "cli");
    faults!("sti", 1, "sti");
    faults!("in", 1, "in al, dx", "dx" = 0x3f8u16);
    faults!("out", 1, "out dx, al", "dx" = 0x80u16, "al" = 0u8);
    faults!("rdmsr", 2, "rdmsr", "ecx" = 0xc000_0080u32);
    faults!("wrmsr", 2, "wrmsr", "ecx" = 0xc000_0080u32, "eax" = 0, "edx" = 0);
    faults!("wbinvd", 2, "wbinvd");
    faults!("invlpg", 3, "invlpg [rdi]", "rdi" = 0);
    faults!("clts", 2, "clts");
    faults!("read-cr0", 3, "mov rax, cr0");
    faults!("read-cr3", 3, "mov rax, cr3");
    faults!("write-cr3", 3, "mov cr3, rax", "rax" = 0u64);
    faults!("write-cr4", 3, "mov cr4, rax", "rax" = 0u64);
    faults!("read-dr7", 3, "mov rax, dr7");
    faults!("swapgs", 3, "swapgs");
    faults!("xsetbv", 3, "xsetbv", "ecx" = 0, "eax" = 7, "edx" = 0);
    faults!("vmcall", 3, "vmcall");
    faults!("ud2", 2, "ud2");
    faults!("divide", 2, "div ecx", "ecx" = 0, "eax" = 1, "edx" = 0);
    faults!("int3", 0, "int3");
    // A vector below 0x10 only: in long mode QEMU 7.2's translator makes the error code of a
    // forbidden `int N` from 16 N instead of 8 N, and Xen takes the vector from there, beyond its
    // table for a large N.
    faults!("int-0x0d", 2, "int 0x0d");
    faults!("read-null", 2, "mov al, [rdi]", "rdi" = 0);
    faults!("read-hole", 2, "mov al, [rdi]", "rdi" = 0x8000_0000_0000u64);
    faults!("read-hypervisor", 2, "mov al, [rdi]", "rdi" = 0xffff_8000_0000_0000u64);
    faults!("write-hypervisor", 2, "mov [rdi], al", "rdi" = 0xffff_8300_0000_0000u64);
    faults!("read-kernel", 2, "mov al, [rdi]", "rdi" = 0xffff_ffff_8100_0000u64);
    faults!("write-vsyscall", 2, "mov [rdi], al", "rdi" = 0xffff_ffff_ff60_0000u64);
    faults!("segment-hypervisor", 2, "mov ds, eax", "eax" = 0xe008u32);
    faults!("segment-beyond", 2, "mov ds, eax", "eax" = 0xfff8u32);
    Ok(())
}

/// The other ways into the kernel than `syscall`.
fn ways_in() -> Result<(), String> {
    let own = std::process::id();
    for _ in 0..100 {
        let number: u32;
        // SAFETY: the 32-bit system call 20, getpid, which changes nothing but rax.
        unsafe {
            asm!("int 0x80", inlateout("eax") 20u32 => number, lateout("r8") _, lateout("r9") _,
                lateout("r10") _, lateout("r11") _)
        };
        must!(number == own, "getpid by int 0x80 gives {number}, not {own}");
    }
    SIGNAL.store(0, Ordering::Relaxed);
    // SAFETY: the kernel carries the call out instead of the page, or faults it, and then the
    // handler comes back.
    let seconds = unsafe {
        let time: extern "C" fn(usize) -> i64 = std::mem::transmute(VSYSCALL_PAGE + 0x400);
        time(0)
    };
    let signal = SIGNAL.load(Ordering::Relaxed);
    println!("CORNER what=vsyscall signal={signal}");
    if signal != 0 {
        // The kernel was built or started without it.
        return Ok(());
    }
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs() as i64);
    must!((now - 2..=now).contains(&seconds), "the vsyscall page says {seconds}, it is {now}");
    Ok(())
}

/// With the trap flag set, each instruction ends in a signal.
fn single_steps() -> Result<(), String> {
    os::handle(libc::SIGTRAP, step);
    STEPS.store(0, Ordering::Relaxed);
    // SAFETY: only the trap flag changes, and the handler takes it away again.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", ".rept 200", "nop", ".endr",) };
    let steps = STEPS.load(Ordering::Relaxed);
    must!(steps == 101, "{steps} single steps, not 101");
    Ok(())
}

/// Segment bases and the local descriptor table stay this thread's own.
fn segments(yields: u64) -> Result<(), String> {
    const ARCH_SET_GS: i32 = 0x1001;
    let others: Vec<_> = (0..2 * os::processors() as u64)
        .map(|n| thread::spawn(move || own_segments(0x5e6_0000 + n, yields)))
        .collect();
    others.into_iter().try_for_each(|t| t.join().map_err(|_| "a thread panicked".to_owned())?)?;

    fn own_segments(mark: u64, yields: u64) -> Result<(), String> {
        let words = Mapping::low(2)?;
        words.write(0, mark);
        words.write(1, !mark);
        // SAFETY: only GS changes, which nothing in this program uses.
        let set = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, words.address()) };
        must!(set == 0, "arch_prctl fails");
        for _ in 0..yields {
            let word: u64;
            // SAFETY: GS points to the mapping's first page.
            unsafe { asm!("mov {}, gs:[0]", out(reg) word) };
            must!(word == mark, "the base of GS became another thread's: {word:#x}");
            thread::yield_now();
        }
        // `struct user_desc`: entry, base, limit, and bits: 32-bit, limit in pages, usable.
        let entry = (mark % 64) as u32;
        let base = (words.address() + os::PAGE) as u32;
        let descriptor = [entry, base, 0xf_ffff, 1 | 1 << 4 | 1 << 6];
        // SAFETY: the kernel reads 16 bytes.
        let set = unsafe { libc::syscall(libc::SYS_modify_ldt, 1, descriptor.as_ptr(), 16) };
        must!(set == 0, "modify_ldt: {}", std::io::Error::last_os_error());
        let selector = (entry as u16) << 3 | 7;
        for _ in 0..yields {
            let word: u64;
            // SAFETY: the descriptor's base is the mapping's second page.
            unsafe {
                asm!("mov gs, {selector:x}", "mov {word}, gs:[0]",
                    selector = in(reg) selector, word = out(reg) word)
            };
            must!(word == !mark, "the local descriptor {entry} points elsewhere: {word:#x}");
            thread::yield_now();
        }
        // SAFETY: as above; the null selector may always be loaded.
        unsafe { asm!("mov gs, {:x}", in(reg) 0u16) };
        Ok(())
    }
    Ok(())
}

/// The wide registers are this thread's own, over system calls and among other threads.
fn vectors(yields: u64) -> Result<(), String> {
    fn kept(mark: u64, yields: u64) -> bool {
        let pattern = [mark, !mark, mark.rotate_left(13), mark ^ 0x5555];
        let wide = std::arch::is_x86_feature_detected!("avx");
        (0..yields).all(|_| {
            let mut back = [0u64; 4];
            // SAFETY: sched_yield between a load and a store of two registers that are given up.
            unsafe {
                if wide {
                    asm!("vmovdqu ymm15, [{from}]", "syscall", "vmovdqu [{to}], ymm15",
                        from = in(reg) &pattern, to = in(reg) &mut back,
                        inlateout("rax") libc::SYS_sched_yield => _,
                        lateout("rcx") _, lateout("r11") _, out("ymm15") _);
                } else {
                    asm!("movdqu xmm15, [{from}]", "movdqu xmm14, [{from} + 16]", "syscall",
                        "movdqu [{to}], xmm15", "movdqu [{to} + 16], xmm14",
                        from = in(reg) &pattern, to = in(reg) &mut back,
                        inlateout("rax") libc::SYS_sched_yield => _,
                        lateout("rcx") _, lateout("r11") _, out("xmm14") _, out("xmm15") _);
                }
            }
            back == pattern
        })
    }
    let threads: Vec<_> = (0..2 * os::processors() as u64)
        .map(|n| thread::spawn(move || kept(0x0123_4567_89ab_cdef ^ n << 48, 10 * yields)))
        .collect();
    for thread in threads {
        let kept = thread.join().map_err(|_| "a thread panicked".to_owned())?;
        must!(kept, "a wide register changed over a system call");
    }
    Ok(())
}
