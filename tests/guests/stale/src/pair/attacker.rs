//! Gives frames back and stores to them while the victim takes them, and transfers frames to it.

use super::{ACCEPT, Attacker, STORE_NS, TIMEOUT_NS, is_there, wait};
use crate::forgery::Forgery;
use crate::table::MOST_FRAMES;
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::Check;
use pinfold_guest::fixtures::Random;
use pinfold_guest::hypercall::sched;
use pinfold_guest::println;
use pinfold_guest::raw::{grants, reservation};

/// Frames that are given back at once, at most.
const MOST: usize = 16;

pub(super) fn run(attacker: &mut Attacker<'_>, check: &mut Check) {
    let plan = attacker.plan;
    let Some(&victim) = plan.peers.first() else {
        check.holds("there is a victim", false);
        return;
    };
    let own = attacker.attack.own;
    check.holds("the victim is there", wait(|| is_there(victim)));
    let mut random = Random::new(plan.seed);
    let mut transferred = 0u64;
    // A frame of the victim's, once one is known.
    let mut target = 0;
    let late = time::raw() + TIMEOUT_NS;
    for round in 0.. {
        // On a busy host the victim may be slow: then go on until there was something to attack.
        let enough = attacker.crossed >= plan.crossed && transferred > 0;
        if round >= plan.rounds && (enough || time::raw() > late || !is_there(victim)) {
            break;
        }
        let forgery = match random.below(4) {
            0 => Forgery::entries(own, target),
            1 => Forgery::uses(own, target),
            2 => Forgery::handles(victim, target, random.below(64) as u32),
            _ => Forgery::noise(round),
        };
        if let Some(writer) = attacker.writer {
            writer.set_forgery(forgery);
        }
        if random.below(4) == 0 {
            transferred += u64::from(transfer(attacker, victim, forgery));
        } else {
            let count = 1 + random.index(MOST);
            let (frames, range) = attacker.attack.give_back_stale(count, attacker.writer);
            attacker.store_meanwhile(&frames, range, forgery, STORE_NS);
            let theirs = |frame: &&u64| reservation::pfn_of(**frame).is_some();
            target = frames.iter().find(theirs).copied().unwrap_or(target);
        }
        attacker.map_foreign_grants(victim, random.index(MOST_FRAMES) as u32);
        let _ = sched::yield_now();
    }
    println!("STALE attacker: transferred={transferred}");
    check.holds("frames were transferred", transferred > 0);
}

/// Transfers a frame to the victim, in the middle of stores to it. Returns whether it succeeded.
fn transfer(attacker: &mut Attacker<'_>, victim: u16, forgery: Forgery) -> bool {
    let frames = reservation::take(1);
    let range = attacker.attack.leave_stale(&frames, attacker.writer);
    let went = frames
        .first()
        .is_some_and(|&frame| grants::transfer(frame, victim, ACCEPT + attacker.plan.place) == 0);
    if !went {
        reservation::give_back(&frames);
        return false;
    }
    attacker.attack.tally.given += 1;
    // It belongs to the victim now: no store may reach it.
    let before = attacker.attack.tally.landed;
    attacker.attack.store_through(range, forgery);
    attacker.late += attacker.attack.tally.landed - before;
    true
}
