//! ASIDs, against CPUs whose TLBs forget nothing by themselves.

use crate::asid::{AsidSpace, Assigned, VcpuAsid};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

const VCPUS: usize = 4;
const CPUS: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A vCPU enters on a CPU. If the VMRUN fails, the hardware does nothing.
    Enter { cpu: usize, vcpu: usize, fails: bool },
    /// A recorded flush of a CPU.
    Flush(usize),
    /// A vCPU gets another root.
    ChangeRoot(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let enter = (0..CPUS, 0..VCPUS, proptest::bool::weighted(0.1));
    let step = prop_oneof![
        6 => enter.prop_map(|(cpu, vcpu, fails)| Step::Enter { cpu, vcpu, fails }),
        1 => (0..CPUS).prop_map(Step::Flush),
        1 => (0..VCPUS).prop_map(Step::ChangeRoot),
    ];
    proptest::collection::vec(step, 1..200)
}

/// Who loaded a translation: vCPU, its root, and the flush of the CPU that came before.
type Loader = (usize, u32, u32);

/// A CPU: its ASIDs, what its TLB has for each, and how often it was flushed by record.
struct Cpu {
    space: AsidSpace,
    tlb: BTreeMap<u32, Vec<Loader>>,
    flushes: u32,
}

proptest! {
    /// A guest finds only translations of its own, of its present root, from after the last flush.
    #[test]
    fn no_guest_finds_a_stale_translation(steps in steps(), supported in 2u32..8) {
        let mut cpus: Vec<Cpu> = (0..CPUS)
            .map(|cpu| Cpu {
                space: AsidSpace::new(cpu, supported).unwrap(),
                // Left behind by whoever used the CPU before.
                tlb: (1..supported).map(|asid| (asid, [(99, 0, 0)].into())).collect(),
                flushes: 0,
            })
            .collect();
        let mut vcpus: Vec<(VcpuAsid, u32)> = (0..VCPUS).map(|_| (VcpuAsid::none(), 0)).collect();
        for step in steps {
            match step {
                Step::Flush(cpu) => {
                    cpus[cpu].space.flush_all();
                    cpus[cpu].flushes += 1;
                }
                Step::ChangeRoot(vcpu) => {
                    vcpus[vcpu].0.retire();
                    vcpus[vcpu].1 += 1;
                }
                Step::Enter { cpu, vcpu, fails } => {
                    let cpu = &mut cpus[cpu];
                    let (asid, root) = &mut vcpus[vcpu];
                    let assigned = cpu.space.assign(asid);
                    prop_assert!((1..supported).contains(&assigned.asid));
                    if fails {
                        continue;
                    }
                    if assigned.flush_all_asids {
                        cpu.tlb.clear();
                    }
                    cpu.space.record_entry();
                    let loader = (vcpu, *root, cpu.flushes);
                    let cached = cpu.tlb.entry(assigned.asid).or_default();
                    prop_assert!(cached.iter().all(|&other| other == loader), "{cached:?}, {loader:?}");
                    cached.push(loader);
                }
            }
        }
    }
}

/// A CPU on which a vCPU has run.
fn running(supported: u32) -> (AsidSpace, VcpuAsid) {
    let (mut space, mut vcpu) = (AsidSpace::new(0, supported).unwrap(), VcpuAsid::none());
    assert_eq!(space.assign(&mut vcpu), Assigned { asid: 1, flush_all_asids: true });
    space.record_entry();
    (space, vcpu)
}

#[test]
fn an_asid_is_kept_until_something_changes() {
    let (mut space, mut vcpu) = running(16);
    for _ in 0..100 {
        assert_eq!(space.assign(&mut vcpu), Assigned { asid: 1, flush_all_asids: false });
        space.record_entry();
    }
    space.flush_all();
    assert_eq!(space.assign(&mut vcpu).asid, 2);
    vcpu.retire();
    assert_eq!(space.assign(&mut vcpu).asid, 3);
    let mut elsewhere = AsidSpace::new(1, 16).unwrap();
    assert_eq!(elsewhere.assign(&mut vcpu), Assigned { asid: 1, flush_all_asids: true });
    // What the vCPU did elsewhere, it did with other entries.
    assert_eq!(space.assign(&mut vcpu).asid, 4);
}

#[test]
fn the_hardware_flushes_once_in_a_round() {
    let (mut space, mut vcpu) = running(16);
    let mut flushes = 0;
    for round in 0..1500 {
        if round % 2 == 0 {
            space.flush_all();
        } else {
            vcpu.retire();
        }
        flushes += u32::from(space.assign(&mut vcpu).flush_all_asids);
        space.record_entry();
    }
    assert_eq!(flushes, 100);
}

#[test]
fn a_flush_is_asked_for_until_a_guest_ran() {
    let (mut space, mut vcpu) = running(2);
    let mut other = VcpuAsid::none();
    for _ in 0..3 {
        // There is one number, so each takes it from the other.
        assert_eq!(space.assign(&mut other), Assigned { asid: 1, flush_all_asids: true });
        assert_eq!(space.assign(&mut vcpu), Assigned { asid: 1, flush_all_asids: true });
    }
    assert!(space.assign(&mut vcpu).flush_all_asids);
    space.record_entry();
    assert!(!space.assign(&mut vcpu).flush_all_asids);
}

#[test]
fn a_cpu_without_asids_has_no_space() {
    assert!(AsidSpace::new(0, 0).is_none());
    assert!(AsidSpace::new(0, 1).is_none());
    assert!(AsidSpace::new(0, 2).is_some());
    assert!(AsidSpace::new(0, u32::MAX).is_some());
}
