//! Notes, one rule at a time.

use super::sample::{note, number, raw_note};
use crate::error::ImageError;
use crate::notes::Notes;
use alloc::vec::Vec;
use pinfold_abi::elfnote::Note;
use std::string::ToString;

fn read(bytes: &[u8]) -> Result<Notes<'_>, ImageError> {
    let mut notes = Notes::default();
    notes.read(bytes)?;
    notes.check()?;
    Ok(notes)
}

#[test]
fn numbers_have_four_or_eight_bytes() {
    let four = note(Note::Entry, &[1, 2, 3, 4]);
    assert_eq!(read(&four).unwrap().entry, Some(0x0403_0201));
    let eight = number(Note::Entry, u64::MAX);
    assert_eq!(read(&eight).unwrap().entry, Some(u64::MAX));
    for len in [0, 1, 2, 3, 5, 7, 9, 16] {
        let bytes = note(Note::Entry, &alloc::vec![0; len]);
        assert_eq!(read(&bytes), Err(ImageError::NoteSize { note: "ENTRY", len }));
    }
}

#[test]
fn other_owners_and_unknown_types_are_ignored() {
    let bytes = [
        raw_note(b"GNU\0", 1, &[0; 3]),
        raw_note(b"Xen\0", 9999, &[0; 5]),
        raw_note(b"XenX", 1, &[0; 8]),
        number(Note::Entry, 7),
        // L1_MFN_VALID is a pair of numbers, so it is no number.
        note(Note::L1MfnValid, &[0; 16]),
    ]
    .concat();
    let notes = read(&bytes).unwrap();
    assert_eq!(notes.entry, Some(7));
    assert!(read(&raw_note(b"GNU\0", 1, &[])).unwrap().is_empty());
}

#[test]
fn a_note_that_reaches_past_the_end_is_truncated() {
    let whole = number(Note::Entry, 7);
    for len in 12..whole.len() {
        let error = read(&whole[..len]);
        assert!(matches!(error, Err(ImageError::Truncated { field: "note", .. })), "{len}");
    }
    let mut huge = whole.clone();
    huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(read(&huge), Err(ImageError::Truncated { .. })));
    // Less than a header at the end is padding.
    assert!(read(&[whole, alloc::vec![0; 11]].concat()).is_ok());
}

#[test]
fn a_repeated_note_must_have_the_same_value() {
    let twice = |a: u64, b: u64| [number(Note::Entry, a), number(Note::Entry, b)].concat();
    assert_eq!(read(&twice(5, 5)).unwrap().entry, Some(5));
    assert_eq!(read(&twice(5, 6)), Err(ImageError::NoteConflict { note: "ENTRY" }));
    let pfn =
        |a: u64, b: u64| [number(Note::ModStartPfn, a), number(Note::ModStartPfn, b)].concat();
    assert!(read(&pfn(1, 1)).unwrap().mod_start_pfn);
    assert_eq!(read(&pfn(1, 0)), Err(ImageError::NoteConflict { note: "MOD_START_PFN" }));
}

