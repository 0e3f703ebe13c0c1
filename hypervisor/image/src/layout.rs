//! The layout of a guest's first address space.
//!
//! The beginning of the guest's memory, from pfn 0 on, is mapped from `virt_base` on. It contains,
//! packed and page-aligned, in the order of the ABI (`public/xen.h`, "start-of-day memory layout"):
//!
//! | what | pages | |
//! |---|---|---|
//! | kernel image | up to the end of its last segment | gaps between segments are zero |
//! | initrd | its length | unless the guest takes an unmapped one |
//! | p2m list | 8 bytes for each page of the domain | |
//! | start-of-day page | 1 | |
//! | xenstore ring, console ring | 1 each | if requested |
//! | page tables | L4, L3s, L2s, L1s | mapped read-only |
//! | boot stack | 1 | |
//! | slack | at least 512 KiB, up to an address that is a multiple of 4 MiB | |
//!
//! An unmapped initrd follows the mapping. The layout is computed before any frame is allocated, so a
//! domain that can't be built costs nothing.
//!
//! The note INIT_P2M is ignored: the p2m list is at its default place, which every guest with the
//! note must also accept.

use crate::error::LayoutError;
use crate::image::GuestImage;
use crate::table_layout::TableLayout;
use core::ops::Range;
use pinfold_abi::layout::PAGE_SIZE;

/// The mapping ends at a multiple of this many bytes.
const MAPPING_ALIGN: u64 = 4 << 20;
/// Least number of bytes that are mapped behind the last element.
const MAPPING_SLACK: u64 = 512 << 10;
/// Bytes of an entry of the p2m list.
const P2M_ENTRY: u64 = 8;

/// What the domain needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayoutRequest {
    /// Number of pages of the domain.
    pub pages: u64,
    /// Bytes of the initrd, if there is one.
    pub initrd: Option<u64>,
    /// Reserve a page for the xenstore ring.
    pub xenstore: bool,
    /// Reserve a page for the console ring.
    pub console: bool,
}

/// The place of the initrd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Initrd {
    /// First pfn.
    pub pfn: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// It is in the mapping. Otherwise the guest gets its pfn instead of an address.
    pub mapped: bool,
}

/// The layout of the first address space, in pfns. [`GuestLayout::address`] converts a pfn to the
/// guest's address. The kernel's segments are in [`GuestImage::segments`], as offsets from pfn 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestLayout {
    /// Address of pfn 0.
    pub virt_base: u64,
    /// Address of the first instruction.
    pub entry: u64,
    /// Address of the page for hypercall stubs.
    pub hypercall_page: Option<u64>,
    /// Number of pages of the domain.
    pub pages: u64,
    /// Number of pages that are mapped, from pfn 0 on; at most `pages`.
    pub mapped_pages: u64,
    /// Number of pages up to the end of the kernel image.
    pub kernel_pages: u64,
    /// The initrd.
    pub initrd: Option<Initrd>,
    /// The p2m list.
    pub p2m: Range<u64>,
    /// The start-of-day page.
    pub start_info: u64,
    /// The xenstore ring.
    pub xenstore: Option<u64>,
    /// The console ring.
    pub console: Option<u64>,
    /// The page tables.
    pub tables: TableLayout,
    /// The boot stack.
    pub stack: u64,
}

