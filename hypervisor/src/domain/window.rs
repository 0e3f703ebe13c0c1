//! The per-domain L4 slot: where the GDTs and LDTs of a domain's vCPUs appear.
//!
//! Three tables of the hypervisor's own, one of each lower level; the L1 reaches 2 MiB, eight
//! vCPUs. Entries are not global, as they differ from domain to domain.

use crate::arch::gdt::HYPERVISOR_PAGE_OFFSET;
use crate::boot::paging;
use crate::memory::{direct_map, layout};
use pinfold_validator::{Index, Mfn};
use x86_64::VirtAddr;
use x86_64::instructions::tlb;

/// Present, writable, supervisor, accessed and dirty so that no walk has to write.
const TABLE: u64 = 0x63;
/// As [`TABLE`], not executable.
const PAGE: u64 = TABLE | 1 << 63;
/// Present, supervisor, not executable.
const PAGE_READ_ONLY: u64 = 0x21 | 1 << 63;

/// The tables of one domain.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// What the L4 slot points to.
    pub l3: Mfn,
    l2: Mfn,
    l1: Mfn,
}

impl Window {
    /// Builds the tables in three zeroed frames. `zeros` is a frame of zeros for GDT pages that
    /// have nothing in them.
    pub fn new(frames: [Mfn; 3], vcpus: u16, zeros: Mfn) -> Window {
        let [l3, l2, l1] = frames;
        let first = Index::new(0);
        direct_map::entry(l3, first).store(l2.get() << 12 | TABLE, SEQ);
        direct_map::entry(l2, first).store(l1.get() << 12 | TABLE, SEQ);
        let window = Window { l3, l2, l1 };
        let own = crate::arch::percpu::this().gdt.address().as_u64();
        let own = paging::translate(own).expect("the image is mapped") >> 12;
        for vcpu in 0..vcpus {
            for page in 0..16 {
                window.set(vcpu, page * 4096, zeros.get() << 12 | PAGE_READ_ONLY);
            }
            window.set(vcpu, HYPERVISOR_PAGE_OFFSET, own << 12 | PAGE);
        }
        window
    }

    /// Frames of the tables, for giving them back.
    pub fn frames(&self) -> [Mfn; 3] {
        [self.l3, self.l2, self.l1]
    }

    /// Linear address of a vCPU's GDT.
    pub fn gdt_base(vcpu: u16) -> VirtAddr {
        VirtAddr::new(layout::PER_DOMAIN_START + u64::from(vcpu) * layout::VCPU_WINDOW)
    }

    /// Linear address of a vCPU's LDT.
    pub fn ldt_base(vcpu: u16) -> VirtAddr {
        Window::gdt_base(vcpu) + layout::LDT_OFFSET
    }

    fn set(&self, vcpu: u16, offset: u64, entry: u64) {
        let address = Window::gdt_base(vcpu) + offset;
        direct_map::entry(self.l1, Index::new(address.p1_index().into())).store(entry, SEQ);
        // The window of this vCPU is only ever loaded on the processor that runs it, which is
        // this one when it changes.
        tlb::flush(address);
    }

    /// Shows a descriptor frame as page `page` of a vCPU's GDT, or zeros.
    pub fn set_gdt_page(&self, vcpu: u16, page: usize, frame: Option<Mfn>, zeros: Mfn) {
        let entry = frame.map_or(zeros.get() << 12 | PAGE_READ_ONLY, |f| f.get() << 12 | PAGE);
        self.set(vcpu, page as u64 * 4096, entry);
    }

    /// Shows a descriptor frame as page `page` of a vCPU's LDT, or nothing.
    pub fn set_ldt_page(&self, vcpu: u16, page: usize, frame: Option<Mfn>) {
        let entry = frame.map_or(0, |f| f.get() << 12 | PAGE);
        self.set(vcpu, layout::LDT_OFFSET + page as u64 * 4096, entry);
    }
}

/// Plain stores would do: only page walks of this processor read the tables, after `invlpg`.
const SEQ: core::sync::atomic::Ordering = core::sync::atomic::Ordering::SeqCst;
