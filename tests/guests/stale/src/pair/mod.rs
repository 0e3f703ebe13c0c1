//! Several domains: a victim that checks its own memory, and others that attack it with stale
//! translations of frames that it owns by now.
//!
//! | role       | `peers=`         | does                                                            |
//! |------------|------------------|-----------------------------------------------------------------|
//! | `victim`   | all the others   | takes and gives back much memory, grows its tables; ends last   |
//! | `attacker` | the victim       | gives frames back and stores to them; transfers frames to it    |
//! | `granter`  | the borrower     | grants frames, and gives them back when they are unmapped       |
//! | `borrower` | granter, victim  | overwrites the mapping of a granted frame, and stores to it     |
//!
//! An attacker learns from the machine-to-physical table when a frame has a new owner. From then on
//! none of its own accesses may succeed.

mod attacker;
mod granting;
mod victim;

use crate::Plan;
use crate::attack::Attack;
use crate::forgery::Forgery;
use crate::windows::WORDS;
use crate::writer::Writer;
use alloc::vec::Vec;
use core::ops::Range;
use pinfold_abi::grant::{
    ENTRIES_PER_FRAME, MAP_GRANT_REF, MapFlags, MapGrantRef, RESERVED_ENTRIES, Status,
};
use pinfold_guest::addr::Mfn;
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::time;
use pinfold_guest::entry::vcpu_pool::VcpuPool;
use pinfold_guest::entry::{Boot, smp};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::sched;
use pinfold_guest::raw::{grants, reservation};

/// First of the entries by which the victim accepts a frame: one for each peer, in order.
const ACCEPT: u32 = RESERVED_ENTRIES + 8;
/// How long a domain waits for another.
const TIMEOUT_NS: u64 = 60_000_000_000;
/// How long frames that were given back are stored to, unless another domain has taken all of them.
const STORE_NS: u64 = 2_000_000;
/// The same for granted frames, of which there are few: each costs two domains a round.
const STORE_GRANTED_NS: u64 = 25_000_000;

pub(crate) fn run(boot: &Boot, role: &str, plan: &Plan, check: &mut Check) {
    if role == "victim" {
        victim::run(boot, plan, check);
        return;
    }
    let Some(attack) = Attack::set_up(boot, check) else { return };
    let play = match role {
        "attacker" => attacker::run,
        "granter" => granting::run_granter,
        "borrower" => granting::run_borrower,
        _ => {
            check.holds("the role exists", false);
            return;
        }
    };
    let mut attacker = Attacker { attack, writer: None, plan, crossed: 0, late: 0, stolen: 0 };
    if smp::count() < 2 {
        play(&mut attacker, check);
        attacker.finish(check);
        return;
    }
    let Some(pool) = check.ok("start", VcpuPool::start("stale", smp::count())) else { return };
    let writer = Writer::new();
    let windows = attacker.attack.windows;
    attacker.writer = Some(&writer);
    let state = Mutex::new((attacker, check));
    pool.run(&|id| match id {
        0 => {
            let (attacker, check) = &mut *state.lock();
            play(attacker, check);
            attacker.finish(check);
            // The other vCPU is in the middle of its stores.
            sched::shutdown(check.verdict());
        }
        1 => writer.run(&windows),
        _ => {}
    });
}

/// An attacking domain.
struct Attacker<'a> {
    attack: Attack,
    writer: Option<&'a Writer>,
    plan: &'a Plan,
    /// Frames that another domain took while this one had a stale translation of them.
    crossed: u64,
    /// Stores that reached such a frame.
    late: u64,
    /// Frames of another domain that it could map by a grant.
    stolen: u64,
}

impl Attacker<'_> {
    /// Stores to frames that were given back, for `ns` nanoseconds.
    fn store_meanwhile(&mut self, frames: &[u64], range: Range<usize>, forgery: Forgery, ns: u64) {
        let windows = self.attack.windows;
        let mut gone: Vec<bool> = frames.iter().map(|_| false).collect();
        let mut crossed: Vec<bool> = gone.clone();
        let end = time::raw() + ns;
        let mut turn = 0;
        while time::raw() < end && !(crossed.iter().all(|&seen| seen) && gone.iter().all(|&g| g)) {
            let index = turn * 2 % WORDS;
            turn += 1;
            for (at, window) in range.clone().enumerate() {
                // First ask who owns it, then store: a frame that was seen to have another owner has
                // been flushed from every TLB before.
                if !crossed[at] && reservation::pfn_of(frames[at]).is_some() {
                    crossed[at] = true;
                    self.crossed += 1;
                    // Try again, whether the last store failed or not.
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
        self.attack.tally.strikes += frames.len() as u64;
    }

    /// Tries to map everything that one frame of another domain's grant table could grant; it grants
    /// nothing to this domain.
    fn map_foreign_grants(&mut self, victim: u16, frame_of_table: u32) {
        let window = self.attack.scratch();
        let first = frame_of_table * ENTRIES_PER_FRAME;
        let asked = |reference| MapGrantRef {
            host_addr: self.attack.windows.va(window).0,
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
                    Mfn::from_address(mapped.dev_bus_addr).0,
                    mapped.reference
                );
            }
        }
    }

    fn finish(&mut self, check: &mut Check) {
        let (crossed, late, stolen) = (self.crossed, self.late, self.stolen);
        check.equal("no access to another domain's frames", late, 0);
        check.equal("nothing can be mapped that was not granted", stolen, 0);
        check.holds("frames went to the other domain meanwhile", crossed >= self.plan.crossed);
        let more = format_args!("crossed={crossed} late={late} stolen={stolen}");
        self.attack.report("attacker", more, 8, check);
    }
}

/// Whether a domain exists.
fn is_there(dom: u16) -> bool {
    grants::query(dom) != Err(Status::BadDomain as i16)
}

/// Yields until a condition holds; `false` if that takes too long.
fn wait(mut until: impl FnMut() -> bool) -> bool {
    let end = time::raw() + TIMEOUT_NS;
    while !until() {
        if time::raw() > end {
            return false;
        }
        let _ = sched::yield_now();
    }
    true
}
