//! CR0 and CR4: what a guest may change.

use crate::control::*;
use x86_64::registers::control::{Cr0Flags, Cr4Flags};

#[test]
fn only_ts_of_cr0_can_change() {
    assert_eq!(cr0_read(false), 0x8005_0033);
    assert_eq!(cr0_read(true), 0x8005_003b);
    assert_eq!(cr0_write(cr0_read(false)), Ok(false));
    assert_eq!(cr0_write(cr0_read(true)), Ok(true));
    for bit in (0..64).filter(|&bit| 1 << bit != Cr0Flags::TASK_SWITCHED.bits()) {
        assert_eq!(cr0_write(CR0_VIEW ^ 1 << bit), Err(GeneralProtection), "bit {bit}");
    }
}

#[test]
fn lmsw_sets_ts_and_never_clears_pe() {
    assert_eq!(lmsw(0b0011), Ok(false));
    assert_eq!(lmsw(0b1010), Ok(true), "PE stays set though the source has it clear");
    assert_eq!(lmsw(0b0111), Err(GeneralProtection), "EM");
    assert_eq!(lmsw(0b0001), Err(GeneralProtection), "MP would be cleared");
    assert_eq!(lmsw(0xfff3), Ok(false), "only four bits count");
}

#[test]
fn cr4_takes_allowed_bits_and_reports_ignored_ones() {
    const PAE: u64 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION.bits();
    const TSD: u64 = Cr4Flags::TIMESTAMP_DISABLE.bits();
    let smep = Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION.bits();
    assert_eq!(cr4_write(PAE | TSD | smep), Ok(Cr4Write { view: PAE | TSD, ignored: smep }));
    assert_eq!(cr4_write(TSD), Ok(Cr4Write { view: PAE | TSD, ignored: PAE }), "PAE stays");
    for bit in [15, 26, 33, 63] {
        assert_eq!(cr4_write(PAE | 1 << bit), Err(GeneralProtection), "bit {bit}");
    }
    assert_eq!(CR4_INITIAL, 0x660);
    assert_eq!(cr4_write(CR4_INITIAL), Ok(Cr4Write { view: CR4_INITIAL, ignored: 0 }));
}