#[test]
fn the_notes_of_linux_are_read() {
    let bytes: Vec<u8> = [
        note(Note::GuestOs, b"linux\0"),
        note(Note::GuestVersion, b"2.6\0"),
        note(Note::XenVersion, b"xen-3.0\0"),
        number(Note::VirtBase, 0xffff_ffff_8000_0000),
        number(Note::InitP2m, 0x80_0000_0000),
        number(Note::Entry, 0xffff_ffff_82f1_c1c0),
        note(Note::Features, b"!writable_page_tables|pae_pgdir_above_4gb\0"),
        note(Note::SupportedFeatures, &0x8801u32.to_le_bytes()),
        note(Note::PaeMode, b"yes\0"),
        note(Note::Loader, b"generic\0"),
        note(Note::L1MfnValid, &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
        note(Note::SuspendCancel, &1u32.to_le_bytes()),
        note(Note::ModStartPfn, &1u32.to_le_bytes()),
        number(Note::HvStartLow, 0xffff_8000_0000_0000),
        number(Note::PaddrOffset, 0),
        number(Note::Phys32Entry, 0x100_0000),
    ]
    .concat();
    let notes = read(&bytes).unwrap();
    assert_eq!(notes.hypercall_page, None);
    assert_eq!(notes.init_p2m, Some(0x80_0000_0000));
    assert!(notes.mod_start_pfn);
    assert_eq!(notes.supported_features, 0x8811);
    assert_eq!(notes.required_features, 1);
    assert_eq!((notes.guest_os, notes.guest_version), (Some("linux"), Some("2.6")));
}

#[test]
fn required_features_must_be_there() {
    let features = |list: &str| {
        let bytes = note(Note::Features, list.as_bytes());
        read(&bytes).map(|n| (n.supported_features, n.required_features))
    };
    assert_eq!(features("tomorrow|mmu_pt_update_preserve_ad"), Ok((1 << 5, 0)));
    assert_eq!(features("!mmu_pt_update_preserve_ad| !highmem_assist "), Ok((3 << 5, 3 << 5)));
    assert_eq!(features(""), Ok((0, 0)));
    assert_eq!(
        features("!tomorrow"),
        Err(ImageError::UnknownFeature { name: "tomorrow".to_string() })
    );
    for name in
        ["supervisor_mode_kernel", "auto_translated_physmap", "writable_descriptor_tables", "dom0"]
    {
        assert_eq!(
            features(&alloc::format!("!{name}")),
            Err(ImageError::UnsupportedFeature { name })
        );
        assert!(features(name).is_ok());
    }
}

#[test]
fn statements_are_checked() {
    for (bytes, expected) in [
        (note(Note::XenVersion, b"xen-4.0\0"), "the note XEN_VERSION is `xen-4.0`, not xen-3.0"),
        (note(Note::Loader, b"special"), "the note LOADER is `special`, not generic"),
        (
            number(Note::HvStartLow, 0xffff_8000_0000_1000),
            "the note HV_START_LOW is `0xffff800000001000`, not at most 0xffff800000000000, where the hypervisor's hole begins",
        ),
        (note(Note::GuestOs, b"\xff\xfe"), "the note GUEST_OS is not text"),
        (note(Note::GuestOs, b"line\nbreak"), "the note GUEST_OS is not text"),
    ] {
        assert_eq!(read(&bytes).unwrap_err().to_string(), expected);
    }
}

#[test]
fn legacy_lists_are_read_and_refused() {
    let legacy = |list: &str| {
        let mut notes = Notes::default();
        notes
            .read_legacy(list.as_bytes())
            .map(|()| (notes.entry, notes.paddr_offset, notes.hypercall_page))
    };
    assert_eq!(legacy("VIRT_ENTRY=0x1000,VIRT_BASE=4096"), Ok((Some(0x1000), Some(4096), None)));
    assert_eq!(
        legacy("VIRT_BASE=0x1000,ELF_PADDR_OFFSET=0x0,HYPERCALL_PAGE=2,,UNKNOWN=x,PAE"),
        Ok((None, Some(0), Some(0x3000)))
    );
    for (list, field) in [
        ("VIRT_ENTRY=", "VIRT_ENTRY"),
        ("VIRT_ENTRY=zebra", "VIRT_ENTRY"),
        ("VIRT_BASE=0x1,VIRT_BASE=0x2", "VIRT_BASE"),
        ("HYPERCALL_PAGE=0xffffffffffffffff", "HYPERCALL_PAGE"),
        ("ELF_PADDR_OFFSET=99999999999999999999", "ELF_PADDR_OFFSET"),
        ("FEATURES=!nothing", "FEATURES"),
    ] {
        let error = legacy(list).unwrap_err().to_string();
        assert!(error.contains(field), "{list}: {error}");
    }
}
