//! Fills the log, and measures what that costs other domains.

use pinfold_abi::errno::Errno;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::{Boot, event, time};
use pinfold_guest::fixtures::{RW, TableFixture};
use pinfold_guest::hypercall::sched::Exit;
use pinfold_guest::println;

/// Default duration: at 115,200 baud a flood fills any buffer in that time.
const SECONDS: u64 = 8;
/// Mappings of the refused frame: as many as a report lists.
const MAPPINGS: usize = 64;
/// A pause longer than this is a stall: a few times the longest time slice of the other domain.
const STALL_NS: u64 = 100_000_000;

/// How often the measuring guest prints a line: far less than a slow port transmits.
const LINE_NS: u64 = 200_000_000;

/// Lines that are printed by default: several times what a guest's share of the log's buffer
/// holds.
const LINES: u64 = 400;

fn duration_ns(boot: &Boot) -> u64 {
    boot.number("seconds", SECONDS) * 1_000_000_000
}

/// Pins a frame that has many writable mappings, again and again: each time the hypervisor refuses,
/// and writes about 10 KB to its log.
pub(crate) fn run(boot: &Boot) -> Exit {
    if event::init(boot).is_err() {
        println!("VERDICT fail guest=misbehave reason=no-clock");
        return Exit::Crash;
    }
    let mut fixture = TableFixture::new(Frames::new(boot));
    let (aliases, page) = (fixture.frame(), fixture.frame());
    for index in 0..MAPPINGS {
        fixture.set(aliases, index, fixture.entry(page, RW));
    }
    fixture.seal(aliases);
    let pinned = fixture.pin(aliases, 1);
    let end = time::raw().saturating_add(duration_ns(boot));
    let (mut refused, mut other) = (0u64, 0u64);
    while time::raw() < end {
        match fixture.pin(page, 1) {
            result if result == Errno::EINVAL.as_result() => refused += 1,
            _ => other += 1,
        }
    }
    if pinned == 0 && refused > 0 && other == 0 {
        println!("VERDICT pass guest=misbehave refused={refused}");
        return Exit::PowerOff;
    }
    println!("VERDICT fail guest=misbehave pinned={pinned} refused={refused} other={other}");
    Exit::Crash
}

/// Prints line after line by hypercall. No line may be lost, however slow the port is, so the call
/// must wait.
pub(crate) fn print(boot: &Boot) -> Exit {
    for line in 1..=boot.number("lines", LINES) {
        println!("misbehave: line {line}, which is as long as lines of a kernel usually are");
    }
    println!("VERDICT pass guest=misbehave");
    Exit::PowerOff
}

/// Reads the clock all the time, and measures how much of the time it could not run. Half of it
/// belongs to another domain on the same processor, in slices far shorter than a stall.
pub(crate) fn measure(boot: &Boot) -> Exit {
    if event::init(boot).is_err() {
        println!("VERDICT fail guest=misbehave reason=no-clock");
        return Exit::Crash;
    }
    let mut fixture = TableFixture::new(Frames::new(boot));
    let page = fixture.frame();
    let begin = time::raw();
    let end = begin.saturating_add(duration_ns(boot));
    let (mut last, mut longest, mut stalled, mut stalls) = (begin, 0, 0, 0u64);
    let mut reported = false;
    let mut next_line = begin;
    while last < end {
        // It prints as well, so that it needs the port that the other domain keeps busy.
        if last >= next_line {
            println!("misbehave: at {} ms", (last - begin) / 1_000_000);
            next_line = last + LINE_NS;
        }
        if !reported && last > begin + duration_ns(boot) / 2 {
            // Causes a report of its own, in the middle of the other domain's flood.
            fixture.pin(page, 1);
            println!("misbehave: in the middle");
            reported = true;
        }
        let now = time::raw();
        let pause = now.saturating_sub(last);
        longest = longest.max(pause);
        if pause > STALL_NS {
            stalled += pause;
            stalls += 1;
        }
        last = now;
    }
    let total = last.saturating_sub(begin).max(1);
    let verdict = if stalled > total / 2 { "fail" } else { "pass" };
    println!(
        "VERDICT {verdict} guest=misbehave total_ms={} stalled_ms={} stalls={stalls} longest_ms={}",
        total / 1_000_000,
        stalled / 1_000_000,
        longest / 1_000_000
    );
    if verdict == "pass" { Exit::PowerOff } else { Exit::Crash }
}
