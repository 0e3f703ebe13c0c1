//! `pinfold_op`: what it refuses, and its counters and audit after everything before.

use super::check::{Check, Expect};
use crate::failure::Failed;
use arrayvec::ArrayString;
use core::fmt::Write;
use pinfold_abi::errno::Errno::{E2BIG, EEXIST, EFAULT, EINVAL, ENOENT, ENOSYS};
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::layout::HYPERVISOR_START;
use pinfold_abi::pinfold::{
    Audit, Command, FindAliases, FreedMap, LazyRegion, MAX_FIND_FRAMES, MAX_MARK,
    MAX_SHOOTDOWN_RANGES, Mark, Range, STATS_VERSION, Shootdown, Stats, VERSION,
};
use pinfold_guest::addr::{Mfn, PAGE_SIZE};
use pinfold_guest::fixtures::TableFixture;
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::println;
use pinfold_guest::raw;

fn op<T>(command: Command, argument: &mut T) -> i64 {
    let args = [command as u64, core::ptr::from_mut(argument) as u64, 0, 0, 0];
    // SAFETY: the argument is the command's structure. What it points to is valid for the command,
    // or the command is refused.
    unsafe { raw::call(Hypercall::PinfoldOp as u64, args) }
}

pub(super) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let mut nothing = 0u64;
    // SAFETY: there is no such command.
    let unknown = unsafe {
        raw::call(Hypercall::PinfoldOp as u64, [0xffff, &raw mut nothing as u64, 0, 0, 0])
    };
    check.call("an unknown command", unknown, Expect::Refused(ENOSYS));
    let mut mark = Mark { version: VERSION, len: 7, text: b"hostile".as_ptr() as u64 };
    if op(Command::Mark, &mut mark) == ENOSYS.as_result() {
        println!("hostile: no pinfold_op here");
        return;
    }
    versions(check);
    stats_versions(check);
    pointers(check);
    shootdowns(fixture, check);
    let saved = fixture.save();
    let frame = fixture.frame();
    let frames = [Mfn::from_address(u64::MAX).0];
    let mut find = FindAliases { version: VERSION, nr_frames: 1, ..FindAliases::default() };
    find.frames = frames.as_ptr() as u64;
    check.holds("a search for a frame that doesn't exist", op(Command::FindAliases, &mut find) < 0);
    find.nr_frames = MAX_FIND_FRAMES + 1;
    check.call("too many frames", op(Command::FindAliases, &mut find), Expect::Refused(E2BIG));
    let mut region = LazyRegion { version: VERSION, action: 0, ..LazyRegion::default() };
    region.range = Range { start: fixture.va(frame).0, pages: 1 };
    region.name[..4].copy_from_slice(b"test");
    check.call("name a range", op(Command::LazyRegion, &mut region), Expect::Done);
    check.call("name it again", op(Command::LazyRegion, &mut region), Expect::Refused(EEXIST));
    freed_maps(region.range.start, check);
    region.action = 1;
    check.call("remove the name", op(Command::LazyRegion, &mut region), Expect::Done);
    check.holds("there is no name to remove", op(Command::LazyRegion, &mut region) < 0);
    region.action = 2;
    check.call("an unknown action", op(Command::LazyRegion, &mut region), Expect::Refused(EINVAL));
    fixture.restore(saved);
}

/// Shares bitmaps of freed pages: what they say matters for reports only.
fn freed_maps(start: u64, check: &mut Check) {
    let mut map = FreedMap { version: VERSION, pad: 0, start, bits: 0 };
    for bits in [HYPERVISOR_START, u64::MAX, 0x1000, 0] {
        map.bits = bits;
        check.call("a bitmap at any address", op(Command::FreedMap, &mut map), Expect::Done);
    }
    map.start = start + PAGE_SIZE;
    check.call(
        "a bitmap of no named range",
        op(Command::FreedMap, &mut map),
        Expect::Refused(ENOENT),
    );
}

/// Passes structures of another version.
fn versions(check: &mut Check) {
    for version in [0, VERSION + 1, u32::MAX] {
        let refused = Expect::Refused(EINVAL);
        let mut audit = Audit { version, ..Audit::default() };
        check.call("audit of another version", op(Command::Audit, &mut audit), refused);
        let mut shot = Shootdown { version, ..Shootdown::default() };
        check.call("shootdown of another version", op(Command::Shootdown, &mut shot), refused);
        let mut find = FindAliases { version, ..FindAliases::default() };
        check.call("search of another version", op(Command::FindAliases, &mut find), refused);
    }
}

