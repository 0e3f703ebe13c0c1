//! Debug registers as a guest may set them (Intel SDM vol. 3, 18.2).
//!
//! A breakpoint in the hypervisor's memory would trap in its entry code, so breakpoint addresses are
//! checked. The CPU aligns a breakpoint to its length, so one that begins below the hypervisor's
//! range also ends there. AMD's address masks, which make a breakpoint a range (XSA-444), are hidden
//! by CPUID and never loaded. Reserved bits of DR6 and DR7 are corrected, forbidden ones refused.

use pinfold_abi::errno::Errno;
use pinfold_abi::layout::{HYPERVISOR_END, HYPERVISOR_START};
use x86_64::registers::debug::{
    BreakpointCondition, DebugAddressRegisterNumber as Breakpoint, Dr6Flags, Dr7Flags, Dr7Value,
};

/// DR6: bits that always read as one.
pub const DR6_ONES: u64 = 0xffff_0ff0;
/// DR6: bits in which the CPU reports: the four breakpoints, BD, BS and BT.
pub const DR6_STATUS: u64 = Dr6Flags::TRAP
    .union(Dr6Flags::ACCESS_DETECTED)
    .union(Dr6Flags::STEP)
    .union(Dr6Flags::SWITCH)
    .bits();
/// DR7: the bit that always reads as one.
pub const DR7_ONES: u64 = 0x400;
/// DR7: the local and global enable bits of the four breakpoints.
const DR7_ENABLES: u64 = 0xff;
/// DR7: bits that a guest may set: enables, LE and GE, conditions and lengths. Not RTM (bit 11),
/// which is hidden, and not GD (bit 13), which would trap the hypervisor's own accesses.
const DR7_GUEST: u64 = 0xffff_03ff;
/// First address after the low half of the address space.
const LOW_HALF_END: u64 = 1 << 47;

/// The debug registers of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugRegisters {
    /// DR0 to DR3: linear addresses of breakpoints.
    pub addresses: [u64; 4],
    /// DR6: which conditions were met.
    pub status: u64,
    /// DR7: which breakpoints are enabled, and how.
    pub control: u64,
}

impl Default for DebugRegisters {
    fn default() -> Self {
        DebugRegisters { addresses: [0; 4], status: DR6_ONES, control: DR7_ONES }
    }
}

impl DebugRegisters {
    /// Sets a register. `debug_extensions`: the guest's CR4.DE, see
    /// [`crate::control::has_debug_extensions`].
    ///
    /// # Errors
    /// Those of the hypercall `set_debugreg`, as in Xen; a trapped `mov` turns all into a fault:
    /// * EPERM: an address of the hypervisor's or not canonical; GD in DR7; an I/O breakpoint without
    ///   CR4.DE.
    /// * EINVAL: a value of DR6 or DR7 above 32 bits.
    /// * ENODEV: no such register.
    pub fn set(&mut self, register: u64, value: u64, debug_extensions: bool) -> Result<(), Errno> {
        match resolve(register, debug_extensions) {
            Some(Register::Address(index)) => {
                if !is_guest_address(value) {
                    return Err(Errno::EPERM);
                }
                self.addresses[index] = value;
            }
            Some(_) if value > u64::from(u32::MAX) => return Err(Errno::EINVAL),
            Some(Register::Status) => self.status = value & DR6_STATUS | DR6_ONES,
            Some(Register::Control) => match checked_control(value, debug_extensions) {
                Ok(control) => self.control = control,
                Err(error) => return Err(error),
            },
            None => return Err(Errno::ENODEV),
        }
        Ok(())
    }

    /// Reads a register. `debug_extensions`: the guest's CR4.DE.
    ///
    /// # Errors
    /// ENODEV: no such register.
    pub const fn get(&self, register: u64, debug_extensions: bool) -> Result<u64, Errno> {
        match resolve(register, debug_extensions) {
            Some(Register::Address(index)) => Ok(self.addresses[index]),
            Some(Register::Status) => Ok(self.status),
            Some(Register::Control) => Ok(self.control),
            None => Err(Errno::ENODEV),
        }
    }

    /// Whether a breakpoint is enabled, so that the registers must be loaded into the CPU.
    pub const fn is_active(&self) -> bool {
        self.control & DR7_ENABLES != 0
    }
}

/// The meaning of a register number.
enum Register {
    Address(usize),
    Status,
    Control,
}

/// DR4 and DR5 are aliases of DR6 and DR7 unless CR4.DE is set.
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

/// Checks a value of DR7 and corrects its reserved bits.
///
/// I/O breakpoints exist only with CR4.DE. The condition of a breakpoint that isn't enabled doesn't
/// matter.
///
/// # Errors
/// EPERM: see [`DebugRegisters::set`].
fn checked_control(value: u64, debug_extensions: bool) -> Result<u64, Errno> {
    let dr7 = Dr7Value::from_bits_truncate(value);
    if dr7.flags().contains(Dr7Flags::GENERAL_DETECT_ENABLE) {
        return Err(Errno::EPERM);
    }
    for breakpoint in [Breakpoint::Dr0, Breakpoint::Dr1, Breakpoint::Dr2, Breakpoint::Dr3] {
        let enables = Dr7Flags::local_breakpoint_enable(breakpoint)
            | Dr7Flags::global_breakpoint_enable(breakpoint);
        let is_io = dr7.condition(breakpoint) == BreakpointCondition::IoReadsWrites;
        if dr7.flags().intersects(enables) && is_io && !debug_extensions {
            return Err(Errno::EPERM);
        }
    }
    Ok(value & DR7_GUEST | DR7_ONES)
}

const fn is_guest_address(address: u64) -> bool {
    const { assert!(HYPERVISOR_START == !(LOW_HALF_END - 1)) };
    address < LOW_HALF_END || address >= HYPERVISOR_END
}
