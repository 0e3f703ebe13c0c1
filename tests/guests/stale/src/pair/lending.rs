//! A frame that one domain lends and another borrows. The borrower overwrites what maps it and flushes
//! nothing; the granter finds that nobody refers to its frame, and gives it back.

use super::{Attacker, HAUNT_LENT_NS, is_there, wait};
use crate::forgery::Forgery;
use crate::table::{GrantTable, MOST_FRAMES};
use alloc::vec::Vec;
use core::ops::Range;
use pinfold_abi::grant::{ENTRIES_PER_FRAME, MapFlags, RESERVED_ENTRIES};
use pinfold_guest::fixtures::Check;
use pinfold_guest::println;
use pinfold_guest::raw::{grants, reservation};

/// Frames that are lent at once.
const BATCH: usize = 8;
/// Where the borrower says that it maps the frame no more, and what it says; whatever it stores there
/// afterwards means the same.
const SIGN_AT: usize = 511;
const SIGN: u64 = 0x7369_676e_6564_2121;

/// References of a round; none is used twice, for the marks stay.
fn references(round: u64) -> Range<u32> {
    let first = RESERVED_ENTRIES * 4 + round as u32 * BATCH as u32;
    first..first + BATCH as u32
}

/// Rounds for which the table has entries.
fn rounds(wanted: u64) -> u64 {
    wanted.min((MOST_FRAMES as u64 - 1) * u64::from(ENTRIES_PER_FRAME) / BATCH as u64)
}

/// Lends, and gives back.
pub(super) fn lend(attacker: &mut Attacker<'_>, check: &mut Check) {
    let Some(&borrower) = attacker.plan.peers.first() else {
        check.holds("there is a borrower", false);
        return;
    };
    let windows = attacker.field.windows;
    let Some(mut table) = GrantTable::new(windows) else {
        check.holds("the grant table can be mapped", false);
        return;
    };
    check.holds("the borrower is there", wait(|| is_there(borrower)));
    for round in 0..rounds(attacker.plan.rounds) {
        let references = references(round);
        if references.end > table.len() as u32 * ENTRIES_PER_FRAME {
            check.equal("the table grows", table.grow(table.len() + 1), Ok(()));
        }
        let frames = reservation::take(BATCH);
        // The granter's own stale translations count, too.
        let range = attacker.field.leave_stale(&frames, attacker.writer);
        for (reference, &frame) in references.clone().zip(&frames) {
            table.set(reference, Forgery::entries(borrower, frame).even);
        }
        let looking = attacker.field.scratch();
        let signed = |frame: u64| {
            windows.open_read_only(looking, frame);
            let signed = windows.read(looking, SIGN_AT) != Some(0);
            windows.close_here(looking);
            signed
        };
        let all = wait(|| frames.iter().all(|&frame| signed(frame)) || !is_there(borrower));
        check.holds("the borrower is through with them", all);
        if !is_there(borrower) {
            break;
        }
        let mut given = 0;
        wait(|| {
            given += reservation::give_back(&frames[given..]);
            given == frames.len() || !is_there(borrower)
        });
        check.equal("nobody refers to them", given, frames.len());
        attacker.field.tally.given += given as u64;
        attacker.haunt(&frames, range, Forgery::noise(round), HAUNT_LENT_NS);
    }
}

/// Borrows, and stores to what was lent.
pub(super) fn borrow(attacker: &mut Attacker<'_>, check: &mut Check) {
    let [granter, victim] = attacker.plan.peers[..] else {
        check.holds("there are a granter and a victim", false);
        return;
    };
    check.holds("the granter is there", wait(|| is_there(granter)));
    let windows = attacker.field.windows;
    let mut again = 0u64;
    for round in 0..rounds(attacker.plan.rounds) {
        let forgery = match round % 3 {
            0 => Forgery::uses(attacker.field.own, round),
            1 => Forgery::entries(attacker.field.own, round),
            _ => Forgery::noise(round),
        };
        if let Some(writer) = attacker.writer {
            writer.choose(forgery);
        }
        let range = attacker.field.fresh(BATCH, attacker.writer);
        let mut frames: Vec<u64> = Vec::new();
        for (window, reference) in range.clone().zip(references(round)) {
            let asked = grants::Map {
                address: windows.va(window).0,
                flags: MapFlags::HOST_MAP,
                dom: granter,
                reference,
            };
            let mut mapped = Err(0);
            wait(|| {
                mapped = grants::map(asked);
                mapped.is_ok() || !is_there(granter)
            });
            let Ok((_, address)) = mapped else {
                println!("STALE borrower: reference {reference}: {mapped:?}");
                break;
            };
            frames.push(address >> 12);
        }
        if frames.len() < BATCH {
            // It ends first, maybe.
            break;
        }
        attacker.field.make_stale(range.clone(), attacker.writer);
        for (window, reference) in range.clone().zip(references(round)) {
            if !windows.store(window, SIGN_AT, SIGN) {
                // Its slot in the TLB was wanted for something else: by a mapping, then.
                let asked = grants::Map {
                    address: windows.va(window).0,
                    flags: MapFlags::HOST_MAP,
                    dom: granter,
                    reference,
                };
                check.holds("mapped again", grants::map(asked).is_ok());
                windows.store(window, SIGN_AT, SIGN);
                windows.close(window);
            }
        }
        attacker.field.tally.given += frames.len() as u64;
        attacker.haunt(&frames, range, forgery, HAUNT_LENT_NS);
        // What is another's by now is not lent any more, whatever the granter's entry says.
        for (&frame, reference) in frames.iter().zip(references(round)) {
            if reservation::pfn_of(frame).is_none() {
                continue;
            }
            again += 1;
            let window = attacker.field.scratch();
            let asked = grants::Map {
                address: windows.va(window).0,
                flags: MapFlags::HOST_MAP,
                dom: granter,
                reference,
            };
            attacker.stolen += u64::from(grants::map(asked).is_ok());
        }
        attacker.steal(victim, (round % MOST_FRAMES as u64) as u32);
    }
    println!("STALE borrower: mapped_again={again}");
}
