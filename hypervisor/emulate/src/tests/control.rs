//! CR0 and CR4: what a guest may change.

use crate::GeneralProtection;
use crate::control::*;

#[test]
fn only_ts_can_change_in_cr0() {
    assert_eq!(cr0_read(false), 0x8005_0033);
    assert_eq!(cr0_read(true), 0x8005_003b);
    assert_eq!(cr0_write(cr0_read(false)), Ok(false));
    assert_eq!(cr0_write(cr0_read(true)), Ok(true));
    for bit in (0..64).filter(|&bit| 1 << bit != CR0_TS) {
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
fn cr4_gives_what_it_may_and_says_what_it_ignored() {
    let smep = 1 << 20;
    assert_eq!(
        cr4_write(CR4_PAE | CR4_TSD | smep),
        Ok(Cr4Write { view: CR4_PAE | CR4_TSD, ignored: smep })
    );
    assert_eq!(
        cr4_write(CR4_TSD),
        Ok(Cr4Write { view: CR4_PAE | CR4_TSD, ignored: CR4_PAE }),
        "PAE stays"
    );
    for bit in [15, 26, 33, 63] {
        assert_eq!(cr4_write(CR4_PAE | 1 << bit), Err(GeneralProtection), "bit {bit}");
    }
    assert_eq!(CR4_INITIAL, 0x660);
    assert_eq!(cr4_write(CR4_INITIAL), Ok(Cr4Write { view: CR4_INITIAL, ignored: 0 }));
}
