//! Configuration space of PCI devices on bus 0, by configuration mechanism #1 (PCI Local Bus
//! Specification 3.0, 3.2.2.3.2). For devices of virtual machines only.

use super::port;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;
/// Devices on a bus.
const DEVICES: u8 = 32;

/// Offset of vendor (low half) and device.
const IDS: u8 = 0x00;
/// Offset of the command register (low half).
const COMMAND: u8 = 0x04;
/// Offset of the first base address register.
const BAR0: u8 = 0x10;

/// Command: the device answers at its I/O ports.
const COMMAND_IO: u32 = 1 << 0;
/// Command: the device may access memory.
const COMMAND_MASTER: u32 = 1 << 2;
/// Base address register: it is one of I/O ports.
const BAR_IO: u32 = 1 << 0;

/// The first function of a device on bus 0.
#[derive(Clone, Copy, Debug)]
pub struct PciDevice(u8);

impl PciDevice {
    /// Finds the first device with this vendor and device number. Only the boot CPU calls this, at
    /// boot.
    pub fn find(vendor: u16, device: u16) -> Option<PciDevice> {
        let ids = u32::from(device) << 16 | u32::from(vendor);
        (0..DEVICES).map(PciDevice).find(|device| device.read(IDS) == ids)
    }

    fn select(self, register: u8) {
        let address = ENABLE | u32::from(self.0) << 11 | u32::from(register);
        // SAFETY: it selects a register of configuration space, which nobody else does.
        unsafe { port::write32(ADDRESS, address) };
    }

    fn read(self, register: u8) -> u32 {
        self.select(register);
        // SAFETY: the registers that this module reads have no side effects.
        unsafe { port::read32(DATA) }
    }

    /// First I/O port of the device's first range, if the firmware gave it ports.
    pub fn io_ports(self) -> Option<u16> {
        let bar = self.read(BAR0);
        let base = bar & !0b11;
        (bar & BAR_IO != 0 && base != 0).then(|| u16::try_from(base).ok()).flatten()
    }

    /// Lets the device answer at its I/O ports and access memory.
    ///
    /// # Safety
    /// The device is not set up to access any memory yet, or only what is set aside for it.
    pub unsafe fn enable(self) {
        // The upper half is the status register, whose bits are cleared by ones.
        let command = self.read(COMMAND) & 0xffff;
        self.select(COMMAND);
        // SAFETY: the caller ensures it.
        unsafe { port::write32(DATA, command | COMMAND_IO | COMMAND_MASTER) };
    }
}
