//! A domain alone: it attacks what the hypervisor keeps for it, and frames that it gets again.

mod frames;
mod grant_state;
mod mixed;

use crate::Plan;
use crate::attack::Attack;
use crate::forgery::Forgery;
use crate::table::GrantTable;
use crate::writer::Writer;
use alloc::vec::Vec;
use core::ops::Range;
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::vcpu_pool::VcpuPool;
use pinfold_guest::entry::{Boot, smp};
use pinfold_guest::fixtures::{Check, Random};
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::println;
use pinfold_guest::raw::reservation;

/// Frames that are given back at once. Few, because an allocator that is last in, first out gives
/// out these.
pub(crate) const BATCH: usize = 8;

/// At least one of so many frames must have a stale translation when it is given back.
pub(crate) const SHARE: u64 = 8;

/// First of the pfns for exchanged frames: beyond all that the guest has.
const UNUSED_PFN: u64 = 0x10_0000;

/// The state of all phases.
struct SingleDomain<'a> {
    attack: Attack,
    table: GrantTable,
    random: Random,
    /// What the second vCPU does, if there is one.
    writer: Option<&'a Writer>,
    plan: &'a Plan,
}

pub(crate) fn run(boot: &Boot, plan: &Plan, check: &mut Check) {
    let Some(attack) = Attack::set_up(boot, check) else { return };
    let windows = attack.windows;
    let Some(table) = GrantTable::new(windows) else {
        check.holds("the grant table can be mapped", false);
        return;
    };
    let random = Random::new(plan.seed);
    let mut domain = SingleDomain { attack, table, random, writer: None, plan };
    if smp::count() < 2 {
        domain.run(check);
        return;
    }
    let Some(pool) = check.ok("start", VcpuPool::start("stale", smp::count())) else { return };
    let writer = Writer::new();
    domain.writer = Some(&writer);
    let state = Mutex::new((domain, &mut *check));
    pool.run(&|id| match id {
        0 => {
            let (domain, check) = &mut *state.lock();
            domain.run(check);
            writer.stop();
        }
        1 => writer.run(&windows),
        _ => {}
    });
    println!("STALE writer: stores={}", writer.stores());
    check.holds("the second vCPU stored", writer.stores() > 0);
}

/// Frames that came in place of others, of which there are stale translations.
struct Returned {
    came: Vec<u64>,
    /// How many of them are among those that were given back.
    again: u64,
    /// The windows of those that were given back.
    windows: Range<usize>,
}

impl SingleDomain<'_> {
    /// Sets what the second vCPU stores.
    fn set_forgery(&self, forgery: Forgery) {
        if let Some(writer) = self.writer {
            writer.set_forgery(forgery);
        }
    }

    /// Gives frames back, and takes as many.
    fn take_again(&mut self) -> Returned {
        let (gone, windows) = self.attack.give_back_stale(BATCH, self.writer);
        let came = reservation::take(BATCH);
        Returned { again: count_same(&came, &gone), came, windows }
    }

    /// Exchanges frames for as many others.
    fn exchange(&mut self, check: &mut Check) -> Returned {
        let gone = reservation::take(BATCH);
        let windows = self.attack.leave_stale(&gone, self.writer);
        // Pfns that no frame has.
        let mut came: Vec<u64> = (UNUSED_PFN..).take(BATCH).collect();
        check.equal("exchange", reservation::exchange(&gone, &mut came), 0);
        self.attack.tally.given += gone.len() as u64;
        Returned { again: count_same(&came, &gone), came, windows }
    }

    fn run(&mut self, check: &mut Check) {
        for phase in self.plan.phases.chars() {
            match phase {
                'g' => grant_state::grow_table(self, check),
                'h' => grant_state::grow_handles(self, check),
                'r' => frames::take_again(self, check),
                'x' => frames::exchange(self, check),
                'm' => mixed::run(self, check),
                _ => check.holds("the phase exists", false),
            }
        }
        match pinfold::audit() {
            Ok(audit) => check.equal("the hypervisor's audit", audit.wrong, 0),
            Err(_) => check.holds("the audit exists", check.on_xen()),
        }
    }
}

fn count_same(frames: &[u64], others: &[u64]) -> u64 {
    frames.iter().filter(|&frame| others.contains(frame)).count() as u64
}
