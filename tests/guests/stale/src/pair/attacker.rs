//! Gives frames back and stores to them while the victim takes them; and gives frames to the victim.

use super::{ACCEPT, Attacker, HAUNT_NS, PATIENCE_NS, is_there, wait};
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
    let own = attacker.field.own;
    check.holds("the victim is there", wait(|| is_there(victim)));
    let mut random = Random::new(plan.seed);
    let mut transferred = 0u64;
    // A frame of the victim's, as soon as one is known.
    let mut target = 0;
    let late = time::raw() + PATIENCE_NS;
    for round in 0.. {
        // On a busy host the victim may be slow: then until there was something to attack.
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
            writer.choose(forgery);
        }
        if random.below(4) == 0 {
            transferred += u64::from(transfer(attacker, victim, forgery));
        } else {
            let count = 1 + random.index(MOST);
            let (frames, range) = attacker.field.bait(count, attacker.writer);
            attacker.haunt(&frames, range, forgery, HAUNT_NS);
            let theirs = |frame: &&u64| reservation::pfn_of(**frame).is_some();
            target = frames.iter().find(theirs).copied().unwrap_or(target);
        }
        attacker.steal(victim, random.index(MOST_FRAMES) as u32);
        let _ = sched::yield_now();
    }
    println!("STALE attacker: transferred={transferred}");
    check.holds("frames were passed on", transferred > 0);
}

/// Passes a frame on to the victim, in the middle of stores to it; whether it went.
fn transfer(attacker: &mut Attacker<'_>, victim: u16, forgery: Forgery) -> bool {
    let frames = reservation::take(1);
    let range = attacker.field.leave_stale(&frames, attacker.writer);
    let went = frames
        .first()
        .is_some_and(|&frame| grants::transfer(frame, victim, ACCEPT + attacker.plan.place) == 0);
    if !went {
        reservation::give_back(&frames);
        return false;
    }
    attacker.field.tally.given += 1;
    // It is another's: no store may land.
    let before = attacker.field.tally.landed;
    attacker.field.strike(range, forgery);
    attacker.late += attacker.field.tally.landed - before;
    true
}
