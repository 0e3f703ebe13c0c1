//! The plan of a guest's first address space.
//!
//! One piece of the guest's memory, from pfn 0, is mapped from `virt_base` on; in it, packed and
//! page-aligned, in the ABI's order (`public/xen.h`, "start-of-day memory layout"):
//!
//! | what | pages | |
//! |---|---|---|
//! | kernel image | up to the end of its last segment | holes between segments are zero pages |
//! | initrd | as long as it is | only when the guest can't take an unmapped one |
//! | p2m list | 8 bytes for every page of the domain | |
//! | start-of-day page | 1 | |
//! | xenstore ring, console ring | 1 each | when wanted |
//! | page tables | L4, L3s, L2s, L1s | mapped read-only |
//! | boot stack | 1 | |
//! | slack | at least 512 KiB, up to an address that is a multiple of 4 MiB | |
//!
//! An unmapped initrd follows the mapping. A plan is arithmetic only; it is made before any frame
//! is allocated, so a domain that can't be built costs nothing.
//!
//! The note INIT_P2M is not honoured: the list is at its default place, with which every guest
//! that knows the note must cope.

use crate::error::LayoutError;
use crate::image::GuestImage;
use crate::tables::TablePlan;
use core::ops::Range;
use pinfold_abi::layout::PAGE_SIZE;

/// The mapping ends at a multiple of this.
const MAPPING_ALIGN: u64 = 4 << 20;
/// What is mapped, at least, after the last element.
const MAPPING_SLACK: u64 = 512 << 10;

/// What is to be planned for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Pages of the domain.
    pub pages: u64,
    /// Bytes of the initrd; `None` when there is none.
    pub initrd: Option<u64>,
    /// Reserve a page for the xenstore ring.
    pub xenstore: bool,
    /// Reserve a page for the console ring.
    pub console: bool,
}

/// Where the initrd is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initrd {
    /// Its first frame.
    pub pfn: u64,
    /// Its bytes.
    pub bytes: u64,
    /// It is inside the mapping; otherwise the guest is told its frame number.
    pub mapped: bool,
}

/// Where everything is, as pseudo-physical frames. [`Plan::address`] gives the guest's address of
/// one. The kernel's segments stay in [`GuestImage::segments`], as offsets from pfn 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Address of pfn 0.
    pub virt_base: u64,
    /// Address of the first instruction.
    pub entry: u64,
    /// Address of the page to be filled with hypercall stubs.
    pub hypercall_page: Option<u64>,
    /// Pages of the domain.
    pub pages: u64,
    /// Pages mapped, from pfn 0 on; at most `pages`.
    pub mapped_pages: u64,
    /// Pages from pfn 0 to the end of the kernel image.
    pub kernel_pages: u64,
    /// The initrd.
    pub initrd: Option<Initrd>,
    /// The p2m list: 8 bytes a page of the domain.
    pub p2m: Range<u64>,
    /// The start-of-day page.
    pub start_info: u64,
    /// The xenstore ring.
    pub xenstore: Option<u64>,
    /// The console ring.
    pub console: Option<u64>,
    /// The page tables: which frames, and what each maps.
    pub tables: TablePlan,
    /// The boot stack.
    pub stack: u64,
}

