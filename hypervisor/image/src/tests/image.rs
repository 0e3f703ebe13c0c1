//! Images: a valid one, and one for each error.

use super::sample::{self, Sample, VIRT_BASE, notes, number};
use crate::error::ImageError;
use crate::image::GuestImage;
use crate::manifest::Container;
use alloc::string::{String, ToString};
use pinfold_abi::elfnote::Note;
use pinfold_abi::layout::{HYPERVISOR_END, PAGE_SIZE};
use proptest::prelude::*;

fn refused(sample: &Sample) -> ImageError {
    GuestImage::parse(&sample.bytes()).unwrap_err()
}

/// The sample with some bytes of the file changed.
fn patched(at: usize, bytes: &[u8]) -> Result<(), ImageError> {
    let mut file = Sample::default().bytes();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    GuestImage::parse(&file).map(|_| ())
}

/// Where a field of a program header is in the file.
fn program_header(index: usize, field: usize) -> usize {
    64 + 56 * index + field
}

#[test]
fn a_valid_image_is_parsed() {
    let bytes = Sample::default().bytes();
    let image = GuestImage::parse(&bytes).unwrap();
    assert_eq!(image.virt_base, VIRT_BASE);
    assert_eq!(image.entry, VIRT_BASE + 0x10_0010);
    assert_eq!(image.hypercall_page, Some(VIRT_BASE + 0x10_1000));
    assert_eq!(image.notes.guest_os, Some("sample"));
    assert_eq!(image.notes.required_features, 1);
    assert_eq!(image.notes.supported_features, 1 | 1 << 4);
    assert_eq!(image.end(), 0x10_3800);
    let [text, data] = image.segments.as_slice() else { panic!("two segments") };
    assert_eq!((text.offset, text.size), (0x10_0000, 0x2000));
    assert_eq!(image.data(text), [0x90; 0x2000]);
    assert_eq!((data.offset, data.size), (0x10_2000, 0x1800));
    assert_eq!(image.data(data), [0x55; 100]);
}

#[test]
fn the_container_is_for_kernels_that_declare_ring_0() {
    let with_features = |list: &str| {
        let declared = sample::note(Note::Features, list.as_bytes());
        Sample::with_notes([notes(), declared].concat()).bytes()
    };
    let by_name = with_features("pae_pgdir_above_4gb|supervisor_mode_kernel\0");
    let by_bit = number(Note::SupportedFeatures, 1 << 3);
    let by_bit = Sample::with_notes([notes(), by_bit].concat()).bytes();
    for bytes in [by_name, by_bit] {
        let image = GuestImage::parse(&bytes).unwrap();
        assert!(image.supervisor_mode_kernel());
        assert_eq!(image.check_container(Container::Svm), Ok(()));
        assert_eq!(image.check_container(Container::None), Ok(()));
    }
    // All other bits don't make up for it, nor does a name that only begins like it.
    let others = number(Note::SupportedFeatures, u64::from(!(1u32 << 3)));
    for bytes in [
        Sample::default().bytes(),
        with_features("supervisor_mode_kernels|supervisor_mode\0"),
        Sample::with_notes([notes(), others].concat()).bytes(),
    ] {
        let image = GuestImage::parse(&bytes).unwrap();
        assert!(!image.supervisor_mode_kernel());
        assert_eq!(image.check_container(Container::None), Ok(()));
        let error = image.check_container(Container::Svm).unwrap_err();
        assert_eq!(
            error.to_string(),
            "container `svm` is for kernels whose note FEATURES has `supervisor_mode_kernel`; this one can only run in ring 3"
        );
    }
}

#[test]
fn segments_are_sorted_and_empty_ones_dropped() {
    let mut sample = Sample::with_load(0x20_0000, 0, 0);
    sample.loads.reverse();
    let bytes = sample.bytes();
    let image = GuestImage::parse(&bytes).unwrap();
    let offsets: alloc::vec::Vec<u64> = image.segments.iter().map(|s| s.offset).collect();
    assert_eq!(offsets, [0x10_0000, 0x10_2000]);
    assert_eq!(image.segments[0].index, 2);
}

