//! Signals: exact counts, timers, and faults that a handler resolves.

use crate::os::{self, Access, Mapping, PAGE};
use crate::{Outcome, ensure};
use rustix::mm::{MprotectFlags, mprotect};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Signals that [`count`] has handled.
static COUNTED: AtomicU64 = AtomicU64::new(0);
/// Faults that [`make_writable`] has resolved.
static RESOLVED: AtomicU64 = AtomicU64::new(0);
/// Where it may: first address and end.
static PROTECTED: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

extern "C" fn count(_: i32, _: &libc::siginfo_t, _: &mut libc::ucontext_t) {
    COUNTED.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn make_writable(_: i32, info: &libc::siginfo_t, _: &mut libc::ucontext_t) {
    // SAFETY: the kernel sets the address for this signal.
    let page = unsafe { info.si_addr() } as usize & !(PAGE - 1);
    let [start, end] = [0, 1].map(|n| PROTECTED[n].load(Ordering::Relaxed));
    if !(start..end).contains(&page) {
        // A bug of this program: the instruction would fault again for ever.
        // SAFETY: it only ends the process.
        unsafe { libc::_exit(99) };
    }
    let access = MprotectFlags::READ | MprotectFlags::WRITE;
    // SAFETY: the page belongs to the mapping of `resolve_faults`. An error shows as a page whose
    // fault is never resolved.
    let _ = unsafe { mprotect(page as *mut _, PAGE, access) };
    RESOLVED.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn run(rounds: u64) -> Outcome {
    let sent = raise_signals(rounds * 500)?;
    let ticks = compute_under_timer(rounds)?;
    let resolved = resolve_faults(rounds)?;
    Ok(format!("sent={sent} ticked={} resolved={resolved}", ticks > 0))
}

/// Raises signals: each must be handled before the call returns.
fn raise_signals(total: u64) -> Result<u64, String> {
    os::set_handler(libc::SIGUSR1, count);
    COUNTED.store(0, Ordering::Relaxed);
    for sent in 1..=total {
        // SAFETY: the signal has a handler.
        unsafe { libc::raise(libc::SIGUSR1) };
        let seen = COUNTED.load(Ordering::Relaxed);
        ensure!(seen == sent, "{sent} signals sent, {seen} handled");
    }
    Ok(total)
}

/// Computes while a timer's signals come in: they must not change the result. Returns the number
/// of signals.
fn compute_under_timer(rounds: u64) -> Result<u64, String> {
    os::set_handler(libc::SIGALRM, count);
    COUNTED.store(0, Ordering::Relaxed);
    let set_interval_us = |micros| {
        let value = libc::timeval { tv_sec: 0, tv_usec: micros };
        let timer = libc::itimerval { it_interval: value, it_value: value };
        // SAFETY: the kernel reads one structure.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) }
    };
    let sum = || (1..20_000u64).fold(1.0f64, |sum, n| sum * 0.9999 + 1.0 / n as f64);
    let expected = sum();
    ensure!(set_interval_us(4_000) == 0, "setitimer fails");
    let started = Instant::now();
    let mut wrong = 0;
    while started.elapsed() < Duration::from_millis(30 * rounds) {
        wrong += u64::from(sum().to_bits() != expected.to_bits());
    }
    set_interval_us(0);
    let ticks = COUNTED.load(Ordering::Relaxed);
    ensure!(wrong == 0, "a computation went wrong {wrong} times while signals came");
    // At least one in twenty: on a busy host the machine may run seldom.
    let least = 30 * rounds / 4 / 20;
    ensure!(ticks >= least, "{ticks} ticks of 4 ms in {} ms", 30 * rounds);
    Ok(ticks)
}

/// Writes to inaccessible pages: each faults once, the handler makes it writable, and the
/// instruction is executed again. Returns the number of faults.
fn resolve_faults(rounds: u64) -> Result<u64, String> {
    const PAGES: usize = 256;
    let stack = Mapping::new(16, Access::ReadWrite)?;
    let alternate = libc::stack_t {
        ss_sp: stack.address() as *mut _,
        ss_flags: 0,
        ss_size: stack.pages() * PAGE,
    };
    // SAFETY: the stack outlives its use: it is disabled below.
    let set = unsafe { libc::sigaltstack(&raw const alternate, std::ptr::null_mut()) };
    ensure!(set == 0, "sigaltstack fails");
    os::set_handler(libc::SIGSEGV, make_writable);
    let memory = Mapping::new(PAGES, Access::None)?;
    PROTECTED[0].store(memory.address(), Ordering::Relaxed);
    PROTECTED[1].store(memory.address() + PAGES * PAGE, Ordering::Relaxed);
    RESOLVED.store(0, Ordering::Relaxed);
    for round in 0..rounds {
        memory.protect(0, PAGES, Access::None)?;
        (0..PAGES).for_each(|page| memory.write(page, round ^ page as u64));
        ensure!(
            (0..PAGES).all(|page| memory.read(page) == round ^ page as u64),
            "a write whose fault was resolved is missing"
        );
    }
    let off = libc::stack_t { ss_flags: libc::SS_DISABLE, ..alternate };
    // SAFETY: no handler runs on that stack now.
    unsafe { libc::sigaltstack(&raw const off, std::ptr::null_mut()) };
    let (resolved, expected) = (RESOLVED.load(Ordering::Relaxed), rounds * PAGES as u64);
    ensure!(resolved == expected, "{resolved} faults, not {expected}");
    Ok(resolved)
}