impl Plan {
    /// Plans the first address space of `image` in a domain.
    pub fn new(image: &GuestImage<'_>, request: &Request) -> Result<Plan, LayoutError> {
        let virt_base = image.virt_base;
        let mut cursor = Cursor { next: 0, pages: request.pages };
        let kernel = cursor.take("kernel image", pages_of(image.end()))?;
        let unmapped = image.notes.mod_start_pfn;
        let mapped_initrd = match request.initrd {
            Some(bytes) if !unmapped => {
                Some((cursor.take("initrd", pages_of(bytes))?.start, bytes))
            }
            _ => None,
        };
        // Eight bytes a page: 512 pages' numbers in a page.
        let p2m = cursor.take("p2m list", request.pages.div_ceil(512))?;
        let start_info = cursor.take("start-of-day page", 1)?.start;
        let ring = |wanted: bool, what, cursor: &mut Cursor| {
            wanted.then(|| cursor.take(what, 1).map(|r| r.start)).transpose()
        };
        let xenstore = ring(request.xenstore, "xenstore ring", &mut cursor)?;
        let console = ring(request.console, "console ring", &mut cursor)?;

        let (tables, mapped_pages) = tables(virt_base, cursor.next, image.window_pages())?;
        cursor.take("page tables", tables.count())?;
        let stack = cursor.take("boot stack", 1)?.start;
        let mut end = Cursor { next: 0, pages: request.pages };
        end.take("mapping with its slack", mapped_pages)?;
        let initrd = match (mapped_initrd, request.initrd) {
            (Some((pfn, bytes)), _) => Some(Initrd { pfn, bytes, mapped: true }),
            (None, Some(bytes)) => {
                let pfn = end.take("unmapped initrd", pages_of(bytes))?.start;
                Some(Initrd { pfn, bytes, mapped: false })
            }
            (None, None) => None,
        };
        Ok(Plan {
            virt_base,
            entry: image.entry,
            hypercall_page: image.hypercall_page,
            pages: request.pages,
            mapped_pages,
            kernel_pages: kernel.end,
            initrd,
            p2m,
            start_info,
            xenstore,
            console,
            tables,
            stack,
        })
    }

    /// The guest's address of a mapped frame.
    pub const fn address(&self, pfn: u64) -> u64 {
        // No wrap for frames of the mapping: the plan was checked against the window. For any
        // other number the result is meaningless but harmless.
        self.virt_base.wrapping_add(pfn.wrapping_mul(PAGE_SIZE))
    }

    /// The frame of a mapped address.
    pub const fn pfn_of(&self, address: u64) -> Option<u64> {
        match address.checked_sub(self.virt_base) {
            Some(offset) if offset / PAGE_SIZE < self.mapped_pages => Some(offset / PAGE_SIZE),
            _ => None,
        }
    }

    /// The stack pointer at entry: the top of the boot stack.
    pub const fn stack_top(&self) -> u64 {
        self.address(self.stack + 1)
    }

    /// The frame that is to be filled with hypercall stubs.
    pub const fn hypercall_pfn(&self) -> Option<u64> {
        match self.hypercall_page {
            Some(address) => self.pfn_of(address),
            None => None,
        }
    }
}

/// Hands out frames in order and says what did not fit.
struct Cursor {
    next: u64,
    pages: u64,
}

impl Cursor {
    fn take(&mut self, what: &'static str, pages: u64) -> Result<Range<u64>, LayoutError> {
        let start = self.next;
        let end = start.saturating_add(pages);
        if end > self.pages {
            return Err(LayoutError::MemoryTooSmall { what, needed: end, pages: self.pages });
        }
        self.next = end;
        Ok(start..end)
    }
}

const fn pages_of(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE)
}

/// The page tables at `first` and the pages that they map.
///
/// Tables map themselves, so more tables can mean more to map, which can mean more tables: the
/// size grows until it is enough. It converges because a table more is a page more, and 512 pages
/// are one table more; it is bounded because the mapping is.
fn tables(virt_base: u64, first: u64, window: u64) -> Result<(TablePlan, u64), LayoutError> {
    let mut count = 4;
    loop {
        // One page more for the stack.
        let needed = first.saturating_add(count).saturating_add(1);
        let mapped = mapped_pages(virt_base, needed)
            .filter(|&mapped| mapped <= window)
            .ok_or(LayoutError::WindowTooSmall { virt_base, needed, window })?;
        let plan = TablePlan::new(virt_base, mapped, first);
        // Never fewer: the mapping only grew, and no mapping needs fewer than the first four.
        if plan.count() == count {
            return Ok((plan, mapped));
        }
        count = plan.count();
    }
}

/// Pages to map so that `needed` are, with the slack, up to an aligned address.
fn mapped_pages(virt_base: u64, needed: u64) -> Option<u64> {
    let last = needed.checked_mul(PAGE_SIZE)?.checked_add(MAPPING_SLACK)?;
    let end = virt_base.checked_add(last)?.checked_next_multiple_of(MAPPING_ALIGN)?;
    Some((end - virt_base) / PAGE_SIZE)
}