#[test]
fn a_wrong_header_field_is_named() {
    for (at, bytes, field) in [
        (0, &[0x7e][..], "EI_MAG"),
        (4, &[1], "EI_CLASS"),
        (5, &[2], "EI_DATA"),
        (6, &[0], "EI_VERSION"),
        (16, &[1, 0], "e_type"),
        (18, &[3, 0], "e_machine"),
        (54, &[32, 0], "e_phentsize"),
        (56, &[0, 0], "e_phnum"),
        (56, &[0xff, 0xff], "e_phnum"),
    ] {
        match patched(at, bytes) {
            Err(ImageError::Header { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    assert!(patched(16, &[3, 0]).is_ok(), "ET_DYN is as good as ET_EXEC");
    assert!(matches!(patched(32, &[0xff; 8]), Err(ImageError::Malformed { .. })), "e_phoff");
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let bytes = Sample::default().bytes();
    for len in (0..bytes.len()).rev().step_by(7).chain(0..300) {
        let error = GuestImage::parse(&bytes[..len]).unwrap_err();
        assert!(
            matches!(error, ImageError::Truncated { .. } | ImageError::SegmentFile { .. }),
            "{len}: {error:?}"
        );
    }
}

#[test]
fn segments_must_fit_the_file_and_not_overlap() {
    let file_end = Sample::default().bytes().len() as u64;
    let too_long = patched(program_header(0, 8), &(file_end - 1).to_le_bytes());
    assert!(matches!(too_long, Err(ImageError::SegmentFile { index: 0, .. })), "{too_long:?}");
    let overflow = patched(program_header(0, 8), &u64::MAX.to_le_bytes());
    assert!(matches!(overflow, Err(ImageError::SegmentFile { index: 0, .. })));
    assert_eq!(
        refused(&Sample::with_load(0x20_0000, 0x1001, 0x1000)),
        ImageError::SegmentSize { index: 2, filesz: 0x1001, memsz: 0x1000 }
    );
    assert_eq!(
        refused(&Sample::with_load(0x20_0000, 1, 0)),
        ImageError::SegmentSize { index: 2, filesz: 1, memsz: 0 }
    );
    assert_eq!(
        refused(&Sample::with_load(0x10_37ff, 0, 1)),
        ImageError::SegmentsOverlap { first: 1, second: 2, address: VIRT_BASE + 0x10_37ff }
    );
    assert!(GuestImage::parse(&Sample::with_load(0x10_3800, 0, 1).bytes()).is_ok(), "adjoining");
    let many = Sample {
        loads: (0..65)
            .map(|i| sample::Load { paddr: i * PAGE_SIZE, data: alloc::vec![], memsz: 1 })
            .collect(),
        ..Sample::default()
    };
    assert_eq!(refused(&many), ImageError::TooManySegments { count: 65, max: 64 });
    let none = Sample { loads: alloc::vec![], ..Sample::default() };
    assert_eq!(refused(&none), ImageError::NoSegments);
}

#[test]
fn sums_that_overflow_are_refused() {
    assert!(matches!(
        refused(&Sample::with_load(u64::MAX, 0, 1)),
        ImageError::SegmentOverflow { index: 2, .. }
    ));
    assert!(matches!(
        refused(&Sample::with_load(0x20_0000, 0, u64::MAX)),
        ImageError::SegmentOverflow { index: 2, .. }
    ));
    // The end would round up to no page.
    assert!(matches!(
        refused(&Sample::with_load(u64::MAX - 10, 0, 1)),
        ImageError::SegmentOverflow { index: 2, .. }
    ));
    assert!(matches!(
        refused(&Sample::with_load(0x8000_0000, 0, 1)),
        ImageError::Window { virt_base: VIRT_BASE, .. }
    ));
}

fn replaced(kind: Note, value: u64) -> Sample {
    let mut list = alloc::vec::Vec::new();
    let all = notes();
    // Keep every note but the one of this kind.
    let mut rest = all.as_slice();
    while !rest.is_empty() {
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
        let len = 12 + word(0).next_multiple_of(4) + word(4).next_multiple_of(4);
        if word(8) != kind as usize {
            list.extend(&rest[..len]);
        }
        rest = &rest[len..];
    }
    list.extend(number(kind, value));
    Sample::with_notes(list)
}

#[test]
fn entry_and_hypercall_page_must_be_inside_of_segments() {
    for entry in [0, VIRT_BASE, VIRT_BASE + 0xf_ffff, VIRT_BASE + 0x10_3800, u64::MAX] {
        let error = refused(&replaced(Note::Entry, entry));
        assert!(
            matches!(error, ImageError::Outside { field: "ENTRY", address, .. } if address == entry),
            "{error:?}"
        );
    }
    assert!(GuestImage::parse(&replaced(Note::Entry, VIRT_BASE + 0x10_37ff).bytes()).is_ok());
    assert_eq!(
        refused(&replaced(Note::HypercallPage, VIRT_BASE + 0x10_0800)),
        ImageError::Unaligned { field: "HYPERCALL_PAGE", address: VIRT_BASE + 0x10_0800 }
    );
    // Its last bytes would be outside: the image ends in the middle of the page.
    assert!(matches!(
        refused(&replaced(Note::HypercallPage, VIRT_BASE + 0x10_3000)),
        ImageError::Outside { field: "HYPERCALL_PAGE", .. }
    ));
    // One page, two segments that adjoin.
    let straddling =
        GuestImage::parse(&replaced(Note::HypercallPage, VIRT_BASE + 0x10_2000).bytes())
            .map(|image| image.hypercall_page);
    assert_eq!(straddling, Ok(Some(VIRT_BASE + 0x10_2000)));
}

#[test]
fn virt_base_must_be_outside_of_the_hypervisors_range() {
    assert_eq!(
        refused(&replaced(Note::VirtBase, VIRT_BASE + 1)),
        ImageError::Unaligned { field: "VIRT_BASE", address: VIRT_BASE + 1 }
    );
    for base in [1 << 47, 0xffff_7fff_ffff_f000, 0xffff_8000_0000_0000, 0xffff_87ff_ffff_f000] {
        assert_eq!(
            refused(&replaced(Note::VirtBase, base)),
            ImageError::Window { virt_base: base, end: None },
            "{base:#x}"
        );
    }
    // The image would run from the low half into the hole.
    let base = (1 << 47) - 0x10_3000;
    assert_eq!(
        refused(&replaced(Note::VirtBase, base)),
        ImageError::Window { virt_base: base, end: Some((1 << 47) + 0x800) }
    );
    // And past the end of all addresses.
    assert_eq!(
        refused(&replaced(Note::VirtBase, 0u64.wrapping_sub(0x10_3000))),
        ImageError::Window { virt_base: 0u64.wrapping_sub(0x10_3000), end: None }
    );
    // A guest in the low half is a guest like any other.
    let low = [number(Note::Entry, 0x10_0000), number(Note::VirtBase, 0)].concat();
    assert_eq!(GuestImage::parse(&Sample::with_notes(low).bytes()).unwrap().virt_base, 0);
}

#[test]
fn paddr_offset_is_subtracted() {
    let mut sample = replaced(Note::PaddrOffset, 0x10_0000);
    let error = refused(&sample);
    assert!(matches!(error, ImageError::Outside { field: "ENTRY", .. }), "{error:?}");
    for load in &mut sample.loads {
        load.paddr += 0x10_0000;
    }
    assert_eq!(GuestImage::parse(&sample.bytes()).unwrap().segments[0].offset, 0x10_0000);
    assert_eq!(
        refused(&replaced(Note::PaddrOffset, 0x10_0001)),
        ImageError::SegmentBelow { index: 0, paddr: 0x10_0000, paddr_offset: 0x10_0001 }
    );
}

#[test]
fn notes_in_sections_are_found() {
    let in_sections = |sections| Sample { notes: alloc::vec![], sections, ..Sample::default() };
    assert_eq!(refused(&in_sections(alloc::vec![])), ImageError::NoNotes);
    let sample = in_sections(alloc::vec![(".note", 7, notes())]);
    assert_eq!(GuestImage::parse(&sample.bytes()).unwrap().entry, VIRT_BASE + 0x10_0010);

    // The legacy section: addresses in p_paddr, the hypercall page by number.
    let list = b"GUEST_OS=old,XEN_VER=xen-3.0,VIRT_BASE=0xffffffff80000000,\
        VIRT_ENTRY=0xffffffff80100010,HYPERCALL_PAGE=0x101,FEATURES=!writable_page_tables,LOADER=generic\0";
    let mut sample = in_sections(alloc::vec![("__xen_guest", 1, list.to_vec())]);
    for load in &mut sample.loads {
        load.paddr += VIRT_BASE;
    }
    let bytes = sample.bytes();
    let image = GuestImage::parse(&bytes).unwrap();
    assert_eq!(image.entry, VIRT_BASE + 0x10_0010);
    assert_eq!(image.hypercall_page, Some(VIRT_BASE + 0x10_1000));
    assert_eq!(image.segments[0].offset, 0x10_0000);
    assert_eq!(image.notes.guest_os, Some("old"));

    // Notes win over it.
    sample.sections.push((".note", 7, notes()));
    for load in &mut sample.loads {
        load.paddr -= VIRT_BASE;
    }
    assert_eq!(GuestImage::parse(&sample.bytes()).unwrap().notes.guest_os, Some("sample"));
}

#[test]
fn a_missing_entry_note_is_named() {
    let sample = Sample::with_notes(number(Note::VirtBase, VIRT_BASE));
    assert_eq!(refused(&sample), ImageError::MissingNote { note: "ENTRY" });
}

#[test]
fn a_compressed_kernel_is_recognised() {
    let mut file = alloc::vec![0; 0x1000];
    file[0x202..0x206].copy_from_slice(b"HdrS");
    let error = GuestImage::parse(&file).unwrap_err().to_string();
    assert!(error.contains("bzImage"), "{error}");
}

/// Checks what the fields of an accepted image promise.
fn check_invariants(bytes: &[u8]) -> Result<(), TestCaseError> {
    let image = match GuestImage::parse(bytes) {
        Ok(image) => image,
        Err(error) => {
            let words: String = error.to_string();
            prop_assert!(!words.is_empty() && !words.contains('\n'), "{}", words);
            return Ok(());
        }
    };
    prop_assert!(!image.segments.is_empty());
    let mut end = 0;
    for segment in &image.segments {
        prop_assert!(segment.offset >= end && segment.size > 0);
        end = segment.end();
        prop_assert!(segment.file.end <= bytes.len());
        prop_assert!(image.data(segment).len() as u64 <= segment.size);
    }
    let last = image.virt_base.checked_add(end - 1);
    prop_assert!(last.is_some_and(|last| last < 1 << 47 || image.virt_base >= HYPERVISOR_END));
    let entry = image.entry.wrapping_sub(image.virt_base);
    let inside = image.segments.iter().any(|s| s.offset <= entry && entry < s.end());
    prop_assert!(inside);
    prop_assert!(end <= image.window_pages() * PAGE_SIZE);
    Ok(())
}

/// Values at the edges of ranges.
fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(1 << 47),
        Just(VIRT_BASE),
        Just(HYPERVISOR_END),
        (0..64u32, -2..3i64).prop_map(|(bit, by)| (1u64 << bit).wrapping_add(by as u64)),
        any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(super::cases(20_000)))]

    #[test]
    fn any_damage_gives_an_image_or_an_error(
        changes in prop::collection::vec((0..700usize, edge(), 1..=8usize), 1..4),
        sections: bool,
        cut in prop::option::of(0..9000usize),
    ) {
        let mut sample = Sample::default();
        for load in &mut sample.loads {
            // Small, so that the changes meet headers and notes.
            load.data.truncate(16);
        }
        if sections {
            sample.sections.push((".note", 7, core::mem::take(&mut sample.notes)));
            sample.sections.push(("__xen_guest", 1, b"VIRT_BASE=0,VIRT_ENTRY=0".to_vec()));
        }
        let mut file = sample.bytes();
        for (at, value, len) in changes {
            let at = at % file.len();
            let len = len.min(file.len() - at);
            file[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        }
        file.truncate(cut.unwrap_or(usize::MAX));
        check_invariants(&file)?;
    }

    #[test]
    fn any_bytes_give_an_image_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        check_invariants(&bytes)?;
    }
}
