//! Building a domain: image, first address space, shared page, first vCPU.
//!
//! The builder has no back door: it writes the page tables while their frames are plain memory,
//! and then pins the root by the same call that guests use.

use crate::arch::entry::RegisterFile;
use crate::backend::store::{self};
use crate::boot::archive::Archive;
use crate::console::log::write_record;
use crate::domain::bounce::rflags;
use crate::domain::domain_state::{DomainParts, Rights};
use crate::domain::per_domain::PerDomainMappings;
use crate::domain::shared_page::SharedPage;
use crate::domain::vcpu::{Vcpu, VcpuMemory};
use crate::domain::{self, Domain, DomainRef, VcpuSlot, descriptors};
use crate::event::port_table::{self};
use crate::event::ports;
use crate::memory::frame_refs::{RootRef, WritableRef};
use crate::memory::platform;
use crate::memory::{frames, heap, m2p, validator};
use crate::run::teardown;
use crate::time::{clock, wall_clock};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::hypercall::fill_hypercall_page;
use pinfold_abi::layout::{FLAT_RING3_CS64, FLAT_RING3_SS64};
use pinfold_abi::mmu::EntryFlags;
use pinfold_abi::record::{Hex, Micros, Start, Text};
use pinfold_abi::shared_info::{LEGACY_VCPUS, SharedInfo, VcpuInfo, VcpuTimeInfo};
use pinfold_abi::vcpu::CpuUserRegs;
use pinfold_image::start_info::StartInfoValues;
use pinfold_image::{
    DomainConfig, GuestImage, GuestLayout, ImageError, LayoutError, LayoutRequest,
};
use pinfold_validator::{Budget, CachePolicy, DomId, Error, Index, Level, Mfn, Pfn, Refusal};
use zerocopy::IntoBytes;

/// Frames that a domain costs besides its memory: shared page, window tables, its shares of the
/// heap.
fn overhead(vcpus: usize) -> u64 {
    let heap: u64 = heap_shares(vcpus).iter().map(|order| 1u64 << order).sum();
    1 + PerDomainMappings::frames_for(vcpus) as u64 + heap
}

/// What a domain takes of the heap, all of it when it is built, as orders of frames: its store; the
/// domain itself with its ports and vCPUs.
fn heap_shares(vcpus: usize) -> [u32; 2] {
    let vcpus = vcpus * (size_of::<Vcpu>() + size_of::<VcpuSlot>());
    let domain = size_of::<Domain>() + port_table::HEAP_BYTES + vcpus + vcpus / 8;
    [heap::order_for(store::HEAP_BYTES), heap::order_for(domain)]
}

/// Why a domain wasn't built.
#[derive(Debug)]
pub enum BuildError {
    /// The archive lacks a file that the manifest names.
    NoFile(alloc::string::String),
    /// The image is not one.
    Image(ImageError),
    /// It doesn't fit.
    Layout(LayoutError),
    /// The machine has too little memory left: frames wanted and free.
    Memory(u64, u64),
    /// The first page tables didn't pass: a bug of ours.
    Tables(Refusal),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::NoFile(name) => write!(f, "the boot archive has no file '{name}'"),
            BuildError::Image(error) => write!(f, "image: {error}"),
            BuildError::Layout(error) => write!(f, "layout: {error}"),
            BuildError::Memory(wanted, free) => {
                write!(f, "memory: {wanted} pages wanted, {free} are free")
            }
            BuildError::Tables(refusal) => write!(f, "first page tables: {refusal}"),
        }
    }
}

impl From<ImageError> for BuildError {
    fn from(error: ImageError) -> BuildError {
        BuildError::Image(error)
    }
}

impl From<LayoutError> for BuildError {
    fn from(error: LayoutError) -> BuildError {
        BuildError::Layout(error)
    }
}

/// The frames of a domain in the making, by pfn. The list is the guest's own p2m, in its frames.
struct Memory {
    domain: DomId,
    list: Vec<WritableRef>,
    pages: u64,
}

impl Memory {
    fn slot(&self, pfn: u64) -> &AtomicU64 {
        self.list[(pfn / 512) as usize].word(Index::new((pfn % 512) as usize))
    }

    fn mfn(&self, pfn: u64) -> Mfn {
        Mfn::new(self.slot(pfn).load(Ordering::Relaxed))
    }

    fn try_mfn(&self, pfn: u64) -> Option<u64> {
        (pfn < self.pages).then(|| self.mfn(pfn).get())
    }

