//! Why and how a domain ends.

use super::Domain;
use super::vcpu::Vcpu;
use crate::arch::{self, barriers, ipi};
use crate::backend::console::keyboard;
use crate::console::log::{record, write};
use crate::console::{buffer, serial};
use crate::diagnostics::audit;
use crate::event::ports;
use crate::machine;
use crate::memory::{guest, heap, isolation};
use crate::run::teardown;
use crate::time::{latency, timers};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use pinfold_abi::record::{Who, kind};
use pinfold_abi::sched;

/// Why a domain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// It said so, with a reason of the ABI.
    Shutdown(u32),
    /// It left the hypervisor no way to go on with it.
    Crash(&'static str),
}

/// Name of a shutdown reason.
fn reason_name(reason: u32) -> &'static str {
    match reason {
        sched::SHUTDOWN_POWEROFF => "poweroff",
        sched::SHUTDOWN_REBOOT => "reboot",
        sched::SHUTDOWN_SUSPEND => "suspend",
        sched::SHUTDOWN_CRASH => "crash",
        sched::SHUTDOWN_WATCHDOG => "watchdog",
        _ => "soft-reset",
    }
}

/// Writes the records of a crash: registers, and the top of the stack if it can be read. The
/// vCPU's address space must be loaded.
pub fn report_crash(vcpu: &Vcpu, why: &'static str) {
    let who = vcpu.who();
    let regs = &vcpu.file.regs;
    record!(
        who,
        CRASH,
        "name={:?} reason=\"{why}\" mode={} rip={:#x} vector={} error={:#x} cr2={:#x} cs={:#x} ss={:#x} rflags={:#x} cr3={:#x}",
        vcpu.domain.name,
        vcpu.mode.name(),
        regs.rip,
        regs.vector,
        regs.error_code,
        vcpu.last_fault_address,
        regs.cs,
        regs.ss,
        regs.rflags,
        vcpu.root().get() << 12
    );
    crate::panic::dump(regs, |line| {
        write(who, kind::DUMP, line);
    });
    for row in 0..4u64 {
        let at = regs.rsp.wrapping_add(row * 32);
        let mut words = [0u8; 32];
        if guest::read_bytes(&mut words, at).is_err() {
            record!(who, DUMP, "stack={at:#x} unreadable=yes");
            return;
        }
        let word = |i: usize| u64::from_le_bytes(words[i * 8..][..8].try_into().expect("8 bytes"));
        record!(
            who,
            DUMP,
            "stack={at:#x} words={:#018x},{:#018x},{:#018x},{:#018x}",
            word(0),
            word(1),
            word(2),
            word(3)
        );
    }
}

/// How many guests ended how.
struct Tally {
    /// Guests in the manifest.
    guests: AtomicUsize,
    /// Those that still have memory.
    left: AtomicUsize,
    /// Powered off.
    ok: AtomicUsize,
    /// Reported a failure of their own.
    failed: AtomicUsize,
    /// Ended by the hypervisor, or not startable.
    crashed: AtomicUsize,
    /// Alias violations of all of them.
    aliases: AtomicU64,
}

static TALLY: Tally = Tally {
    guests: AtomicUsize::new(0),
    left: AtomicUsize::new(0),
    ok: AtomicUsize::new(0),
    failed: AtomicUsize::new(0),
    crashed: AtomicUsize::new(0),
    aliases: AtomicU64::new(0),
};

/// Counts a guest that could not be started.
pub fn count_unstarted() {
    TALLY.guests.fetch_add(1, Ordering::Relaxed);
    TALLY.crashed.fetch_add(1, Ordering::Relaxed);
}

/// Counts the guests that are about to run.
pub fn expect(guests: usize) {
    TALLY.guests.fetch_add(guests, Ordering::Relaxed);
    TALLY.left.fetch_add(guests, Ordering::Relaxed);
    teardown::reserve(guests);
}

/// Drops a vCPU whose domain ended; with the last one the domain's memory begins to go. The vCPU
/// isn't loaded.
pub fn destroy_vcpu(vcpu: Box<Vcpu>) {
    let domain = vcpu.domain.clone();
    teardown::drop_vcpu(vcpu);
    // AcqRel: who drops the last one sees what the others did.
    if domain.states.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
    ports::reset(&domain);
    // A watchdog is a timer of vCPU 0's, whichever armed it last.
    for slot in &domain.slots {
        timers::disarm_all(&domain, slot.id);
    }
    teardown::begin(domain);
}

/// The memory of a domain is free. With the last domain the machine stops.
pub fn gone() {
    if TALLY.left.fetch_sub(1, Ordering::AcqRel) == 1 {
        // Nobody is left to keep waiting.
        arch::latency::end();
        ipi::stop_machine(|| audit::run(None));
        audit::report_leftovers();
        isolation::report();
        heap::report_late_allocations();
        finish();
    }
}

/// Says how a domain ended, and counts it.
pub fn close(domain: &Domain) {
    domain.console.lock().close();
    keyboard::ended(domain.id);
    let dropped = domain.log_limit.dropped();
    if dropped != 0 {
        record!(domain.who(), DROPPED, "records={dropped} cause=rate_limit");
    }
    buffer::tell_dropped(Some(domain.id.get()));
    TALLY.aliases.fetch_add(domain.stats.aliases.get(), Ordering::Relaxed);
    let Some(ShutdownReason::Shutdown(reason)) = domain.ending.get() else {
        TALLY.crashed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let good = matches!(*reason, sched::SHUTDOWN_POWEROFF | sched::SHUTDOWN_REBOOT);
    let count = if good { &TALLY.ok } else { &TALLY.failed };
    count.fetch_add(1, Ordering::Relaxed);
    record!(
        domain.who(),
        SHUTDOWN,
        "name={:?} reason={} pins={} refused={} aliases={} healed={}",
        domain.name,
        reason_name(*reason),
        domain.stats.pins.get(),
        domain.stats.pins_refused.get(),
        domain.stats.aliases.get(),
        domain.stats.healed.get()
    );
}

/// Says how all ended, and stops the machine.
pub fn finish() -> ! {
    let [guests, ok, failed, crashed] = [&TALLY.guests, &TALLY.ok, &TALLY.failed, &TALLY.crashed]
        .map(|count| count.load(Ordering::Relaxed));
    let aliases = TALLY.aliases.load(Ordering::Relaxed);
    barriers::report();
    // With everything else out there is room to tell all that is left to tell.
    serial::flush_all();
    buffer::tell_dropped(None);
    latency::report();
    record!(
        Who::Hypervisor,
        END,
        "guests={guests} ok={ok} failed={failed} crashed={crashed} aliases={aliases}"
    );
    machine::end(if ok == guests { machine::RunResult::Good } else { machine::RunResult::Bad })
}
