//! A frame that one domain grants and another maps. The borrower overwrites the entry that maps it
//! and flushes nothing. The granter finds that the entry is unused, and gives the frame back.

use super::{Attacker, STORE_GRANTED_NS, is_there, wait};
use crate::forgery::Forgery;
use crate::table::{GrantTable, MOST_FRAMES};
use alloc::vec::Vec;
use core::ops::Range;
use pinfold_abi::grant::{ENTRIES_PER_FRAME, MapFlags, RESERVED_ENTRIES};
use pinfold_guest::addr::Mfn;
use pinfold_guest::fixtures::Check;
use pinfold_guest::println;
use pinfold_guest::raw::{grants, reservation};

/// Frames that are granted at once.
const BATCH: usize = 8;
/// Where the borrower writes that the frame is no longer mapped, and what it writes; whatever it
/// stores there later means the same.
const SIGN_AT: usize = 511;
const SIGN: u64 = 0x7369_676e_6564_2121;

/// Returns the references of a round. None is used twice, because its status bits stay.
fn references(round: u64) -> Range<u32> {
    let first = RESERVED_ENTRIES * 4 + round as u32 * BATCH as u32;
    first..first + BATCH as u32
}

/// Returns the number of rounds for which the table has entries.
fn rounds(wanted: u64) -> u64 {
    wanted.min((MOST_FRAMES as u64 - 1) * u64::from(ENTRIES_PER_FRAME) / BATCH as u64)
}

/// Grants frames, and gives them back.
pub(super) fn run_granter(attacker: &mut Attacker<'_>, check: &mut Check) {
    let Some(&borrower) = attacker.plan.peers.first() else {
        check.holds("there is a borrower", false);
        return;
    };
    let windows = attacker.attack.windows;
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
        // The granter makes stale translations of its own, too.
        let range = attacker.attack.leave_stale(&frames, attacker.writer);
        for (reference, &frame) in references.clone().zip(&frames) {
            table.set(reference, Forgery::entries(borrower, frame).even);
        }
        let inspection = attacker.attack.scratch();
        let signed = |frame: u64| {
            windows.open_read_only(inspection, frame);
            let signed = windows.read(inspection, SIGN_AT) != Some(0);
            windows.close_here(inspection);
            signed
        };
        let all = wait(|| frames.iter().all(|&frame| signed(frame)) || !is_there(borrower));
        check.holds("the borrower has finished with them", all);
        if !is_there(borrower) {
            break;
        }
        let mut given = 0;
        wait(|| {
            given += reservation::give_back(&frames[given..]);
            given == frames.len() || !is_there(borrower)
        });
        check.equal("no reference to them is left", given, frames.len());
        attacker.attack.tally.given += given as u64;
        attacker.store_meanwhile(&frames, range, Forgery::noise(round), STORE_GRANTED_NS);
    }
}

/// Maps granted frames, and stores to them after they were unmapped.
pub(super) fn run_borrower(attacker: &mut Attacker<'_>, check: &mut Check) {
    let [granter, victim] = attacker.plan.peers[..] else {
        check.holds("there are a granter and a victim", false);
        return;
    };
    check.holds("the granter is there", wait(|| is_there(granter)));
    let windows = attacker.attack.windows;
    let mut again = 0u64;
    for round in 0..rounds(attacker.plan.rounds) {
        let forgery = match round % 3 {
            0 => Forgery::uses(attacker.attack.own, round),
            1 => Forgery::entries(attacker.attack.own, round),
            _ => Forgery::noise(round),
        };
        if let Some(writer) = attacker.writer {
            writer.set_forgery(forgery);
        }
        let range = attacker.attack.fresh(BATCH, attacker.writer);
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
            frames.push(Mfn::from_address(address).0);
        }
        if frames.len() < BATCH {
            // The granter may end first.
            break;
        }
        attacker.attack.make_stale(range.clone(), attacker.writer);
        for (window, reference) in range.clone().zip(references(round)) {
            if !windows.store(window, SIGN_AT, SIGN) {
                // The TLB's slot was used for something else, by a translation of another window.
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
        attacker.attack.tally.given += frames.len() as u64;
        attacker.store_meanwhile(&frames, range, forgery, STORE_GRANTED_NS);
        // A frame that belongs to another domain by now can't be mapped any more, whatever the
        // granter's entry says.
        for (&frame, reference) in frames.iter().zip(references(round)) {
            if reservation::pfn_of(frame).is_none() {
                continue;
            }
            again += 1;
            let window = attacker.attack.scratch();
            let asked = grants::Map {
                address: windows.va(window).0,
                flags: MapFlags::HOST_MAP,
                dom: granter,
                reference,
            };
            attacker.stolen += u64::from(grants::map(asked).is_ok());
        }
        attacker.map_foreign_grants(victim, (round % MOST_FRAMES as u64) as u32);
    }
    println!("STALE borrower: mapped_again={again}");
}
