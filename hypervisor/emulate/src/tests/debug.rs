//! Debug registers: addresses, names, reserved bits.

use crate::debug::*;
use pinfold_abi::errno::Errno;
use pinfold_abi::layout::{HYPERVISOR_END, HYPERVISOR_START};

#[test]
fn breakpoints_in_the_hypervisors_range_are_refused() {
    let mut dr = DebugRegisters::default();
    for good in [0, (1 << 47) - 1, HYPERVISOR_END, u64::MAX] {
        assert_eq!(dr.set(2, good, false), Ok(()));
        assert_eq!(dr.get(2, false), Ok(good));
    }
    for bad in [1 << 47, HYPERVISOR_START - 1, HYPERVISOR_START, HYPERVISOR_END - 1] {
        assert_eq!(dr.set(2, bad, false), Err(Errno::EPERM));
    }
    assert_eq!(dr.get(2, false), Ok(u64::MAX));
}

#[test]
fn dr4_and_dr5_are_aliases_without_debug_extensions() {
    let mut dr = DebugRegisters::default();
    assert_eq!(dr.set(4, 1, false), Ok(()));
    assert_eq!(dr.get(4, false), Ok(DR6_ONES | 1));
    assert_eq!(dr.get(6, true), Ok(DR6_ONES | 1));
    assert_eq!(dr.set(5, 1, false), Ok(()));
    assert_eq!(dr.get(7, false), Ok(DR7_ONES | 1));
    for register in [4, 5, 8, u64::MAX] {
        assert_eq!(dr.set(register, 0, true), Err(Errno::ENODEV));
        assert_eq!(dr.get(register, true), Err(Errno::ENODEV));
    }
    assert_eq!(dr.get(8, false), Err(Errno::ENODEV));
}

#[test]
fn reserved_bits_are_corrected() {
    let mut dr = DebugRegisters::default();
    assert_eq!(dr.set(6, 0xffff_ffff, false), Ok(()));
    assert_eq!(dr.status, 0xffff_efff);
    assert_eq!(dr.set(6, 0, false), Ok(()));
    assert_eq!(dr.status, 0xffff_0ff0);
    assert_eq!(dr.set(7, 1 << 11 | 1 << 14 | 3, false), Ok(()));
    assert_eq!(dr.control, 0x403);
    assert!(dr.is_active());
    for register in [6, 7] {
        assert_eq!(dr.set(register, 1 << 32, false), Err(Errno::EINVAL));
    }
    assert_eq!(dr.control, 0x403);
}

#[test]
fn general_detect_and_io_breakpoints_are_refused() {
    let mut dr = DebugRegisters::default();
    assert_eq!(dr.set(7, 1 << 13, true), Err(Errno::EPERM));
    // Breakpoint 1 on, condition I/O.
    let io = 0b0100 | 2 << 20;
    assert_eq!(dr.set(7, io, false), Err(Errno::EPERM));
    assert_eq!(dr.set(7, 2 << 20, false), Ok(()), "off");
    assert!(!dr.is_active());
    assert_eq!(dr.set(7, io, true), Ok(()));
    assert_eq!(dr.control, io | DR7_ONES);
}