    /// Takes all frames of a domain; the caller made sure that there are enough.
    fn take(id: DomId, plan: &GuestLayout) -> Option<Memory> {
        let alloc = |_| WritableRef::get(id, frames::alloc_domain_frame(id)?).ok();
        let list: Option<Vec<WritableRef>> = plan.p2m.clone().map(alloc).collect();
        let memory = Memory { domain: id, list: list?, pages: plan.pages };
        for pfn in 0..plan.pages {
            let mfn = match pfn.checked_sub(plan.p2m.start) {
                Some(index) if pfn < plan.p2m.end => memory.list[index as usize].frame(),
                _ => frames::alloc_domain_frame(id)?,
            };
            memory.slot(pfn).store(mfn.get(), Ordering::Relaxed);
            m2p::set(mfn, Some(Pfn::new(pfn)));
        }
        Some(memory)
    }

    /// A frame, to write to. None is a page table yet, so nothing is in the way.
    fn frame(&self, pfn: u64) -> Result<WritableRef, BuildError> {
        WritableRef::get(self.domain, self.mfn(pfn)).map_err(BuildError::Tables)
    }

    /// Copies bytes to pseudo-physical memory.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), BuildError> {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let in_page = (at % 4096) as usize;
            let (now, later) = rest.split_at(rest.len().min(4096 - in_page));
            self.frame(at / 4096)?.write_bytes(in_page, now);
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }
}

/// Builds a domain with its first vCPU, which is down.
///
/// # Errors
/// If the image is bad or doesn't fit; then nothing of it is left, but that the heap keeps what it
/// was given.
pub fn build(id: DomId, config: &DomainConfig, archive: &Archive) -> Result<DomainRef, BuildError> {
    let begin = clock::now_ns();
    let file = |name: &str| archive.file(name).ok_or_else(|| BuildError::NoFile(name.into()));
    let image = GuestImage::parse(file(&config.kernel)?)?;
    let initrd = config.initrd.as_deref().map(file).transpose()?;
    let pages = config.pages();
    let request = LayoutRequest {
        pages,
        initrd: initrd.map(|i| i.len() as u64),
        xenstore: true,
        console: true,
    };
    let plan = GuestLayout::new(&image, &request)?;
    let vcpus = config.vcpus as u16;
    let domain = create(id, config, pages, vcpus)?;
    match fill(&domain, config, &image, initrd, &plan) {
        Ok(vcpu) => {
            let record = Start {
                name: Text::Str(&domain.name),
                pages,
                vcpus,
                entry: Hex(plan.entry),
                overhead_frames: overhead(vcpus.into()),
                vcpu_bytes: (size_of::<Vcpu>() + size_of::<VcpuSlot>()) as u64,
                built_in: Micros((clock::now_ns() - begin) / 1000),
            };
            write_record(domain.who(), &record);
            domain.slots[0].initialise(vcpu);
            Ok(domain)
        }
        Err(error) => {
            teardown::release_unstarted(&domain);
            Err(error)
        }
    }
}

/// Makes a domain without memory, and lists it.
fn create(
    id: DomId,
    config: &DomainConfig,
    pages: u64,
    vcpus: u16,
) -> Result<DomainRef, BuildError> {
    let zeros = descriptors::zeros();
    let free = frames::free_count();
    let wanted = pages.saturating_add(overhead(vcpus.into()));
    if wanted > free {
        return Err(BuildError::Memory(wanted, free));
    }
    let no_memory = BuildError::Memory(wanted, free);
    if !heap_shares(vcpus.into()).into_iter().all(heap::grow) {
        return Err(no_memory);
    }
    let Some(shared_page) = SharedPage::alloc(id) else {
        return Err(no_memory);
    };
    let Some(per_domain) = PerDomainMappings::build(vcpus, zeros) else {
        let reclaimed = frames::allocator().reclaim(shared_page.frame(), id);
        debug_assert!(reclaimed.is_ok(), "nobody else knows it");
        return Err(no_memory);
    };
    platform::set_window(id, Some(per_domain.l3()));
    let cache_policy = match config.cache {
        pinfold_image::CachePolicy::Strict => CachePolicy::Strict,
        pinfold_image::CachePolicy::Report => CachePolicy::Report,
    };
    platform::set_cache_policy(id, cache_policy);
    let domain = Arc::new(Domain::new(DomainParts {
        id,
        name: config.name.clone(),
        shared_page,
        per_domain,
        vcpus,
        pages,
        rights: Rights { diagnose: config.diagnose, dump_frames: config.dump_frames },
    }));
    domain::list(&domain);
    Ok(domain)
}

