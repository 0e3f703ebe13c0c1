//! The hypervisor's own page tables. All mappings are W^X, and in the slots that the ABI reserves.

use super::early::{EarlyFrames, Region};
use crate::arch::gdt::HYPERVISOR_PAGE_OFFSET;
use crate::arch::layout;
use crate::arch::percpu::PerCpu;
use crate::memory::direct_map;
use elf::ElfBytes;
use elf::abi::{PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use pinfold_abi::layout::PAGE_SIZE;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::{PageTable, PageTableFlags};
use x86_64::{PhysAddr, VirtAddr};

const LARGE: u64 = 2 << 20;

const TABLE: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);
const READ_ONLY: PageTableFlags =
    PageTableFlags::PRESENT.union(PageTableFlags::GLOBAL).union(PageTableFlags::NO_EXECUTE);
const DATA: PageTableFlags = READ_ONLY.union(PageTableFlags::WRITABLE);
const CODE: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::GLOBAL);

/// A page table by its physical address.
fn table(physical: u64) -> &'static mut PageTable {
    // SAFETY: tables are frames of the early allocator. They are in the direct map, which has the same
    // address on the boot loader's tables and on the hypervisor's. Boot is single-threaded, and no
    // caller keeps a reference while it calls this again.
    unsafe { &mut *(direct_map::address(physical) as *mut PageTable) }
}

/// Page tables that are being built.
pub struct Mapper<'a> {
    root: u64,
    frames: &'a mut EarlyFrames,
}

impl Mapper<'_> {
    /// The table that a slot points to. It is allocated if absent; `tables` are the flags of the new
    /// entry.
    fn next(&mut self, parent: u64, index: usize, tables: PageTableFlags) -> u64 {
        let entry = &table(parent)[index];
        if entry.is_unused() {
            let physical = self.frames.alloc(PAGE_SIZE, PAGE_SIZE);
            table(parent)[index].set_addr(PhysAddr::new(physical), tables);
            physical
        } else {
            entry.addr().as_u64()
        }
    }

    fn map(&mut self, virt: u64, physical: u64, bytes: u64, flags: PageTableFlags) {
        // U/S must be set at all levels of a mapping that guests may read.
        let tables = TABLE | flags & PageTableFlags::USER_ACCESSIBLE;
        let mut done = 0;
        while done < bytes {
            let (at, target) = (VirtAddr::new(virt + done), physical + done);
            let l3 = self.next(self.root, at.p4_index().into(), tables);
            let l2 = self.next(l3, at.p3_index().into(), tables);
            let large =
                at.is_aligned(LARGE) && target.is_multiple_of(LARGE) && bytes - done >= LARGE;
            if large {
                table(l2)[at.p2_index()]
                    .set_addr(PhysAddr::new(target), flags | PageTableFlags::HUGE_PAGE);
                done += LARGE;
            } else {
                let l1 = self.next(l2, at.p2_index().into(), tables);
                table(l1)[at.p1_index()].set_addr(PhysAddr::new(target), flags);
                done += PAGE_SIZE;
            }
        }
    }

    fn unmap(&mut self, at: VirtAddr) {
        let l3 = self.next(self.root, at.p4_index().into(), TABLE);
        let l2 = self.next(l3, at.p3_index().into(), TABLE);
        let l1 = self.next(l2, at.p2_index().into(), TABLE);
        table(l1)[at.p1_index()].set_unused();
    }
}

/// The hypervisor's ELF file, which the boot loader left in memory.
///
/// # Safety
/// The file is at this physical address, and nothing ever writes there.
pub unsafe fn kernel_elf(physical: u64, bytes: u64) -> ElfBytes<'static, LittleEndian> {
    // SAFETY: the file is there, as the caller ensures.
    let file = unsafe {
        core::slice::from_raw_parts(direct_map::address(physical) as *const u8, bytes as usize)
    };
    ElfBytes::minimal_parse(file).expect("the boot loader has parsed this file")
}

/// Root of the hypervisor's own page tables, which only [`build`] makes. It is loaded while no vCPU is.
#[derive(Clone, Copy, Debug)]
pub struct IdleRoot(u64);

impl IdleRoot {
    /// Physical address of the root.
    pub fn address(self) -> u64 {
        self.0
    }
}

/// Builds the page tables.
pub fn build(
    frames: &mut EarlyFrames,
    regions: &[Region],
    image: ElfBytes<'_, LittleEndian>,
    image_base: u64,
    cpus: usize,
    io_apic: Option<u64>,
) -> IdleRoot {
    let root = frames.alloc(PAGE_SIZE, PAGE_SIZE);
    let mut mapper = Mapper { root, frames };
    for region in regions {
        let start = region.start & !(LARGE - 1);
        let end = region.end.next_multiple_of(LARGE).min(layout::DIRECT_MAP_BYTES);
        mapper.map(direct_map::address(start), start, end.saturating_sub(start), DATA);
    }
    map_image(&mut mapper, image, image_base);
    for cpu in 0..cpus {
        map_cpu(&mut mapper, cpu);
    }
    let apic = crate::arch::apic::physical_address();
    let uncached = PageTableFlags::NO_CACHE | PageTableFlags::WRITE_THROUGH;
    mapper.map(layout::APIC_REGISTERS, apic, PAGE_SIZE, DATA | uncached);
    if let Some(io_apic) = io_apic {
        mapper.map(
            layout::IO_APIC_REGISTERS,
            io_apic & !(PAGE_SIZE - 1),
            PAGE_SIZE,
            DATA | uncached,
        );
    }
    IdleRoot(root)
}

