//! Debug registers as a guest may set them (Intel SDM vol. 3, 18.2).
//!
//! A breakpoint in the hypervisor's own memory would make it trap in its entry code, so addresses
//! are checked; DR6 and DR7 are freed of all that a guest must not switch on. A guest is not shown
//! AMD's breakpoint address masks (CPUID hides them), with which a range would have to be checked
//! (XSA-444). The CPU aligns a breakpoint to its length, so one that begins below the hole ends
//! there too.

use pinfold_abi::errno::Errno;
use pinfold_abi::layout::{HYPERVISOR_END, HYPERVISOR_START};

/// DR6: bits that always read as one.
pub const DR6_ONES: u64 = 0xffff_0ff0;
/// DR6: bits that the CPU reports in: the four breakpoints, BD, BS, BT.
pub const DR6_STATUS: u64 = 0xe00f;
/// DR7: the bit that always reads as one.
pub const DR7_ONES: u64 = 0x400;
/// DR7: the enable bits of the four breakpoints, local and global.
pub const DR7_ENABLES: u64 = 0xff;
/// DR7: bits that a guest may set: enables, LE and GE, conditions and lengths. Not GD (bit 13),
/// which would trap the hypervisor's own accesses, and not RTM (bit 11), which is hidden.
const DR7_GUEST: u64 = 0xffff_03ff;
/// The low half of the address space ends here.
const LOW_HALF_END: u64 = 1 << 47;

/// The debug registers of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugRegisters {
    /// DR0 to DR3: addresses.
    pub addresses: [u64; 4],
    /// DR6: what happened.
    pub status: u64,
    /// DR7: what is on.
    pub control: u64,
}

impl Default for DebugRegisters {
    fn default() -> Self {
        DebugRegisters { addresses: [0; 4], status: DR6_ONES, control: DR7_ONES }
    }
}

impl DebugRegisters {
    /// Changes a register. `debug_extensions`: the guest's CR4.DE.
    ///
    /// The error is the hypercall's: EPERM for an address that is not the guest's, ENODEV for DR4
    /// and DR5, EINVAL for what is no register. A trapped `mov` turns any of them into a fault.
    pub const fn set(
        &mut self,
        register: u64,
        value: u64,
        debug_extensions: bool,
    ) -> Result<(), Errno> {
        match register {
            0..=3 => {
                if !is_guest_address(value) {
                    return Err(Errno::EPERM);
                }
                self.addresses[register as usize] = value;
            }
            4 | 5 => return Err(Errno::ENODEV),
            6 => self.status = value & DR6_STATUS | DR6_ONES,
            7 => self.control = sanitised_control(value, debug_extensions),
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// Reads a register; errors as for [`DebugRegisters::set`].
    pub const fn get(&self, register: u64) -> Result<u64, Errno> {
        match register {
            0..=3 => Ok(self.addresses[register as usize]),
            4 | 5 => Err(Errno::ENODEV),
            6 => Ok(self.status),
            7 => Ok(self.control),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Whether any breakpoint is on, so that the registers must be loaded into the CPU.
    pub const fn is_active(&self) -> bool {
        self.control & DR7_ENABLES != 0
    }
}

/// DR7 without what a guest must not have. An I/O breakpoint (condition 2) exists only with CR4.DE;
/// without it the condition is undefined, so it is switched off.
const fn sanitised_control(value: u64, debug_extensions: bool) -> u64 {
    let mut control = value & DR7_GUEST;
    let mut index = 0;
    while index < 4 {
        let condition = control >> (16 + 4 * index) & 3;
        if condition == 2 && !debug_extensions {
            control &= !(3 << (2 * index));
        }
        index += 1;
    }
    control | DR7_ONES
}

const fn is_guest_address(address: u64) -> bool {
    const { assert!(HYPERVISOR_START == !(LOW_HALF_END - 1)) };
    address < LOW_HALF_END || address >= HYPERVISOR_END
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_out_of_the_hole() {
        let mut dr = DebugRegisters::default();
        for good in [0, LOW_HALF_END - 1, HYPERVISOR_END, u64::MAX] {
            assert_eq!(dr.set(2, good, false), Ok(()));
            assert_eq!(dr.get(2), Ok(good));
        }
        for bad in [LOW_HALF_END, HYPERVISOR_START - 1, HYPERVISOR_START, HYPERVISOR_END - 1] {
            assert_eq!(dr.set(2, bad, false), Err(Errno::EPERM));
        }
        assert_eq!(dr.get(2), Ok(u64::MAX));
    }

    #[test]
    fn there_are_six_registers() {
        let mut dr = DebugRegisters::default();
        for (register, error) in [(4, Errno::ENODEV), (5, Errno::ENODEV), (8, Errno::EINVAL)] {
            assert_eq!(dr.set(register, 0, true), Err(error));
            assert_eq!(dr.get(register), Err(error));
        }
        assert_eq!(dr.set(u64::MAX, 0, true), Err(Errno::EINVAL));
    }

    #[test]
    fn status_and_control_are_sanitised() {
        let mut dr = DebugRegisters::default();
        assert_eq!(dr.set(6, u64::MAX, false), Ok(()));
        assert_eq!(dr.status, 0xffff_efff);
        assert_eq!(dr.set(6, 0, false), Ok(()));
        assert_eq!(dr.status, 0xffff_0ff0);
        assert_eq!(dr.set(7, 1 << 13 | 1 << 11 | 1 << 40 | 3, false), Ok(()));
        assert_eq!(dr.control, 0x403);
        assert!(dr.is_active());
        // Breakpoint 1 on, condition I/O.
        let io = 0b0100 | 2 << 20;
        assert_eq!(dr.set(7, io, false), Ok(()));
        assert_eq!(dr.control & DR7_ENABLES, 0);
        assert!(!dr.is_active());
        assert_eq!(dr.set(7, io, true), Ok(()));
        assert_eq!(dr.control, io | DR7_ONES);
    }
}