impl GuestLayout {
    /// Lays out the first address space of `image`.
    ///
    /// # Errors
    /// [`LayoutError::MemoryTooSmall`], [`LayoutError::WindowTooSmall`].
    pub fn new(
        image: &GuestImage<'_>,
        request: &LayoutRequest,
    ) -> Result<GuestLayout, LayoutError> {
        let virt_base = image.virt_base;
        let mut cursor = PfnCursor { next: 0, pages: request.pages };
        let kernel = cursor.reserve("kernel image", pages_of(image.end()))?;
        let unmapped = image.notes.mod_start_pfn;
        let mapped_initrd = match request.initrd {
            Some(bytes) if !unmapped => {
                Some((cursor.reserve("initrd", pages_of(bytes))?.start, bytes))
            }
            _ => None,
        };
        let p2m = cursor.reserve("p2m list", request.pages.div_ceil(PAGE_SIZE / P2M_ENTRY))?;
        let start_info = cursor.reserve("start-of-day page", 1)?.start;
        let ring = |wanted: bool, what, cursor: &mut PfnCursor| {
            wanted.then(|| cursor.reserve(what, 1).map(|r| r.start)).transpose()
        };
        let xenstore = ring(request.xenstore, "xenstore ring", &mut cursor)?;
        let console = ring(request.console, "console ring", &mut cursor)?;

        let (tables, mapped_pages) = layout_tables(virt_base, cursor.next, image.window_pages())?;
        cursor.reserve("page tables", tables.count())?;
        let stack = cursor.reserve("boot stack", 1)?.start;
        let mut end = PfnCursor { next: 0, pages: request.pages };
        end.reserve("mapping with its slack", mapped_pages)?;
        let initrd = match (mapped_initrd, request.initrd) {
            (Some((pfn, bytes)), _) => Some(Initrd { pfn, bytes, mapped: true }),
            (None, Some(bytes)) => {
                let pfn = end.reserve("unmapped initrd", pages_of(bytes))?.start;
                Some(Initrd { pfn, bytes, mapped: false })
            }
            (None, None) => None,
        };
        Ok(GuestLayout {
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

    /// The guest's address of a mapped pfn.
    pub const fn address(&self, pfn: u64) -> u64 {
        // Doesn't wrap for mapped pfns, since the mapping fits into its half of the address space.
        // For any other number the result is meaningless but harmless.
        self.virt_base.wrapping_add(pfn.wrapping_mul(PAGE_SIZE))
    }

    /// The pfn of a mapped address.
    pub const fn pfn_of(&self, address: u64) -> Option<u64> {
        match address.checked_sub(self.virt_base) {
            Some(offset) if offset / PAGE_SIZE < self.mapped_pages => Some(offset / PAGE_SIZE),
            _ => None,
        }
    }

    /// The initial stack pointer: the end of the boot stack.
    pub const fn stack_top(&self) -> u64 {
        self.address(self.stack + 1)
    }

    /// The pfn of the page for hypercall stubs.
    pub const fn hypercall_pfn(&self) -> Option<u64> {
        match self.hypercall_page {
            Some(address) => self.pfn_of(address),
            None => None,
        }
    }
}

/// Reserves pfns in order.
struct PfnCursor {
    next: u64,
    pages: u64,
}

impl PfnCursor {
    fn reserve(&mut self, what: &'static str, pages: u64) -> Result<Range<u64>, LayoutError> {
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

/// Lays out the page tables from pfn `first` on. Returns them and the number of mapped pages.
///
/// The tables map themselves, so more tables mean more pages to map, which can mean more tables. The
/// loop ends because 512 more pages need only one more table, and because the mapping is bounded by
/// `window`, the number of pages for which there are addresses.
fn layout_tables(
    virt_base: u64,
    first: u64,
    window: u64,
) -> Result<(TableLayout, u64), LayoutError> {
    let mut count = 4;
    loop {
        // One more page for the stack.
        let needed = first.saturating_add(count).saturating_add(1);
        let mapped = mapped_pages(virt_base, needed)
            .filter(|&mapped| mapped <= window)
            .ok_or(LayoutError::WindowTooSmall { virt_base, needed, window })?;
        let tables = TableLayout::new(virt_base, mapped, first);
        // Never fewer: the mapping has only grown, and every mapping needs at least four tables.
        if tables.count() == count {
            return Ok((tables, mapped));
        }
        count = tables.count();
    }
}

/// Number of pages to map so that `needed` pages and the slack are mapped, up to an aligned address.
/// `None`: it overflows.
fn mapped_pages(virt_base: u64, needed: u64) -> Option<u64> {
    let last = needed.checked_mul(PAGE_SIZE)?.checked_add(MAPPING_SLACK)?;
    let end = virt_base.checked_add(last)?.checked_next_multiple_of(MAPPING_ALIGN)?;
    Some((end - virt_base) / PAGE_SIZE)
}
