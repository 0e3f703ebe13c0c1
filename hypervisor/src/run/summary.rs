//! How each domain ended, how the run ended, and the end of the machine.

use crate::arch::{self, ipi, spec_ctrl};
use crate::backend::console::keyboard;
use crate::console::log::write_record;
use crate::console::{buffer, serial};
use crate::diagnostics::audit;
use crate::domain::Domain;
use crate::domain::shutdown_reason::{ShutdownReason, reason_name};
use crate::machine;
use crate::memory::{heap, isolation};
use crate::time::latency;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use pinfold_abi::record::{Dropped, End, Shutdown, Text, Who};
use pinfold_abi::sched;

/// How many guests ended in which way.
struct Tally {
    /// Guests in the manifest.
    guests: AtomicUsize,
    /// Those whose memory isn't freed yet.
    left: AtomicUsize,
    /// Powered off.
    ok: AtomicUsize,
    /// Reported a failure of their own.
    failed: AtomicUsize,
    /// Ended by the hypervisor, or not started.
    crashed: AtomicUsize,
    /// Alias violations of all guests.
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
    super::teardown::reserve(guests);
}

/// The memory of a domain is freed. After the last domain the machine stops.
pub fn gone() {
    if TALLY.left.fetch_sub(1, Ordering::AcqRel) == 1 {
        // The audit keeps nobody waiting: don't measure it.
        arch::latency::end_span();
        ipi::stop_machine(|| audit::run(None));
        audit::report_leftovers();
        isolation::report();
        heap::report_late_allocations();
        finish();
    }
}

/// Logs and counts how a domain ended.
pub fn close(domain: &Domain) {
    domain.console.lock().close();
    keyboard::ended(domain.id);
    let dropped = domain.log_limit.dropped();
    if dropped != 0 {
        let record = Dropped { records: dropped, cause: "rate_limit", source: None };
        write_record(domain.who(), &record);
    }
    buffer::append_dropped(Some(domain.id.get()));
    TALLY.aliases.fetch_add(domain.stats.aliases.get(), Ordering::Relaxed);
    let Some(ShutdownReason::Shutdown(reason)) = domain.lifecycle.shutdown_reason() else {
        TALLY.crashed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let good = matches!(reason, sched::SHUTDOWN_POWEROFF | sched::SHUTDOWN_REBOOT);
    let count = if good { &TALLY.ok } else { &TALLY.failed };
    count.fetch_add(1, Ordering::Relaxed);
    let record = Shutdown {
        name: Text::Str(&domain.name),
        reason: reason_name(reason),
        pins: domain.stats.pins.get(),
        refused: domain.stats.pins_refused.get(),
        aliases: domain.stats.aliases.get(),
        healed: domain.stats.healed.get(),
    };
    write_record(domain.who(), &record);
}

/// Logs how all guests ended, and stops the machine.
pub fn finish() -> ! {
    let counts = [&TALLY.guests, &TALLY.ok, &TALLY.failed, &TALLY.crashed]
        .map(|count| count.load(Ordering::Relaxed));
    let aliases = TALLY.aliases.load(Ordering::Relaxed);
    spec_ctrl::report();
    // With everything else written, the buffer has room for what follows.
    serial::flush();
    buffer::append_dropped(None);
    latency::report();
    let [guests, ok, failed, crashed] = counts.map(|count| count as u64);
    write_record(Who::Hypervisor, &End { guests, ok, failed, crashed, aliases });
    machine::end(if ok == guests {
        machine::RunResult::Success
    } else {
        machine::RunResult::Failure
    })
}
