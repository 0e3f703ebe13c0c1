//! Initial contents of a domain: memory, page tables, first vCPU.

use super::error::BuildError;
use super::guest_memory::GuestMemory;
use super::shared_info::fill_shared_info;
use crate::arch::entry::RegisterFile;
use crate::backend::store;
use crate::domain::DomainRef;
use crate::domain::bounce::rflags;
use crate::domain::vcpu::{Vcpu, VcpuMemory};
use crate::event::ports;
use crate::memory::frame_refs::RootRef;
use crate::memory::{frames, platform, validator};
use alloc::boxed::Box;
use core::sync::atomic::Ordering;
use pinfold_abi::hypercall::{CallInstruction, fill_hypercall_page};
use pinfold_abi::layout::{FLAT_RING3_CS64, FLAT_RING3_SS64, PAGE_SIZE};
use pinfold_abi::mmu::EntryFlags;
use pinfold_abi::vcpu::CpuUserRegs;
use pinfold_image::start_info::StartInfoValues;
use pinfold_image::{Container, DomainConfig, GuestImage, GuestLayout};
use pinfold_validator::{Budget, Error, Level, Pfn};
use zerocopy::IntoBytes;

/// Writes the initial contents of a domain's memory, pins its first page tables, opens its console and
/// xenstore, and makes its first vCPU.
///
/// # Errors
/// If memory is short, or the image doesn't fit.
pub(super) fn populate(
    domain: &DomainRef,
    config: &DomainConfig,
    image: &GuestImage<'_>,
    initrd: Option<&[u8]>,
    layout: &GuestLayout,
) -> Result<Box<Vcpu>, BuildError> {
    let id = domain.id;
    let memory = GuestMemory::alloc(id, layout)
        .ok_or(BuildError::Memory(layout.pages, frames::free_count()))?;
    for segment in &image.segments {
        memory.write(segment.offset, image.data(segment))?;
    }
    if let Some(pfn) = layout.hypercall_pfn() {
        let mut page = [0; PAGE_SIZE as usize];
        let instruction = match config.container {
            Container::None => CallInstruction::Syscall,
            Container::Svm => CallInstruction::Vmmcall,
        };
        fill_hypercall_page(&mut page, instruction);
        memory.write(Pfn::new(pfn).address(), &page)?;
    }
    if let (Some(bytes), Some(module)) = (initrd, &layout.initrd) {
        memory.write(Pfn::new(module.pfn).address(), bytes)?;
    }
    if let Some(ring) = layout.console {
        // Can't fail: no frame is a page table yet.
        domain.console.lock().open(memory.mfn(Pfn::new(ring))).map_err(BuildError::Tables)?;
    }
    let values = StartInfoValues {
        shared_info: domain.shared_page.frame().address(),
        cmdline: &config.cmdline,
        console_evtchn: ports::open_console(domain),
        store_evtchn: ports::open_store(domain),
        ..StartInfoValues::default()
    };
    if let (Some(console), Some(ring)) = (layout.console, layout.xenstore) {
        let store_values = store::Facts {
            name: &domain.name,
            domain: id.get(),
            pages: layout.pages,
            vcpus: domain.slots.len() as u16,
            console: (memory.mfn(Pfn::new(console)).get(), values.console_evtchn),
            store: (memory.mfn(Pfn::new(ring)).get(), values.store_evtchn),
        };
        let no_memory = |_| BuildError::Memory(layout.pages, frames::free_count());
        let store = store::make(&store_values).map_err(no_memory)?;
        domain.store.open(id, memory.mfn(Pfn::new(ring)), store).map_err(BuildError::Tables)?;
    }
    let start_info = layout.start_info(&values, |pfn| memory.try_mfn(pfn))?;
    memory.write(Pfn::new(layout.start_info).address(), start_info.as_bytes())?;
    fill_shared_info(domain.shared_page);

    let common = EntryFlags::PRESENT | EntryFlags::ACCESSED | EntryFlags::DIRTY;
    for entry in layout.tables.entries() {
        let mut flags = common;
        flags.set(EntryFlags::WRITABLE, entry.writable);
        let value = memory.mfn(entry.target).address() | flags.bits();
        let table = memory.frame(entry.table)?;
        table.word(entry.index).store(value, Ordering::Relaxed);
    }
    let root = memory.mfn(Pfn::new(layout.tables.first));
    run_to_completion(|budget| validator().pin(id, Level::L4, root, budget))?;
    let root = run_to_completion(|budget| RootRef::get(id, root, budget))?;
    platform::set_m2p_visible(&root, true);
    let memory = domain.slots[0].take_memory().expect("no vCPU has taken it yet");
    Ok(first_vcpu(memory, domain, layout, root))
}

/// Repeats an operation of the validator while it is preempted.
fn run_to_completion<T>(
    mut step: impl FnMut(&mut Budget) -> Result<T, Error>,
) -> Result<T, BuildError> {
    loop {
        match step(&mut Budget::new(65_536)) {
            Ok(done) => return Ok(done),
            Err(Error::Preempted) => {}
            Err(Error::Refused(refusal)) => return Err(BuildError::Tables(refusal)),
        }
    }
}

/// Makes vCPU 0, which starts at the entry point of the image with the registers of the PV ABI.
fn first_vcpu(
    memory: VcpuMemory,
    domain: &DomainRef,
    layout: &GuestLayout,
    root: RootRef,
) -> Box<Vcpu> {
    let mut file = RegisterFile::new();
    file.regs = CpuUserRegs {
        rip: layout.entry,
        rsi: layout.address(layout.start_info),
        rsp: layout.stack_top(),
        rflags: rflags::IF | rflags::ALWAYS_ONE,
        cs: FLAT_RING3_CS64,
        ss: FLAT_RING3_SS64,
        ..CpuUserRegs::default()
    };
    let mut vcpu = Vcpu::new(memory, domain.clone(), 0, root);
    vcpu.file = file;
    if vcpu.container.is_some() {
        vcpu.file.regs.rflags = rflags::ALWAYS_ONE;
    }
    vcpu.kernel_stack = (FLAT_RING3_SS64, layout.stack_top());
    vcpu
}
