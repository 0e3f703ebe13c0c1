//! One domain: what the hypervisor keeps for it, and frames that come again.

mod books;
mod frames;
mod mixed;

use crate::Plan;
use crate::field::Field;
use crate::table::GrantTable;
use crate::writer::Writer;
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::vcpu_pool::VcpuPool;
use pinfold_guest::entry::{Boot, smp};
use pinfold_guest::fixtures::Check;
use pinfold_guest::fixtures::Random;
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::println;

/// Frames that are given back at once. Few: an allocator that gives out the last ones first gives
/// out these.
pub(crate) const BATCH: usize = 8;

/// One of so many must have a stale translation when it is given back.
pub(crate) const SHARE: u64 = 8;

/// Everything that the phases work on.
struct Bench<'a> {
    field: Field,
    table: GrantTable,
    random: Random,
    /// The vCPU that stores all the time.
    writer: Option<&'a Writer>,
    plan: &'a Plan,
}

pub(crate) fn run(boot: &Boot, plan: &Plan, check: &mut Check) {
    let Some(field) = Field::set_up(boot, check) else { return };
    let windows = field.windows;
    let Some(table) = GrantTable::new(windows) else {
        check.holds("the grant table can be mapped", false);
        return;
    };
    let random = Random::new(plan.seed);
    let mut bench = Bench { field, table, random, writer: None, plan };
    if smp::count() < 2 {
        bench.run(check);
        return;
    }
    let Some(team) = check.ok("start", VcpuPool::start("stale", smp::count())) else { return };
    let writer = Writer::new();
    bench.writer = Some(&writer);
    let state = Mutex::new((bench, &mut *check));
    team.run(&|id| match id {
        0 => {
            let (bench, check) = &mut *state.lock();
            bench.run(check);
            writer.stop();
        }
        1 => writer.run(&windows),
        _ => {}
    });
    println!("STALE writer: stores={}", writer.stores());
    check.holds("the second vCPU stored", writer.stores() > 0);
}

impl Bench<'_> {
    fn run(&mut self, check: &mut Check) {
        for phase in self.plan.phases.chars() {
            match phase {
                'g' => books::table(self, check),
                'h' => books::handles(self, check),
                'r' => frames::taken_again(self, check),
                'x' => frames::exchanged(self, check),
                'm' => mixed::run(self, check),
                _ => check.holds("a phase that there is", false),
            }
        }
        match pinfold::audit() {
            Ok(audit) => check.equal("the hypervisor's audit", audit.wrong, 0),
            Err(_) => check.holds("an audit", check.on_xen()),
        }
    }
}