/// Asks for counters: for a caller of version 1 no byte is written beyond the end of its structure.
fn stats_versions(check: &mut Check) {
    for version in [0, STATS_VERSION + 1, u32::MAX] {
        let mut stats = Stats { version, ..Stats::default() };
        let refused = Expect::Refused(EINVAL);
        check.call("stats of another version", op(Command::Stats, &mut stats), refused);
    }
    const BEHIND: u64 = 0x5a5a;
    let behind = Stats { ipi_ns: BEHIND, irq_off_ns: BEHIND, sched_ns: BEHIND, ..Stats::default() };
    let mut stats = Stats { version: 1, ..behind };
    check.call("stats of version 1", op(Command::Stats, &mut stats), Expect::Done);
    let kept = [stats.ipi_ns, stats.irq_off_ns, stats.sched_ns] == [BEHIND; 3];
    check.holds("stats of version 1 end where they always did", kept);
    let mut stats = Stats { version: STATS_VERSION, ..behind };
    check.call("stats", op(Command::Stats, &mut stats), Expect::Done);
    check.holds("stats have the latencies", stats.ipi_ns != BEHIND && stats.irq_off_ns != BEHIND);
}

/// Passes arguments, and lists in them, at bad addresses.
fn pointers(check: &mut Check) {
    for command in [
        Command::Version,
        Command::Shootdown,
        Command::FindAliases,
        Command::LazyRegion,
        Command::Mark,
        Command::Stats,
        Command::Audit,
        Command::FreedMap,
        Command::DumpFrames,
    ] {
        for at in [0, 0x1000, HYPERVISOR_START, u64::MAX - 7] {
            // SAFETY: refused.
            let result =
                unsafe { raw::call(Hypercall::PinfoldOp as u64, [command as u64, at, 0, 0, 0]) };
            check.call("an argument at a bad address", result, Expect::Refused(EFAULT));
        }
    }
    let mut mark = Mark { version: VERSION, len: 5, text: HYPERVISOR_START };
    check.call("a mark at a bad address", op(Command::Mark, &mut mark), Expect::Refused(EFAULT));
    mark.len = MAX_MARK + 1;
    check.call("a mark too long", op(Command::Mark, &mut mark), Expect::Refused(E2BIG));
    let mut shot =
        Shootdown { version: VERSION, nr_ranges: 1, ranges: 0x1000, ..Shootdown::default() };
    check.call(
        "ranges at a bad address",
        op(Command::Shootdown, &mut shot),
        Expect::Refused(EFAULT),
    );
    shot.nr_ranges = MAX_SHOOTDOWN_RANGES + 1;
    check.call("too many ranges", op(Command::Shootdown, &mut shot), Expect::Refused(E2BIG));
}

/// Shoots down ranges that don't belong to the guest.
fn shootdowns(fixture: &TableFixture, check: &mut Check) {
    let shoot = |start: u64, pages: u64| {
        let ranges = [Range { start, pages }];
        let mut shot = Shootdown {
            version: VERSION,
            nr_ranges: 1,
            ranges: ranges.as_ptr() as u64,
            ..Shootdown::default()
        };
        (op(Command::Shootdown, &mut shot), shot.cleared)
    };
    let home = fixture.va(pinfold_guest::addr::Pfn(0)).0;
    for (what, start, pages) in [
        ("the hypervisor's hole", HYPERVISOR_START, 1),
        ("up to the hole", HYPERVISOR_START - PAGE_SIZE, 2),
        ("an unaligned start", home + 8, 1),
        ("past the end", u64::MAX - (PAGE_SIZE - 1), 2),
        ("too many pages", home, u64::MAX),
    ] {
        let (result, _) = shoot(start, pages);
        check.holds(what, result < 0);
    }
    let (result, cleared) = shoot(0x1000, 16);
    check.holds("nothing is cleared", result == 0 && cleared == 0);
}

/// Prints the hypervisor's counters, and has it recount all references.
pub(crate) fn audit() -> Result<ArrayString<64>, Failed> {
    let mut text = ArrayString::new();
    let stats = match pinfold::stats() {
        Ok(stats) => stats,
        Err(errno) if errno == ENOSYS => {
            // Fits: four bytes.
            let _ = text.write_str("none");
            return Ok(text);
        }
        Err(errno) => {
            println!("stats: {errno}");
            return Err(Failed);
        }
    };
    println!("{stats:?}");
    match pinfold::audit() {
        Ok(audit) if audit.wrong == 0 && audit.tables > 0 => {
            // Fits: two numbers and a few words.
            let _ = write!(text, "frames:{},tables:{},wrong:0", audit.frames, audit.tables);
            Ok(text)
        }
        other => {
            println!("audit: {other:?}");
            Err(Failed)
        }
    }
}
