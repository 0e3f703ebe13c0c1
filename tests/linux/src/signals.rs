//! Signals: exact counts, timers, and faults that a handler mends.

use crate::os::{self, Access, Mapping, PAGE};
use crate::{Outcome, must};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Signals that the counting handler got.
static COUNTED: AtomicU64 = AtomicU64::new(0);
/// Faults that the mending handler mended.
static MENDED: AtomicU64 = AtomicU64::new(0);
/// The pages that it may mend: first address and end.
static MENDABLE: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

extern "C" fn count(_: i32, _: &libc::siginfo_t, _: &mut libc::ucontext_t) {
    COUNTED.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn mend(_: i32, info: &libc::siginfo_t, _: &mut libc::ucontext_t) {
    // SAFETY: the kernel fills the address for this signal.
    let page = unsafe { info.si_addr() } as usize & !(PAGE - 1);
    let [start, end] = [0, 1].map(|n| MENDABLE[n].load(Ordering::Relaxed));
    if !(start..end).contains(&page) {
        // A fault of this program's own: what would come is the same fault again, for ever.
        // SAFETY: it only ends the process.
        unsafe { libc::_exit(99) };
    }
    // SAFETY: the page belongs to the mapping of `faults`, which waits for this.
    unsafe { libc::mprotect(page as *mut _, PAGE, libc::PROT_READ | libc::PROT_WRITE) };
    MENDED.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn run(rounds: u64) -> Outcome {
    let sent = exact(rounds * 500)?;
    let ticks = timer(rounds)?;
    let mended = faults(rounds)?;
    Ok(format!("sent={sent} ticked={} mended={mended}", ticks > 0))
}

/// Each signal sent to oneself is handled before the call returns.
fn exact(count_of: u64) -> Result<u64, String> {
    os::handle(libc::SIGUSR1, count);
    COUNTED.store(0, Ordering::Relaxed);
    for sent in 1..=count_of {
        // SAFETY: a signal that has a handler, to this thread.
        unsafe { libc::raise(libc::SIGUSR1) };
        let seen = COUNTED.load(Ordering::Relaxed);
        must!(seen == sent, "{sent} signals sent, {seen} handled");
    }
    Ok(count_of)
}

/// A timer's signals come while a computation runs, and leave it as it is.
fn timer(rounds: u64) -> Result<u64, String> {
    os::handle(libc::SIGALRM, count);
    COUNTED.store(0, Ordering::Relaxed);
    let every = |micros| {
        let value = libc::timeval { tv_sec: 0, tv_usec: micros };
        let timer = libc::itimerval { it_interval: value, it_value: value };
        // SAFETY: the kernel reads one structure.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) }
    };
    let sum = || (1..20_000u64).fold(1.0f64, |sum, n| sum * 0.9999 + 1.0 / n as f64);
    let expected = sum();
    must!(every(4_000) == 0, "setitimer fails");
    let started = Instant::now();
    let mut wrong = 0;
    while started.elapsed() < Duration::from_millis(30 * rounds) {
        wrong += u64::from(sum().to_bits() != expected.to_bits());
    }
    every(0);
    let ticks = COUNTED.load(Ordering::Relaxed);
    must!(wrong == 0, "a computation went wrong {wrong} times while signals came");
    // At least one in twenty: a busy host may run this machine seldom.
    let least = 30 * rounds / 4 / 20;
    must!(ticks >= least, "{ticks} ticks of 4 ms in {} ms", 30 * rounds);
    Ok(ticks)
}

/// Every page faults once, the handler lets it through, and the instruction is done again.
fn faults(rounds: u64) -> Result<u64, String> {
    const PAGES: usize = 256;
    let stack = Mapping::new(16, Access::ReadWrite)?;
    let alternate = libc::stack_t {
        ss_sp: stack.address() as *mut _,
        ss_flags: 0,
        ss_size: stack.pages() * PAGE,
    };
    // SAFETY: the stack outlives its use: it is given up below.
    must!(unsafe { libc::sigaltstack(&alternate, std::ptr::null_mut()) } == 0, "sigaltstack fails");
    os::handle(libc::SIGSEGV, mend);
    let memory = Mapping::new(PAGES, Access::None)?;
    MENDABLE[0].store(memory.address(), Ordering::Relaxed);
    MENDABLE[1].store(memory.address() + PAGES * PAGE, Ordering::Relaxed);
    MENDED.store(0, Ordering::Relaxed);
    for round in 0..rounds {
        memory.protect(0, PAGES, Access::None)?;
        (0..PAGES).for_each(|page| memory.write(page, round ^ page as u64));
        must!(
            (0..PAGES).all(|page| memory.read(page) == round ^ page as u64),
            "a write that was let through is not there"
        );
    }
    let off = libc::stack_t { ss_flags: libc::SS_DISABLE, ..alternate };
    // SAFETY: nothing runs on that stack here.
    unsafe { libc::sigaltstack(&off, std::ptr::null_mut()) };
    let (mended, expected) = (MENDED.load(Ordering::Relaxed), rounds * PAGES as u64);
    must!(mended == expected, "{mended} faults, not {expected}");
    Ok(mended)
}
