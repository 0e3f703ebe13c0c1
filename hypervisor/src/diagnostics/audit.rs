//! Runs the validator's audit: provides scratch memory, and the references that the hypervisor holds.
#![expect(
    unsafe_code,
    reason = "scratch frames; vCPUs that stand still while the machine is stopped"
)]

use crate::console::log::{write_as, write_record};
use crate::domain::vcpu::{LDT_PAGES, Vcpu};
use crate::domain::{self, Domain, VcpuSlot};
use crate::memory::frame_refs::{DescriptorRef, RootRef};
use crate::memory::{canaries, direct_map, frames, validator};
use arrayvec::ArrayVec;
use core::iter;
use core::mem::MaybeUninit;
use pinfold_abi::layout::FIRST_RESERVED_GDT_PAGE;
use pinfold_abi::record::{self, Leftovers, Who, kind};
use pinfold_log::Source;
use pinfold_validator::{AuditCell, AuditSummary, DomId, ExternalRef, Mfn, Purpose};

/// Discrepancies logged at most.
const MOST_TOLD: u64 = 32;

/// References that a vCPU holds at most: its roots and those for another vCPU, GDT, LDT, `vcpu_info`.
const MOST_HELD: usize = 4 + FIRST_RESERVED_GDT_PAGE + LDT_PAGES + 1;

/// References that a vCPU holds: roots and descriptor pages.
fn held_by(vcpu: &Vcpu) -> ArrayVec<ExternalRef, MOST_HELD> {
    let roots = iter::once(&vcpu.kernel_root).chain(&vcpu.user_root).chain(&vcpu.held_roots);
    let descriptors = vcpu.gdt.iter().chain(vcpu.ldt_pages.iter().flatten());
    roots.map(RootRef::external).chain(descriptors.filter_map(DescriptorRef::external)).collect()
}

/// References that a vCPU and its slot hold.
fn held_by_slot(
    slot: &VcpuSlot,
    domain: &Domain,
    caller: Option<&Vcpu>,
) -> ArrayVec<ExternalRef, MOST_HELD> {
    let is_caller = |vcpu: &&Vcpu| vcpu.domain.id == domain.id && vcpu.id == slot.id;
    let mut held = match caller.filter(is_caller) {
        Some(vcpu) => held_by(vcpu),
        // SAFETY: the machine is stopped, and this isn't the caller's own state.
        None => unsafe { slot.with_vcpu(held_by) }.unwrap_or_default(),
    };
    held.extend(slot.info_ref());
    held
}

/// All references that the hypervisor holds on behalf of domains, other than by page tables. `caller`:
/// the vCPU that requested the audit, if one did.
fn held_by_all(caller: Option<&Vcpu>) -> impl Iterator<Item = ExternalRef> {
    domain::all().flat_map(move |domain| {
        let console = domain.console.lock().held();
        let store = domain.store.held();
        let slots = (0..domain.slots.len())
            .flat_map(move |slot| held_by_slot(&domain.slots[slot], &domain, caller));
        console.into_iter().chain(store).chain(slots)
    })
}

/// Recounts all references, while the machine is stopped. `caller` is the vCPU that requested it, if
/// one did. `None` if there is no memory for the scratch space.
pub fn run(caller: Option<&Vcpu>) -> Option<AuditSummary> {
    let cells = validator().frame_count();
    let order = (cells * size_of::<AuditCell>() as u64).div_ceil(4096).next_power_of_two().ilog2();
    let scratch = frames::alloc_hypervisor_frames(order, Purpose::AuditScratch)?;
    let held = held_by_all(caller);
    let first = direct_map::frame(scratch.first()).cast::<MaybeUninit<AuditCell>>();
    for index in 0..cells as usize {
        // SAFETY: the frames have room for so many cells, and nobody else uses them.
        unsafe { (*first.add(index)).write(AuditCell::default()) };
    }
    // SAFETY: all cells were written; the frames are freed after the last use.
    let scratch_cells =
        unsafe { core::slice::from_raw_parts_mut(first.cast::<AuditCell>(), cells as usize) };
    let mut told = 0;
    let summary = validator().audit(scratch_cells, held, &mut |wrong| {
        if told < MOST_TOLD {
            write_record(Who::Hypervisor, &wrong.record());
        }
        told += 1;
    });
    frames::free_hypervisor_frames(scratch);
    let mut summary = summary?;
    let watched = canaries::check_all();
    // A canary that was overwritten means that isolation is broken.
    summary.wrong += watched.map_or(0, |(_, broken)| broken);
    // A good result that a guest requested counts against its own quota of the log's buffer.
    let source = match caller {
        Some(vcpu) if summary.wrong == 0 => Source::Reports(vcpu.domain.id.get()),
        _ => Source::Hypervisor,
    };
    let record = record::AuditSummary {
        frames: summary.frames,
        own: summary.hypervisor,
        tables: summary.tables,
        entries: summary.entries,
        canaries: watched.map(|(planted, _)| planted),
        broken: watched.map(|(_, broken)| broken),
        wrong: summary.wrong,
    };
    write_as(source, Who::Hypervisor, kind::AUDIT, format_args!("{record}"));
    Some(summary)
}

/// Logs frames that are still a domain's after the last domain is gone: there must be none.
pub fn report_leftovers() {
    let owned = |number: &u64| {
        validator().owner(Mfn::new(*number)).is_some_and(|owner| owner != DomId::HYPERVISOR)
    };
    let stuck = (0..validator().frame_count()).filter(owned).count();
    if stuck != 0 {
        write_record(Who::Hypervisor, &Leftovers { stuck: stuck as u64 });
    }
}
