//! Runstate information: what a vCPU spends its time with.

use core::cell::UnsafeCell;
use pinfold_abi::errno::Errno::EFAULT;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::layout::HYPERVISOR_START;
use pinfold_abi::vcpu::{RUNSTATE_RUNNING, RunstateInfo, VCPUOP_REGISTER_RUNSTATE_AREA};
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::vcpu;
use pinfold_guest::raw;

const MS: u64 = 1_000_000;

struct Area(UnsafeCell<RunstateInfo>);
// SAFETY: read by volatile reads only, written by the hypervisor.
unsafe impl Sync for Area {}
static AREA: Area =
    Area(UnsafeCell::new(RunstateInfo { state: 99, pad: 0, state_entry_time: 0, time: [0; 4] }));

fn shown() -> RunstateInfo {
    // SAFETY: the hypervisor writes it before this vCPU runs, never while it runs.
    unsafe { AREA.0.get().read_volatile() }
}

pub(crate) fn run(check: &mut Check) {
    let Some(first) = check.ok("runstate", vcpu::runstate(0)) else { return };
    check.equal("it is running", first.state, RUNSTATE_RUNNING);
    check.holds("since a time in the past", first.state_entry_time <= time::raw());
    time::spin(20 * MS);
    // A sleep is shorter than asked for by the time that the host took before the vCPU blocked.
    for _ in 0..5 {
        check.ok("sleep", time::sleep(20 * MS));
    }
    let Some(second) = check.ok("runstate", vcpu::runstate(0)) else { return };
    let passed = |state: usize| second.time[state] - first.time[state];
    let all = (0..4).map(passed).sum();
    check.within("the times of all states add up", all, 119 * MS..=60_000 * MS);
    // While the host had no time for its processor, the vCPU was runnable.
    check.within("20 ms running or runnable", passed(0) + passed(1), 15 * MS..=60_000 * MS);
    check.within("some of it running", passed(0), MS..=60_000 * MS);
    check.within("five sleeps of 20 ms blocked", passed(2), 15 * MS..=60_000 * MS);
    check.equal("never offline", passed(3), 0);
    let sum: u64 = second.time.iter().sum();
    check.holds("not more than the elapsed time", sum <= time::raw());

    // SAFETY: nothing else uses the area.
    let registered = unsafe { vcpu::register_runstate_area(0, Some(AREA.0.get())) };
    check.ok("register", registered);
    check.equal("the area is written at once", shown().state, RUNSTATE_RUNNING);
    let before = shown();
    for _ in 0..5 {
        check.ok("sleep", time::sleep(20 * MS));
    }
    let after = shown();
    check.within(
        "the sleeps are in the area",
        after.time[2] - before.time[2],
        15 * MS..=60_000 * MS,
    );
    check.equal("it is running", after.state, RUNSTATE_RUNNING);
    check.holds("since a later time", after.state_entry_time > before.state_entry_time);
    let asked = vcpu::runstate(0).map(|info| info.time[2]);
    check.equal("the call says the same", asked, Ok(after.time[2]));

    // An unmapped address: the area is given up, without harm.
    let mut nowhere = 0x1000u64;
    let place = |area: &mut u64| {
        let args = [VCPUOP_REGISTER_RUNSTATE_AREA, 0, core::ptr::from_mut(area) as u64, 0, 0];
        // SAFETY: nothing is mapped at these addresses.
        raw::result(unsafe { raw::call(Hypercall::VcpuOp as u64, args) })
    };
    check.ok("an area that isn't mapped", place(&mut nowhere));
    check.ok("sleep", time::sleep(2 * MS));
    let mut hole = HYPERVISOR_START;
    check.refused("an area in the hypervisor's hole", place(&mut hole), EFAULT);
    let mut end = u64::MAX - 8;
    check.ok("an area at the end of the address space", place(&mut end));
    check.ok("sleep", time::sleep(2 * MS));
    check.equal("the old area is unchanged", shown(), after);
    // SAFETY: there is no area.
    check.ok("no area", unsafe { vcpu::register_runstate_area(0, None) });
}
