//! Plans, held against the ABI's description of the first address space by walking their tables.

use super::sample::{Sample, VIRT_BASE, number};
use crate::error::LayoutError;
use crate::image::GuestImage;
use crate::layout::{GuestLayout, Initrd, LayoutRequest};
use crate::start_info::StartInfoValues;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use pinfold_abi::address::{Mfn, PAGE_SIZE, Pfn, Vaddr};
use pinfold_abi::elfnote::Note;
use pinfold_abi::paging::Level;
use pinfold_abi::start_info::SIF_MOD_START_PFN;
use proptest::prelude::*;

/// An image whose last byte is at `size`, at a base of choice.
fn image_at(virt_base: u64, size: u64, unmapped_initrd: bool) -> Vec<u8> {
    let mut notes = [
        number(Note::Entry, virt_base),
        number(Note::VirtBase, virt_base),
        number(Note::HypercallPage, virt_base),
    ]
    .concat();
    if unmapped_initrd {
        notes.extend(number(Note::ModStartPfn, 1));
    }
    let mut sample = Sample::with_notes(notes);
    sample.loads.truncate(1);
    sample.loads[0].paddr = 0;
    sample.loads[0].data.truncate(64);
    sample.loads[0].memsz = size;
    sample.bytes()
}

/// A machine frame for every pfn, with the same number.
fn same_mfn(pfn: Pfn) -> Option<Mfn> {
    Some(Mfn::new(pfn.get()))
}

fn request(pages: u64) -> LayoutRequest {
    LayoutRequest { pages, initrd: Some(10_000), xenstore: true, console: true }
}

/// Every frame of the layout that is spoken for, in the ABI's order, as (name, first, pages).
fn elements(layout: &GuestLayout) -> Vec<(&'static str, u64, u64)> {
    let mut list = alloc::vec![("kernel", 0, layout.kernel_pages)];
    if let Some(initrd) = layout.initrd.filter(|i| i.mapped) {
        list.push(("initrd", initrd.pfn, initrd.bytes.div_ceil(PAGE_SIZE)));
    }
    list.push(("p2m", layout.p2m.start, layout.p2m.end - layout.p2m.start));
    list.push(("start_info", layout.start_info, 1));
    list.extend(layout.xenstore.map(|pfn| ("xenstore", pfn, 1)));
    list.extend(layout.console.map(|pfn| ("console", pfn, 1)));
    list.push(("tables", layout.tables.first, layout.tables.count()));
    list.push(("stack", layout.stack, 1));
    list
}

