//! Control registers and EFER in the hardware container: what a kernel may change.

use crate::container::*;
use crate::control::GeneralProtection;
use x86_64::registers::control::{Cr0Flags, Cr4Flags, EferFlags};

#[test]
fn cr0_keeps_paging_and_write_protection() {
    assert_eq!(CR0_INITIAL, 0x8005_0033);
    let free = Cr0Flags::MONITOR_COPROCESSOR
        | Cr0Flags::EMULATE_COPROCESSOR
        | Cr0Flags::TASK_SWITCHED
        | Cr0Flags::ALIGNMENT_MASK;
    for bit in (0..64).map(|bit| 1 << bit) {
        let written = cr0_write(CR0_INITIAL ^ bit);
        if bit == Cr0Flags::EXTENSION_TYPE.bits() {
            assert_eq!(written, Ok(CR0_INITIAL));
        } else if free.bits() & bit != 0 {
            assert_eq!(written, Ok(CR0_INITIAL ^ bit));
        } else {
            assert_eq!(written, Err(GeneralProtection), "bit {bit:#x}");
        }
    }
}

#[test]
fn lmsw_changes_three_bits() {
    assert_eq!(lmsw(CR0_INITIAL, 0), CR0_INITIAL & !0b1110);
    assert_eq!(lmsw(CR0_INITIAL, 0xffff), CR0_INITIAL | 0b1110);
}

#[test]
fn cr4_takes_what_the_processor_has() {
    assert_eq!(CR4_INITIAL, 0x660);
    let all = supported_cr4(1 << 0 | 1 << 7 | 1 << 20, 1 << 2);
    assert_eq!(all, CR4_WRITABLE);
    for bit in (0..64).map(|bit| 1 << bit) {
        let expected = |supported: u64| {
            let free = CR4_WRITABLE & supported & bit != 0;
            if free { Ok(CR4_INITIAL ^ bit) } else { Err(GeneralProtection) }
        };
        for supported in [all, supported_cr4(0, 0), supported_cr4(1 << 7, 0)] {
            assert_eq!(cr4_write(CR4_INITIAL ^ bit, supported), expected(supported), "{bit:#x}");
        }
    }
    let smep = Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION.bits();
    assert_eq!(supported_cr4(0, 0) & smep, 0);
    for forbidden in [
        Cr4Flags::L5_PAGING,
        Cr4Flags::PCID,
        Cr4Flags::PAGE_GLOBAL,
        Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS,
        Cr4Flags::OSXSAVE,
    ] {
        assert!(cr4_write(CR4_INITIAL | forbidden.bits(), u64::MAX).is_err(), "{forbidden:?}");
    }
}

#[test]
fn efer_changes_only_sce() {
    for bit in (0..64).map(|bit| 1 << bit) {
        let allowed = bit == EferFlags::SYSTEM_CALL_EXTENSIONS.bits();
        assert_eq!(efer_write(EFER_INITIAL ^ bit).is_ok(), allowed, "{bit:#x}");
    }
}
