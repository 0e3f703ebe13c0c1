//! Debug registers as a guest may set them (Intel SDM vol. 3, 18.2).
//!
//! A breakpoint in the hypervisor's own memory would make it trap in its entry code, so addresses
//! are checked; in DR6 and DR7 reserved bits are put right, and what a guest must not switch on is
//! refused. A guest is not shown
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
/// DR7: every access to a debug register traps; the hypervisor's own would.
const DR7_GENERAL_DETECT: u64 = 1 << 13;
/// DR7: bits that a guest may set: enables, LE and GE, conditions and lengths. Not RTM (bit 11),
/// which is hidden.
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
    /// The error is the hypercall's, and what the reference gives: EPERM for an address that is not
    /// the guest's, for GD and for I/O breakpoints without CR4.DE; EINVAL for a wide value in DR6
    /// or DR7; ENODEV for what is no register. A trapped `mov` turns any of them into a fault.
    pub const fn set(
        &mut self,
        register: u64,
        value: u64,
        debug_extensions: bool,
    ) -> Result<(), Errno> {
        match resolve(register, debug_extensions) {
            Some(Register::Address(index)) => {
                if !is_guest_address(value) {
                    return Err(Errno::EPERM);
                }
                self.addresses[index] = value;
            }
            Some(_) if value > u32::MAX as u64 => return Err(Errno::EINVAL),
            Some(Register::Status) => self.status = value & DR6_STATUS | DR6_ONES,
            Some(Register::Control) => match checked_control(value, debug_extensions) {
                Ok(control) => self.control = control,
                Err(error) => return Err(error),
            },
            None => return Err(Errno::ENODEV),
        }
        Ok(())
    }

    /// Reads a register; ENODEV for what is none. `debug_extensions`: the guest's CR4.DE.
    pub const fn get(&self, register: u64, debug_extensions: bool) -> Result<u64, Errno> {
        match resolve(register, debug_extensions) {
            Some(Register::Address(index)) => Ok(self.addresses[index]),
            Some(Register::Status) => Ok(self.status),
            Some(Register::Control) => Ok(self.control),
            None => Err(Errno::ENODEV),
        }
    }

    /// Whether any breakpoint is on, so that the registers must be loaded into the CPU.
    pub const fn is_active(&self) -> bool {
        self.control & DR7_ENABLES != 0
    }
}

/// What a register number means.
enum Register {
    Address(usize),
    Status,
    Control,
}

/// DR4 and DR5 are other names of DR6 and DR7 unless CR4.DE is set.
const fn resolve(register: u64, debug_extensions: bool) -> Option<Register> {
    match register {
        0..=3 => Some(Register::Address(register as usize)),
        4 if !debug_extensions => Some(Register::Status),
        5 if !debug_extensions => Some(Register::Control),
        6 => Some(Register::Status),
        7 => Some(Register::Control),
        _ => None,
    }
}

/// DR7 with its reserved bits put right. An I/O breakpoint (condition 2) exists only with CR4.DE; on
/// a breakpoint that is not enabled the condition does not matter.
const fn checked_control(value: u64, debug_extensions: bool) -> Result<u64, Errno> {
    if value & DR7_GENERAL_DETECT != 0 {
        return Err(Errno::EPERM);
    }
    let mut index = 0;
    while index < 4 {
        let enabled = value >> (2 * index) & 3 != 0;
        let condition = value >> (16 + 4 * index) & 3;
        if enabled && condition == 2 && !debug_extensions {
            return Err(Errno::EPERM);
        }
        index += 1;
    }
    Ok(value & DR7_GUEST | DR7_ONES)
}

const fn is_guest_address(address: u64) -> bool {
    const { assert!(HYPERVISOR_START == !(LOW_HALF_END - 1)) };
    address < LOW_HALF_END || address >= HYPERVISOR_END
}