/// Checks a layout against the description, without the code that made it.
fn check(layout: &GuestLayout) -> Result<(), TestCaseError> {
    // Packed, in order, each in its own frames.
    let mut next = 0;
    let elements = elements(layout);
    for &(name, first, pages) in &elements {
        prop_assert_eq!(first, next, "{} does not follow", name);
        next = first + pages;
    }
    prop_assert!(layout.mapped_pages <= layout.pages);
    let end = layout.virt_base + layout.mapped_pages * PAGE_SIZE;
    prop_assert_eq!(end % (4 << 20), 0, "the mapping ends at {:#x}", end);
    let slack = (layout.mapped_pages - next) * PAGE_SIZE;
    prop_assert!(slack >= 512 << 10, "slack of {}", slack);
    prop_assert!(slack < (512 << 10) + (4 << 20), "slack of {} is too much", slack);
    if let Some(initrd) = layout.initrd.filter(|i| !i.mapped) {
        prop_assert_eq!(initrd.pfn, layout.mapped_pages);
        prop_assert!(initrd.pfn + initrd.bytes.div_ceil(PAGE_SIZE) <= layout.pages);
    }

    // The tables: one run of frames, levels falling.
    let tables: Vec<(u64, Level)> = layout.tables.tables().collect();
    prop_assert_eq!(tables.len() as u64, layout.tables.count());
    let levels: Vec<Level> = tables.iter().map(|t| t.1).collect();
    prop_assert!(levels.is_sorted_by(|a, b| a >= b) && levels[0] == Level::L4);
    prop_assert!(tables.iter().enumerate().all(|(i, t)| t.0 == layout.tables.first + i as u64));

    // What the CPU would find in them.
    let mut memory = BTreeMap::new();
    for entry in layout.tables.entries() {
        let level = tables[(entry.table.get() - layout.tables.first) as usize].1;
        prop_assert_eq!(entry.level, level);
        let old = memory
            .insert((entry.table.get(), entry.index.get()), (entry.target.get(), entry.writable));
        prop_assert_eq!(old, None, "an entry is written twice");
    }
    let used: alloc::collections::BTreeSet<u64> = memory.keys().map(|k| k.0).collect();
    prop_assert_eq!(used.len() as u64, layout.tables.count(), "a table is empty");
    let walk = |address: u64| {
        let mut table = layout.tables.first;
        let mut writable = true;
        for level in [Level::L4, Level::L3, Level::L2, Level::L1] {
            let (target, allowed) = memory.get(&(table, Vaddr::new(address).index(level).get()))?;
            table = *target;
            writable &= allowed;
        }
        Some((table, writable))
    };
    for pfn in 0..layout.mapped_pages {
        let expected = (pfn, !layout.tables.contains(pfn));
        prop_assert_eq!(walk(layout.address(pfn)), Some(expected), "pfn {:#x}", pfn);
    }
    let upper: u64 = layout.tables.counts.iter().sum();
    prop_assert_eq!(memory.len() as u64, layout.mapped_pages + upper, "nothing else is mapped");
    Ok(())
}

#[test]
fn a_mapped_pages_for_a_small_kernel() {
    let bytes = image_at(VIRT_BASE, 0x10_3800, false);
    let image = GuestImage::parse(&bytes).unwrap();
    let layout = GuestLayout::new(&image, &request(16384)).unwrap();
    assert_eq!(
        elements(&layout),
        [
            ("kernel", 0, 0x104),
            ("initrd", 0x104, 3),
            ("p2m", 0x107, 32),
            ("start_info", 0x127, 1),
            ("xenstore", 0x128, 1),
            ("console", 0x129, 1),
            // L4, L3, L2, and two L1s for 4 MiB.
            ("tables", 0x12a, 5),
            ("stack", 0x12f, 1),
        ]
    );
    assert_eq!(layout.mapped_pages, 1024);
    assert_eq!(layout.stack_top(), VIRT_BASE + 0x13_0000);
    assert_eq!(layout.hypercall_pfn(), Some(0));
    assert_eq!(layout.pfn_of(VIRT_BASE + 0x3f_ffff), Some(1023));
    assert_eq!(layout.pfn_of(VIRT_BASE + 0x40_0000), None);
    assert_eq!(layout.pfn_of(VIRT_BASE - 1), None);
    check(&layout).unwrap();
}

#[test]
fn what_is_not_requested_takes_no_pages() {
    let bytes = image_at(VIRT_BASE, 0x1000, false);
    let image = GuestImage::parse(&bytes).unwrap();
    let bare = LayoutRequest { pages: 2048, ..LayoutRequest::default() };
    let layout = GuestLayout::new(&image, &bare).unwrap();
    assert_eq!((layout.xenstore, layout.console, layout.initrd), (None, None, None));
    check(&layout).unwrap();
    let empty = LayoutRequest { initrd: Some(0), ..bare };
    let layout = GuestLayout::new(&image, &empty).unwrap();
    assert_eq!(layout.initrd.map(|i| i.bytes), Some(0));
    check(&layout).unwrap();
}