fn fill(
    domain: &DomainRef,
    config: &DomainConfig,
    image: &GuestImage<'_>,
    initrd: Option<&[u8]>,
    plan: &GuestLayout,
) -> Result<Box<Vcpu>, BuildError> {
    let id = domain.id;
    let memory =
        Memory::take(id, plan).ok_or(BuildError::Memory(plan.pages, frames::free_count()))?;
    for segment in &image.segments {
        memory.write(segment.offset, image.data(segment))?;
    }
    if let Some(pfn) = plan.hypercall_pfn() {
        let mut page = [0; 4096];
        fill_hypercall_page(&mut page);
        memory.write(pfn * 4096, &page)?;
    }
    if let (Some(bytes), Some(place)) = (initrd, &plan.initrd) {
        memory.write(place.pfn * 4096, bytes)?;
    }
    if let Some(ring) = plan.console {
        // Not a table yet, so nothing is in the way.
        domain.console.lock().open(memory.mfn(ring)).map_err(BuildError::Tables)?;
    }
    let facts = StartInfoValues {
        shared_info: domain.shared_page.frame().address(),
        cmdline: &config.cmdline,
        console_evtchn: ports::open_console(domain),
        store_evtchn: ports::open_store(domain),
        ..StartInfoValues::default()
    };
    if let (Some(console), Some(ring)) = (plan.console, plan.xenstore) {
        let told = store::Facts {
            name: &domain.name,
            domain: id.get(),
            pages: plan.pages,
            vcpus: domain.slots.len() as u16,
            console: (memory.mfn(console).get(), facts.console_evtchn),
            store: (memory.mfn(ring).get(), facts.store_evtchn),
        };
        let no_memory = |_| BuildError::Memory(plan.pages, frames::free_count());
        let store = store::make(&told).map_err(no_memory)?;
        domain.store.open(id, memory.mfn(ring), store).map_err(BuildError::Tables)?;
    }
    let start_info = plan.start_info(&facts, |pfn| memory.try_mfn(pfn.get()).map(Mfn::new))?;
    memory.write(plan.start_info * 4096, start_info.as_bytes())?;
    fill_shared_info(domain.shared_page);

    let common = EntryFlags::PRESENT | EntryFlags::ACCESSED | EntryFlags::DIRTY;
    for entry in plan.tables.entries() {
        let mut flags = common;
        flags.set(EntryFlags::WRITABLE, entry.writable);
        let value = memory.mfn(entry.target.get()).address() | flags.bits();
        let table = memory.frame(entry.table.get())?;
        table.word(entry.index).store(value, Ordering::Relaxed);
    }
    let root = memory.mfn(plan.tables.first);
    to_the_end(|budget| validator().pin(id, Level::L4, root, budget))?;
    let root = to_the_end(|budget| RootRef::get(id, root, budget))?;
    platform::set_m2p_visible(&root, true);
    let state = domain.slots[0].take_memory().expect("no vCPU runs that could have claimed it");
    Ok(first_vcpu(state, domain, plan, root))
}

fn to_the_end<T>(mut step: impl FnMut(&mut Budget) -> Result<T, Error>) -> Result<T, BuildError> {
    loop {
        match step(&mut Budget::new(65_536)) {
            Ok(done) => return Ok(done),
            Err(Error::Preempted) => {}
            Err(Error::Refused(refusal)) => return Err(BuildError::Tables(refusal)),
        }
    }
}

/// Events masked on every vCPU; a clock that holds for ever, since the TSC never changes its rate
/// here: system time 0 is the hypervisor's start.
fn fill_shared_info(page: SharedPage) {
    let (tsc_to_system_mul, tsc_shift) = clock::scale();
    let time = VcpuTimeInfo {
        version: 2,
        tsc_timestamp: clock::tsc_at_start(),
        system_time: 0,
        tsc_to_system_mul,
        tsc_shift,
        ..VcpuTimeInfo::default()
    };
    let info = VcpuInfo { evtchn_upcall_mask: 1, time, ..VcpuInfo::default() };
    for vcpu in 0..LEGACY_VCPUS {
        let offset = core::mem::offset_of!(SharedInfo, vcpu_info) + vcpu * size_of::<VcpuInfo>();
        page.write_bytes(offset, info.as_bytes());
    }
    let (seconds, nanoseconds) = wall_clock::at_start();
    let wall = [2, seconds as u32, nanoseconds, (seconds >> 32) as u32];
    let offset = core::mem::offset_of!(SharedInfo, wc_version);
    page.write_bytes(offset, wall.as_bytes());
}

fn first_vcpu(
    memory: VcpuMemory,
    domain: &DomainRef,
    plan: &GuestLayout,
    root: RootRef,
) -> Box<Vcpu> {
    let mut file = RegisterFile::new();
    file.regs = CpuUserRegs {
        rip: plan.entry,
        rsi: plan.address(plan.start_info),
        rsp: plan.stack_top(),
        rflags: rflags::IF | rflags::ALWAYS_ONE,
        cs: FLAT_RING3_CS64,
        ss: FLAT_RING3_SS64,
        ..CpuUserRegs::default()
    };
    let mut vcpu = Vcpu::new(memory, domain.clone(), 0, root);
    vcpu.file = file;
    vcpu.kernel_stack = (FLAT_RING3_SS64, plan.stack_top());
    vcpu
}
