//! The per-domain L4 slot: maps the GDTs and LDTs of a domain's vCPUs.
//!
//! Tables of the hypervisor's own: an L3, an L2, and an L1 for every eight vCPUs. Entries are not
//! global, as they differ from domain to domain.
#![expect(unsafe_code, reason = "entries of a page table that the hypervisor owns")]

use crate::arch::gdt::HYPERVISOR_PAGE_OFFSET;
use crate::arch::layout;
use crate::memory::frame_refs::DescriptorRef;
use crate::memory::{direct_map, frames};
use crate::sync::Mutex;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::shared_info::LEGACY_VCPUS;
use pinfold_validator::{HypervisorFrames, Index, Mfn, Purpose};
use x86_64::VirtAddr;
use x86_64::instructions::tlb;

/// Present, writable, supervisor; accessed and dirty, so that no page walk writes.
const TABLE: u64 = 0x63;
/// As [`TABLE`], not executable.
const PAGE: u64 = TABLE | 1 << 63;
/// Present, supervisor, not executable.
const PAGE_READ_ONLY: u64 = 0x21 | 1 << 63;

/// L1 tables at most: for as many vCPUs as the shared page has room for.
const MAX_L1: usize = LEGACY_VCPUS.div_ceil(layout::VCPUS_PER_L1);
/// Tables at most.
const MAX_TABLES: usize = 2 + MAX_L1;

/// The tables of one domain.
#[derive(Debug)]
pub struct PerDomainMappings {
    l3: Mfn,
    l1: ArrayVec<Mfn, MAX_L1>,
    /// All tables, until the domain's end.
    frames: Mutex<ArrayVec<HypervisorFrames, MAX_TABLES>>,
}

impl PerDomainMappings {
    /// Frames that the tables for so many vCPUs need.
    pub fn frames_for(vcpus: usize) -> usize {
        2 + vcpus.div_ceil(layout::VCPUS_PER_L1)
    }

    /// Builds the tables for `vcpus`. `zeros` is a frame of zeros, mapped where a GDT has no page.
    /// `None` if there is too little free memory.
    pub fn build(vcpus: u16, zeros: Mfn) -> Option<PerDomainMappings> {
        let mut own = ArrayVec::new();
        for _ in 0..PerDomainMappings::frames_for(vcpus.into()) {
            let Some(table) = frames::alloc_hypervisor_frame(Purpose::PerDomainTables) else {
                own.into_iter().for_each(frames::free_hypervisor_frames);
                return None;
            };
            own.push(table);
        }
        let mut tables = own.iter().map(HypervisorFrames::first);
        let (l3, l2) = (tables.next()?, tables.next()?);
        let l1: ArrayVec<Mfn, MAX_L1> = tables.collect();
        own_table_entry(l3, Index::new(0)).store(l2.address() | TABLE, SEQ);
        for (index, table) in l1.iter().enumerate() {
            let entry = own_table_entry(l2, Index::new(index));
            entry.store(table.address() | TABLE, SEQ);
        }
        let window = PerDomainMappings { l3, l1, frames: Mutex::new(own) };
        for vcpu in 0..vcpus {
            for page in 0..16 {
                window.store(vcpu, page * 4096, zeros.address() | PAGE_READ_ONLY);
            }
        }
        Some(window)
    }

    /// The L3 table, for the L4 slot.
    pub fn l3(&self) -> Mfn {
        self.l3
    }

    /// Frees the tables. No CPU has a root of the domain loaded, and none will load one again.
    pub fn free(&self) {
        self.frames.lock().drain(..).for_each(frames::free_hypervisor_frames);
    }

    /// Maps a CPU's own page in a vCPU's GDT, before that CPU loads the vCPU's root.
    pub fn set_hypervisor_page(&self, vcpu: u16, physical: u64) {
        self.store(vcpu, HYPERVISOR_PAGE_OFFSET, physical | PAGE);
    }

    /// Linear address of a vCPU's GDT.
    pub fn gdt_base(vcpu: u16) -> VirtAddr {
        VirtAddr::new(layout::PER_DOMAIN_START + u64::from(vcpu) * layout::VCPU_MAPPINGS_BYTES)
    }

    /// Linear address of a vCPU's LDT.
    pub fn ldt_base(vcpu: u16) -> VirtAddr {
        PerDomainMappings::gdt_base(vcpu) + layout::LDT_OFFSET
    }

    fn store(&self, vcpu: u16, offset: u64, entry: u64) {
        let address = PerDomainMappings::gdt_base(vcpu) + offset;
        let table = self.l1[usize::from(vcpu) / layout::VCPUS_PER_L1];
        let index = Index::new(address.p1_index().into());
        own_table_entry(table, index).store(entry, SEQ);
    }

    fn set(&self, vcpu: u16, offset: u64, entry: u64) {
        self.store(vcpu, offset, entry);
        // A vCPU's area is used only on the CPU that runs it, which is this one if it is running.
        tlb::flush(PerDomainMappings::gdt_base(vcpu) + offset);
    }

    /// Maps a descriptor frame, or zeros, as page `page` of a vCPU's GDT.
    pub fn set_gdt_page(&self, vcpu: u16, page: usize, frame: Option<&DescriptorRef>, zeros: Mfn) {
        let entry = match frame {
            Some(frame) => frame.frame().address() | PAGE,
            None => zeros.address() | PAGE_READ_ONLY,
        };
        self.set(vcpu, page as u64 * 4096, entry);
    }

    /// Maps a descriptor frame, or nothing, as page `page` of a vCPU's LDT.
    pub fn set_ldt_page(&self, vcpu: u16, page: usize, frame: Option<&DescriptorRef>) {
        let entry = frame.map_or(0, |frame| frame.frame().address() | PAGE);
        self.set(vcpu, layout::LDT_OFFSET + page as u64 * 4096, entry);
    }
}

/// An entry of one of the tables.
fn own_table_entry(table: Mfn, index: Index) -> &'static AtomicU64 {
    // SAFETY: the tables are frames of the hypervisor's own until `free`, after which nobody sets an
    // entry: the domain has no vCPU then.
    unsafe { direct_map::entry(table, index) }
}

/// Relaxed stores would do: a vCPU's area is used only on the CPU that runs it, after a root was
/// loaded or after `invlpg`.
const SEQ: Ordering = Ordering::SeqCst;