#[test]
fn less_than_512_kib_of_slack_maps_4_mib_more() {
    // Elements that end 512 KiB before 4 MiB fit; one page more does not.
    let mapped_pages_for = |kernel_pages: u64| {
        let bytes = image_at(VIRT_BASE, kernel_pages * PAGE_SIZE, false);
        let image = GuestImage::parse(&bytes).unwrap();
        let layout =
            GuestLayout::new(&image, &LayoutRequest { pages: 4096, ..LayoutRequest::default() })
                .unwrap();
        check(&layout).unwrap();
        layout.mapped_pages
    };
    // 8 p2m, 1 start, 5 tables, 1 stack.
    assert_eq!(mapped_pages_for(1024 - 128 - 15), 1024);
    assert_eq!(mapped_pages_for(1024 - 128 - 14), 2048);
}

#[test]
fn too_little_memory_names_the_element_that_does_not_fit() {
    let bytes = image_at(VIRT_BASE, 0x10_3800, false);
    let image = GuestImage::parse(&bytes).unwrap();
    for (pages, what, needed) in [
        (0, "kernel image", 0x104),
        (0x103, "kernel image", 0x104),
        (0x104, "initrd", 0x107),
        (0x107, "p2m list", 0x108),
        (0x108, "start-of-day page", 0x109),
        (0x10a, "console ring", 0x10b),
        (0x10b, "page tables", 0x110),
        (0x110, "boot stack", 0x111),
        (0x111, "mapping with its slack", 0x400),
        (0x3ff, "mapping with its slack", 0x400),
    ] {
        assert_eq!(
            GuestLayout::new(&image, &request(pages)),
            Err(LayoutError::MemoryTooSmall { what, needed, pages }),
            "{pages:#x}"
        );
    }
    assert!(GuestLayout::new(&image, &request(0x400)).is_ok());
    let huge = LayoutRequest { initrd: Some(u64::MAX), ..request(1 << 20) };
    assert!(matches!(GuestLayout::new(&image, &huge), Err(LayoutError::MemoryTooSmall { .. })));
}

#[test]
fn an_unmapped_initrd_follows_the_mapping() {
    let bytes = image_at(VIRT_BASE, 0x1000, true);
    let image = GuestImage::parse(&bytes).unwrap();
    let layout = GuestLayout::new(&image, &request(1027)).unwrap();
    assert_eq!(layout.initrd, Some(Initrd { pfn: 1024, bytes: 10_000, mapped: false }));
    check(&layout).unwrap();
    assert_eq!(
        GuestLayout::new(&image, &request(1026)),
        Err(LayoutError::MemoryTooSmall { what: "unmapped initrd", needed: 1027, pages: 1026 })
    );
    let info = layout.start_info(&StartInfoValues::default(), same_mfn).unwrap();
    assert_eq!((info.mod_start, info.mod_len, info.flags), (1024, 10_000, SIF_MOD_START_PFN));
}

#[test]
fn the_mapping_stays_in_its_half_of_the_address_space() {
    // 4 MiB below the end of the low half: the mapping needs exactly these.
    let bytes = image_at((1 << 47) - (4 << 20), 0x1000, false);
    let image = GuestImage::parse(&bytes).unwrap();
    let layout = GuestLayout::new(&image, &request(4096)).unwrap();
    check(&layout).unwrap();
    let bytes = image_at((1 << 47) - (2 << 20), 0x10_0000, false);
    let image = GuestImage::parse(&bytes).unwrap();
    let small = GuestLayout::new(&image, &request(4096)).unwrap();
    check(&small).unwrap();
    let large = GuestLayout::new(&image, &LayoutRequest { initrd: Some(4 << 20), ..request(4096) });
    assert!(matches!(large, Err(LayoutError::WindowTooSmall { window: 512, .. })), "{large:?}");
    // The last 4 MiB of all addresses can't be used up to the last page.
    let bytes = image_at(0u64.wrapping_sub(4 << 20), 0x1000, false);
    let image = GuestImage::parse(&bytes).unwrap();
    assert!(matches!(
        GuestLayout::new(&image, &request(4096)),
        Err(LayoutError::WindowTooSmall { window: 1023, .. })
    ));
}

