//! Several domains: one that checks its own memory, and others that attack it with what they
//! remember of frames that it has by now.
//!
//! | role       | `peers=`         | does                                                            |
//! |------------|------------------|-----------------------------------------------------------------|
//! | `victim`   | all the others   | has much memory, gives and takes, lets tables grow; ends last   |
//! | `attacker` | the victim       | gives frames back and stores to them; gives frames to it        |
//! | `granter`  | the borrower     | lends frames, and gives them back when they are mapped no more  |
//! | `borrower` | granter, victim  | overwrites what maps a frame that was lent, and stores to it    |
//!
//! An attacker learns from the machine-to-physical table that a frame has a new owner who gave it a
//! pfn. From then on no access of its own may succeed; it looks.

mod attacker;
mod lending;
mod victim;

use crate::Plan;
use crate::field::Field;
use crate::forgery::Forgery;
use crate::windows::WORDS;
use crate::writer::Writer;
use alloc::vec::Vec;
use core::ops::Range;
use pinfold_abi::grant::{
    ENTRIES_PER_FRAME, MAP_GRANT_REF, MapFlags, MapGrantRef, RESERVED_ENTRIES, Status,
};
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::time;
use pinfold_guest::entry::vcpu_pool::VcpuPool;
use pinfold_guest::entry::{Boot, smp};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::sched;
use pinfold_guest::raw::{grants, reservation};

/// First of the entries by which the victim accepts a frame: one for each peer, in their order.
const ACCEPT: u32 = RESERVED_ENTRIES + 8;
/// How long a domain waits for another.
const PATIENCE_NS: u64 = 60_000_000_000;
/// How long frames that were given back are stored to, unless another domain has all of them.
const HAUNT_NS: u64 = 2_000_000;
/// The same where there are few: each costs two domains a round.
const HAUNT_LENT_NS: u64 = 25_000_000;

pub(crate) fn run(boot: &Boot, role: &str, plan: &Plan, check: &mut Check) {
    if role == "victim" {
        victim::run(boot, plan, check);
        return;
    }
    let Some(field) = Field::set_up(boot, check) else { return };
    let play = match role {
        "attacker" => attacker::run,
        "granter" => lending::lend,
        "borrower" => lending::borrow,
        _ => {
            check.holds("a role that there is", false);
            return;
        }
    };
    let mut attacker = Attacker { field, writer: None, plan, crossed: 0, late: 0, stolen: 0 };
    if smp::count() < 2 {
        play(&mut attacker, check);
        attacker.finish(check);
        return;
    }
    let Some(team) = check.ok("start", VcpuPool::start("stale", smp::count())) else { return };
    let writer = Writer::new();
    let windows = attacker.field.windows;
    attacker.writer = Some(&writer);
    let state = Mutex::new((attacker, check));
    team.run(&|id| match id {
        0 => {
            let (attacker, check) = &mut *state.lock();
            play(attacker, check);
            attacker.finish(check);
            // In the middle of the other one's stores.
            sched::shutdown(check.verdict());
        }
        1 => writer.run(&windows),
        _ => {}
    });
}

/// A domain that attacks.
struct Attacker<'a> {
    field: Field,
    writer: Option<&'a Writer>,
    plan: &'a Plan,
    /// Frames of its that another domain got while it had a stale translation.
    crossed: u64,
    /// Stores that landed in such a frame.
    late: u64,
    /// Frames of another domain that it could map.
    stolen: u64,
}

impl Attacker<'_> {
    /// Stores to frames that were given back, for so long.
    fn haunt(&mut self, frames: &[u64], range: Range<usize>, forgery: Forgery, ns: u64) {
        let windows = self.field.windows;
        let mut gone: Vec<bool> = frames.iter().map(|_| false).collect();
        let mut crossed: Vec<bool> = gone.clone();
        let end = time::raw() + ns;
        let mut turn = 0;
        while time::raw() < end && !(crossed.iter().all(|&seen| seen) && gone.iter().all(|&g| g)) {
            let index = turn * 2 % WORDS;
            turn += 1;
            for (at, window) in range.clone().enumerate() {
                // First who has it, then the store: a frame that was seen to be another's has been
                // forgotten by every CPU before.
                if !crossed[at] && reservation::pfn_of(frames[at]).is_some() {
                    crossed[at] = true;
                    self.crossed += 1;
                    // Once more, whether it was there before or not.
                    gone[at] = false;
                }
                if gone[at] {
                    continue;
                }
                let landed = windows.store(window, index, forgery.word(index))
                    && windows.store(window, index + 1, forgery.word(index + 1));
                gone[at] = !landed;
                self.late += u64::from(landed && crossed[at]);
            }
        }
        self.field.tally.strikes += frames.len() as u64;
    }

    /// Tries to map what one frame of another domain's grant table lends; it lends nothing to this
    /// domain.
    fn steal(&mut self, victim: u16, frame_of_table: u32) {
        let window = self.field.scratch();
        let first = frame_of_table * ENTRIES_PER_FRAME;
        let asked = |reference| MapGrantRef {
            host_addr: self.field.windows.va(window).0,
            flags: MapFlags::HOST_MAP.bits(),
            reference,
            dom: victim,
            status: 1,
            ..MapGrantRef::default()
        };
        let mut list: Vec<MapGrantRef> = (first..first + ENTRIES_PER_FRAME).map(asked).collect();
        if grants::list(MAP_GRANT_REF, &mut list).is_err() {
            return;
        }
        let list = core::hint::black_box(list);
        for mapped in list.iter().filter(|mapped| mapped.status == 0) {
            self.stolen += 1;
            if self.stolen == 1 {
                pinfold_guest::println!(
                    "STALE stolen: frame {:#x} of domain {victim} by reference {}",
                    mapped.dev_bus_addr >> 12,
                    mapped.reference
                );
            }
        }
    }

    fn finish(&mut self, check: &mut Check) {
        let (crossed, late, stolen) = (self.crossed, self.late, self.stolen);
        check.equal("no access to what is another domain's", late, 0);
        check.equal("nothing is lent that was not lent", stolen, 0);
        check.holds("frames went to the other domain meanwhile", crossed >= self.plan.crossed);
        let more = format_args!("crossed={crossed} late={late} stolen={stolen}");
        self.field.report("attacker", more, 8, check);
    }
}

/// Whether a domain is there.
fn is_there(dom: u16) -> bool {
    grants::query(dom) != Err(Status::BadDomain as i16)
}

/// Lets others run until something is so; `false` if it takes too long.
fn wait(mut until: impl FnMut() -> bool) -> bool {
    let end = time::raw() + PATIENCE_NS;
    while !until() {
        if time::raw() > end {
            return false;
        }
        let _ = sched::yield_now();
    }
    true
}
