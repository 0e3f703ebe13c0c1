//! The domain's grant table, pages to grant, and addresses to map them at.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use pinfold_abi::domid;
use pinfold_abi::grant::{ENTRIES_PER_FRAME, EntryFlags, MapFlags};
use pinfold_abi::mmu::{EntryFlags as Pte, UVMF_INVLPG};
use pinfold_guest::addr::{Level, Mfn, Pfn, Vaddr};
use pinfold_guest::entry::Boot;
use pinfold_guest::entry::catch;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::fixtures::{Check, RW, TableFixture};
use pinfold_guest::raw::grants as calls;
use pinfold_guest::raw::{self, reservation};

/// First reference that a guest may use.
pub(crate) const FIRST: u32 = 8;

/// The state of all tests.
pub(crate) struct GrantFixture {
    /// Free frames, mapped in the initial address space.
    pub(crate) tables: TableFixture,
    /// The domain's own number.
    pub(crate) own: u16,
    /// Machine frame of the shared info page.
    pub(crate) shared_info: u64,
    table: Vaddr,
}

impl GrantFixture {
    /// Sets up the grant table, with one frame.
    pub(crate) fn set_up(boot: &Boot, check: &mut Check) -> Option<GrantFixture> {
        let own = calls::own_number();
        check.holds("the domain has a number", own.is_some());
        let mut tables = TableFixture::new(Frames::new(boot));
        let frames = calls::setup::<1>(domid::SELF);
        check.equal("setup_table", frames.map(drop), Ok(()));
        let (own, [frame]) = (own?, frames.ok()?);
        // The frame's address maps the grant table from now on.
        let place = tables.lose();
        let table = tables.va(place);
        check.equal(
            "the table can be mapped writable",
            map_at(table, Mfn(frame).address() | RW),
            0,
        );
        let shared_info = Mfn::from_address(boot.start_info().shared_info).0;
        Some(GrantFixture { tables, own, shared_info, table })
    }

    fn entry(&self, reference: u32) -> (&AtomicU32, &AtomicU32) {
        assert!(reference < ENTRIES_PER_FRAME);
        let entry = (self.table.0 + u64::from(reference) * 8) as *const AtomicU32;
        // SAFETY: the table stays mapped there; both sides use atomic accesses.
        unsafe { (&*entry, &*entry.add(1)) }
    }

    /// Grants a machine frame.
    pub(crate) fn grant_frame(&self, reference: u32, flags: EntryFlags, dom: u16, mfn: u64) {
        let (word, frame) = self.entry(reference);
        frame.store(mfn as u32, Ordering::SeqCst);
        word.store(u32::from(flags.bits()) | u32::from(dom) << 16, Ordering::SeqCst);
    }

    /// Grants a frame of the fixture.
    pub(crate) fn grant(&self, reference: u32, flags: EntryFlags, dom: u16, pfn: Pfn) {
        self.grant_frame(reference, flags, dom, self.tables.mfn(pfn));
    }

    /// Returns the flags of an entry.
    pub(crate) fn flags(&self, reference: u32) -> EntryFlags {
        EntryFlags::from_bits_retain(self.entry(reference).0.load(Ordering::SeqCst) as u16)
    }

    /// Returns the frame in an entry.
    pub(crate) fn frame(&self, reference: u32) -> u64 {
        self.entry(reference).1.load(Ordering::SeqCst).into()
    }

    /// Returns an address where nothing is mapped.
    pub(crate) fn window(&mut self) -> Vaddr {
        let pfn = self.tables.lose();
        let va = self.tables.va(pfn);
        assert!(map_at(va, 0) == 0, "an address can be unmapped");
        va
    }

    /// Returns the machine address and the value of the entry that maps an address.
    pub(crate) fn leaf(&self, va: Vaddr) -> (u64, u64) {
        let frames = self.tables.frames();
        let (table, entry) = frames.walk(frames.boot_root(), va, 1).unwrap_or_default();
        (table.entry_address(va.index(Level::L1)), entry)
    }
}

/// Sets the entry that maps an address.
pub(crate) fn map_at(va: Vaddr, entry: u64) -> i64 {
    // SAFETY: Rust uses no memory at the fixture's addresses.
    unsafe { raw::update_va_mapping(va, entry, UVMF_INVLPG) }
}

/// Gives a frame back to the hypervisor. Returns how many it took: none if it is mapped.
pub(crate) fn give_back(mfn: u64) -> i64 {
    reservation::give_back(&[mfn]) as i64
}

/// Reads a word of a window, if it is mapped.
pub(crate) fn read(va: Vaddr, index: u64) -> Option<u64> {
    // SAFETY: reads an address of the fixture, or traps.
    unsafe { catch::read(va.0 + index * 8) }.ok()
}

/// Writes a word of a window. Returns whether it succeeded.
pub(crate) fn write(va: Vaddr, index: u64, word: u64) -> bool {
    // SAFETY: writes to an address of the fixture, or traps.
    unsafe { catch::write(va.0 + index * 8, word) }.is_ok()
}

/// Returns a word of a page that another domain writes, too.
pub(crate) fn shared(va: Vaddr, index: u64) -> &'static AtomicU64 {
    // SAFETY: the caller has mapped a page there, which both sides access atomically.
    unsafe { &*((va.0 + index * 8) as *const AtomicU64) }
}

/// Maps for reading and writing.
pub(crate) const MAP_RW: MapFlags = MapFlags::HOST_MAP;
/// Maps for reading.
pub(crate) const MAP_RO: MapFlags = MapFlags::HOST_MAP.union(MapFlags::READ_ONLY);
/// The bits of an entry that maps a page writable.
pub(crate) const WRITABLE_ENTRY: u64 = Pte::PRESENT.union(Pte::WRITABLE).bits();