#[test]
fn the_start_of_day_page_describes_the_layout() {
    let bytes = image_at(VIRT_BASE, 0x10_3800, false);
    let image = GuestImage::parse(&bytes).unwrap();
    let layout = GuestLayout::new(&image, &request(16384)).unwrap();
    let values = StartInfoValues {
        shared_info: 0x1234_5000,
        flags: 0x100,
        store_evtchn: 1,
        console_evtchn: 2,
        cmdline: "rounds=7",
    };
    let info = layout.start_info(&values, |pfn| Some(Mfn::new(pfn.get() + 0x1_0000))).unwrap();
    assert!(info.magic.starts_with(b"xen-3.0-x86_64\0"));
    assert_eq!(info.nr_pages, 16384);
    assert_eq!((info.shared_info, info.flags), (0x1234_5000, 0x100));
    assert_eq!((info.store_mfn, info.store_evtchn), (0x1_0128, 1));
    assert_eq!((info.console_mfn, info.console_evtchn), (0x1_0129, 2));
    assert_eq!((info.pt_base, info.nr_pt_frames), (VIRT_BASE + 0x12_a000, 5));
    assert_eq!(info.mfn_list, VIRT_BASE + 0x10_7000);
    assert_eq!((info.mod_start, info.mod_len), (VIRT_BASE + 0x10_4000, 10_000));
    assert!(info.cmd_line.starts_with(b"rounds=7\0"));
    assert_eq!((info.first_p2m_pfn, info.nr_p2m_frames), (0, 0));

    assert_eq!(
        layout.start_info(&values, |_| None),
        Err(LayoutError::NoMachineFrame { what: "xenstore ring", pfn: 0x128 })
    );
    let long = "x".repeat(1024);
    assert_eq!(
        layout.start_info(&StartInfoValues { cmdline: &long, ..values }, same_mfn),
        Err(LayoutError::CommandLine { len: 1024, max: 1023 })
    );
    let longest =
        layout.start_info(&StartInfoValues { cmdline: &long[1..], ..values }, same_mfn).unwrap();
    assert_eq!(longest.cmd_line[1022..], [b'x', 0]);
    assert!(layout.start_info(&StartInfoValues { cmdline: "a\0b", ..values }, same_mfn).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_layout_is_what_the_abi_describes(
        base in prop_oneof![
            Just(0u64),
            Just(VIRT_BASE),
            // Near the edges of what one table of each level covers.
            (2..5u64, -600..600i64).prop_map(|(level, pages)| {
                (1u64 << Level::from_number(level).unwrap().shift()).wrapping_mul(7).wrapping_add_signed(pages * PAGE_SIZE as i64)
            }),
            (-600..600i64).prop_map(|pages| {
                0xffff_c000_0000_0000u64.wrapping_add_signed(pages * PAGE_SIZE as i64)
            }),
        ],
        size in 1..(20u64 << 20),
        pages in 1..20_000u64,
        initrd in prop::option::of(0..(8u64 << 20)),
        rings: (bool, bool),
        unmapped: bool,
    ) {
        let bytes = image_at(base, size, unmapped);
        let image = GuestImage::parse(&bytes);
        prop_assume!(image.is_ok());
        let request = LayoutRequest { pages, initrd, xenstore: rings.0, console: rings.1 };
        match GuestLayout::new(&image.unwrap(), &request) {
            Ok(layout) => check(&layout)?,
            Err(LayoutError::MemoryTooSmall { needed, .. }) => prop_assert!(needed > pages),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn any_numbers_give_a_layout_or_an_error(
        base in any::<u64>().prop_map(|b| b - b % PAGE_SIZE),
        size in 0x1000..u64::MAX,
        pages: u64,
        initrd in prop::option::of(any::<u64>()),
        unmapped: bool,
    ) {
        let bytes = image_at(base, size, unmapped);
        if let Ok(image) = GuestImage::parse(&bytes) {
            let request = LayoutRequest { pages, initrd, xenstore: true, console: true };
            if let Ok(layout) = GuestLayout::new(&image, &request) {
                prop_assert!(layout.mapped_pages <= pages);
            }
        }
    }
}