/// Maps the per-CPU area of a CPU: stack, record without its guard pages, idle GDT.
fn map_cpu(mapper: &mut Mapper<'_>, cpu: usize) {
    let stack = mapper.frames.alloc(layout::STACK_BYTES, PAGE_SIZE);
    mapper.map(layout::stack_bottom(cpu), stack, layout::STACK_BYTES, DATA);
    let bytes = size_of::<PerCpu>() as u64;
    let record = mapper.frames.alloc(bytes, PAGE_SIZE);
    mapper.map(layout::cpu_record(cpu), record, bytes, DATA);
    for guard in PerCpu::guard_pages() {
        mapper.unmap(VirtAddr::new(layout::cpu_record(cpu) + guard));
    }
    // It need not be global: the idle GDT is used only on the idle root.
    mapper.map(
        layout::idle_gdt(cpu) + HYPERVISOR_PAGE_OFFSET,
        record + PerCpu::GDT_OFFSET,
        PAGE_SIZE,
        DATA - PageTableFlags::GLOBAL,
    );
}

/// Maps memory read-only for guests: used for the M2P. Not global: user mode of guests must not read the
/// M2P, which is absent from its roots, and a global translation would survive the switch of roots.
pub fn map_for_guests(
    frames: &mut EarlyFrames,
    root: IdleRoot,
    virt: u64,
    physical: u64,
    bytes: u64,
) {
    let flags = (READ_ONLY - PageTableFlags::GLOBAL) | PageTableFlags::USER_ACCESSIBLE;
    Mapper { root: root.0, frames }.map(virt, physical, bytes, flags);
}

fn map_image(mapper: &mut Mapper<'_>, image: ElfBytes<'_, LittleEndian>, base: u64) {
    let segments = image.segments().expect("the image has program headers");
    for segment in segments.iter().filter(|s| s.p_type == PT_LOAD) {
        let flags = match (segment.p_flags & PF_W != 0, segment.p_flags & PF_X != 0) {
            (true, true) => panic!("the image has a segment that is writable and executable"),
            (true, false) => DATA,
            (false, true) => CODE,
            (false, false) => READ_ONLY,
        };
        let start = (base + segment.p_vaddr) & !(PAGE_SIZE - 1);
        let end = base + segment.p_vaddr + segment.p_memsz;
        let mut page = start;
        while page < end {
            let physical = translate(page).expect("the boot loader mapped the whole image");
            mapper.map(page, physical, PAGE_SIZE, flags);
            page += PAGE_SIZE;
        }
    }
}

/// Translates a virtual address by the page tables that are loaded.
pub fn translate(address: u64) -> Option<u64> {
    let at = VirtAddr::new(address);
    let mut current = Cr3::read().0.start_address().as_u64();
    let indexes =
        [(at.p4_index(), 39), (at.p3_index(), 30), (at.p2_index(), 21), (at.p1_index(), 12)];
    for (index, shift) in indexes {
        let entry = &table(current)[index];
        if !entry.flags().contains(PageTableFlags::PRESENT) {
            return None;
        }
        let physical = entry.addr().as_u64();
        if shift == 12 || entry.flags().contains(PageTableFlags::HUGE_PAGE) {
            let offset = address & ((1 << shift) - 1);
            return Some((physical & !((1 << shift) - 1)) + offset);
        }
        current = physical;
    }
    None
}

/// Translates a range of virtual addresses, if it is mapped and physically contiguous.
pub fn translate_contiguous(address: u64, bytes: u64) -> Option<u64> {
    let start = translate(address)?;
    let mut offset = PAGE_SIZE;
    while offset < bytes {
        if translate(address + offset)? != start + offset {
            return None;
        }
        offset += PAGE_SIZE;
    }
    Some(start)
}

/// Loads a root and calls `next` on another stack, without using the old stack in between, which the
/// root doesn't map.
///
/// # Safety
/// The root maps the running image at its address, and the stack that ends at `top`, which is not in
/// use.
pub unsafe fn switch(root: IdleRoot, top: u64, next: extern "C" fn() -> !) -> ! {
    // SAFETY: nothing on the old stack is used again; both roots map the code at the same address; rbp
    // 0 ends backtraces.
    unsafe {
        core::arch::asm!(
            "mov cr3, {root}",
            "mov rsp, {top}",
            "xor ebp, ebp",
            "call {next}",
            "ud2",
            root = in(reg) root.0,
            top = in(reg) top,
            next = in(reg) next,
            options(noreturn)
        )
    }
}
