//! The permission maps: all ports, and all MSRs but those that VMRUN, VMLOAD and VMSAVE switch, exit
//! (AMD APM vol. 2, 15.10 and 15.11).

use pinfold_abi::layout::PAGE_SIZE;

/// Bytes of the map of ports: a bit for each, and three more for accesses that cross the end.
const PORT_BYTES: usize = 3 * PAGE_SIZE as usize;
/// Bytes of the map of MSRs: two bits, read and write, for each of three ranges of 8,192 and a reserved
/// one. All other MSRs exit anyway.
const MSR_BYTES: usize = 2 * PAGE_SIZE as usize;

/// Frames that both take together, contiguous.
pub const FRAMES: usize = (PORT_BYTES + MSR_BYTES) / PAGE_SIZE as usize;

/// First MSR of the second range of the map, and the byte where it begins.
const SECOND_RANGE: u32 = 0xc000_0000;
const SECOND_RANGE_BYTE: usize = 0x800;

/// MSRs that a guest reads and writes without an exit: SYSENTER_CS, _ESP, _EIP; STAR, LSTAR, CSTAR,
/// SFMASK; FS_BASE, GS_BASE, KERNEL_GS_BASE. VMLOAD and VMSAVE switch all of them.
pub const GUEST_MSRS: [u32; 10] = [
    0x174,
    0x175,
    0x176,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0100,
    0xc000_0101,
    0xc000_0102,
];

/// The two maps.
#[repr(C, align(4096))]
pub struct Permissions {
    ports: [u8; PORT_BYTES],
    msrs: [u8; MSR_BYTES],
}

const _: () = assert!(size_of::<Permissions>() == FRAMES * PAGE_SIZE as usize);

/// Offset of the map of MSRs.
pub const MSRS: u64 = core::mem::offset_of!(Permissions, msrs) as u64;

impl Permissions {
    /// Fills the maps in place.
    pub fn fill(&mut self) {
        self.ports.fill(0xff);
        self.msrs.fill(0xff);
        for msr in GUEST_MSRS {
            let (byte, index) = match msr.checked_sub(SECOND_RANGE) {
                Some(index) => (SECOND_RANGE_BYTE, index),
                None => (0, msr),
            };
            // Four MSRs a byte, two bits each.
            self.msrs[byte + index as usize / 4] &= !(0b11 << (index % 4 * 2));
        }
    }
}
