//! A virtio console as a second way out for the log, in virtual machines that have one.
//!
//! A virtual serial port costs an exit for each byte, also if a string instruction writes them. A
//! virtio console takes a buffer of bytes with one. It only transmits: input comes by the serial
//! port in any case.
//!
//! The device is a transitional one with I/O ports (Virtual I/O Device specification 1.2, 4.1.4.8 and
//! 2.7), and it doesn't interrupt: buffers that it is done with are noticed when more is to be sent. It
//! is trusted, as the virtual machine is, but no index of its is followed out of bounds.
//!
//! It must have room for exactly two ports, and its port 1 is the log's. Other devices are left alone,
//! since they may be there for something else. Port 0 is no choice: QEMU drops what it can't write at
//! once to that one. The messages by which ports can be named are not exchanged; QEMU takes bytes
//! for a port without them.
#![expect(unsafe_code, reason = "I/O ports of the device, and memory that it reads and writes")]

use crate::arch::pci::PciDevice;
use crate::arch::port;
use core::sync::atomic::{Ordering, fence};
use pinfold_abi::layout::PAGE_SIZE;

/// Vendor of virtio devices, and the transitional console (5.3).
const VENDOR: u16 = 0x1af4;
const CONSOLE: u16 = 0x1003;

/// Offsets of the I/O ports (4.1.4.8).
const HOST_FEATURES: u16 = 0;
const GUEST_FEATURES: u16 = 4;
const QUEUE_ADDRESS: u16 = 8;
const QUEUE_SIZE: u16 = 12;
const QUEUE_SELECT: u16 = 14;
const QUEUE_NOTIFY: u16 = 16;
const STATUS: u16 = 18;
/// Offset of `max_nr_ports` in the device's own part (5.3.4), which begins at 20 without MSI-X.
const MOST_PORTS: u16 = 20 + 4;

/// Feature: there is more than one port (VIRTIO_CONSOLE_F_MULTIPORT, 5.3.3).
const MULTIPORT: u32 = 1 << 1;
/// Value of `max_nr_ports` by which the log's device is known.
const PORTS: u32 = 2;

/// Status: the driver has seen the device, can drive it, and is ready (2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;

/// The queue to the device of port 1 (5.3.2).
const TRANSMIT: u16 = 5;
/// Flag of the driver's ring: no interrupts, please (2.7.6).
const NO_INTERRUPT: u16 = 1;
/// Flag of the device's ring: no notifications, please (2.7.8).
const NO_NOTIFY: u16 = 1;

/// Most entries of a queue that is used.
const LARGEST_QUEUE: usize = 256;
/// Bytes of a descriptor (2.7.5).
const DESCRIPTOR: usize = 16;
/// Bytes for the descriptors and the driver's ring: of the largest queue, in whole pages.
const DRIVER_BYTES: usize = 2 * PAGE_SIZE as usize;
/// Bytes for the queue.
const QUEUE_BYTES: usize = DRIVER_BYTES + PAGE_SIZE as usize;
/// Buffers, and bytes of each: more than the longest record.
const BUFFERS: usize = 8;
const BUFFER_BYTES: usize = 2048;

/// Bytes of memory that the device and the driver share, physically contiguous.
pub const SHARED_BYTES: u64 = (QUEUE_BYTES + BUFFERS * BUFFER_BYTES) as u64;

const _: () = assert!(LARGEST_QUEUE * DESCRIPTOR + 6 + 2 * LARGEST_QUEUE <= DRIVER_BYTES);
const _: () = assert!(6 + 8 * LARGEST_QUEUE <= PAGE_SIZE as usize);

/// A console that was found and isn't set up yet.
#[derive(Clone, Copy, Debug)]
pub struct FoundConsole {
    device: PciDevice,
    ports: u16,
}

impl FoundConsole {
    /// Looks for a console. Only the boot CPU calls this, at boot.
    pub fn find() -> Option<FoundConsole> {
        let device = PciDevice::find(VENDOR, CONSOLE)?;
        Some(FoundConsole { device, ports: device.io_ports()? })
    }

    /// Sets the console up.
    ///
    /// # Safety
    /// The [`SHARED_BYTES`] bytes at `physical` are mapped at `address` for good, aligned to a page, and
    /// nothing else uses them.
    pub unsafe fn open(self, physical: u64, address: u64) -> Option<VirtioConsole> {
        let Self { device, ports } = self;
        let queue_page = u32::try_from(physical / PAGE_SIZE).ok()?;
        // SAFETY: the ports are the device's. After the reset it accesses no memory until it is told
        // where the queue is, which is in the memory set aside for it.
        unsafe {
            (address as *mut u8).write_bytes(0, SHARED_BYTES as usize);
            port::write8(ports + STATUS, 0);
            device.enable();
            port::write8(ports + STATUS, ACKNOWLEDGE);
            port::write8(ports + STATUS, ACKNOWLEDGE | DRIVER);
            let features = port::read32(ports + HOST_FEATURES);
            if features & MULTIPORT == 0 || port::read32(ports + MOST_PORTS) != PORTS {
                port::write8(ports + STATUS, 0);
                return None;
            }
            port::write32(ports + GUEST_FEATURES, MULTIPORT);
            port::write16(ports + QUEUE_SELECT, TRANSMIT);
            let entries = usize::from(port::read16(ports + QUEUE_SIZE));
            if !entries.is_power_of_two() || !(BUFFERS..=LARGEST_QUEUE).contains(&entries) {
                port::write8(ports + STATUS, 0);
                return None;
            }
            // The device's ring begins at the next page after the driver's (2.7.2).
            let driver_bytes = entries * DESCRIPTOR + 6 + 2 * entries;
            let device_ring = driver_bytes.next_multiple_of(PAGE_SIZE as usize);
            let console = VirtioConsole {
                ports,
                physical,
                address,
                entries,
                device_ring,
                free: u8::MAX,
                sent: 0,
                done: 0,
            };
            console.driver_word(0).write_volatile(NO_INTERRUPT);
            port::write32(ports + QUEUE_ADDRESS, queue_page);
            port::write8(ports + STATUS, ACKNOWLEDGE | DRIVER | DRIVER_OK);
            Some(console)
        }
    }
}

/// The console, ready to send.
pub struct VirtioConsole {
    /// First I/O port.
    ports: u16,
    /// The shared memory: the queue, and then the buffers.
    physical: u64,
    address: u64,
    /// Entries of the queue.
    entries: usize,
    /// Offset of the device's ring.
    device_ring: usize,
    /// Buffers that the device doesn't have, one bit each. Buffer `n` always has descriptor `n`.
    free: u8,
    /// Buffers that were sent, modulo 2^16.
    sent: u16,
    /// Buffers that the device is known to be done with, modulo 2^16.
    done: u16,
}

const _: () = assert!(BUFFERS == u8::BITS as usize);

// SAFETY: the addresses are those of memory that only this object and the device access.
unsafe impl Send for VirtioConsole {}

impl VirtioConsole {
    /// Sends the bytes that `take` supplies. Returns `None` without calling it if the device has all
    /// buffers, else their number.
    pub fn send(&mut self, take: impl FnOnce(&mut [u8]) -> usize) -> Option<usize> {
        self.collect();
        if self.free == 0 {
            return None;
        }
        let buffer = self.free.trailing_zeros() as usize;
        let offset = QUEUE_BYTES + buffer * BUFFER_BYTES;
        let at = (self.address as usize + offset) as *mut u8;
        // SAFETY: `open`'s caller gave this memory away, and the device doesn't have the buffer.
        let bytes = unsafe { core::slice::from_raw_parts_mut(at, BUFFER_BYTES) };
        let count = take(bytes).min(BUFFER_BYTES);
        if count == 0 {
            return Some(0);
        }
        let descriptor = self.address as usize + buffer * DESCRIPTOR;
        // Ring index of this buffer, after the two words of the ring's head.
        let slot = 2 + usize::from(self.sent) % self.entries;
        self.free &= !(1 << buffer);
        self.sent = self.sent.wrapping_add(1);
        // SAFETY: all offsets are within the shared memory: `buffer` is less than BUFFERS, and
        // `slot` than the ring's length. The device reads the entry after the index has changed.
        unsafe {
            (descriptor as *mut u64).write_volatile(self.physical + offset as u64);
            // Length; no flags, and no next descriptor.
            ((descriptor + 8) as *mut u64).write_volatile(count as u64);
            self.driver_word(slot).write_volatile(buffer as u16);
            fence(Ordering::Release);
            self.driver_word(1).write_volatile(self.sent);
            // The device sets its flag before it looks at the index for the last time.
            fence(Ordering::SeqCst);
            if self.device_word(0).read_volatile() & NO_NOTIFY == 0 {
                port::write16(self.ports + QUEUE_NOTIFY, TRANSMIT);
            }
        }
        Some(count)
    }

    /// Whether the device has a free buffer.
    pub fn can_send(&mut self) -> bool {
        self.collect();
        self.free != 0
    }

    /// Whether the device is done with everything that was sent.
    pub fn is_idle(&mut self) -> bool {
        self.collect();
        self.free == u8::MAX
    }

    /// Takes back the buffers that the device is done with.
    fn collect(&mut self) {
        // SAFETY: offsets within the ring, as the index is reduced to its length. The entry is
        // read after the index that announces it.
        unsafe {
            while self.done != self.sent && self.device_word(1).read_volatile() != self.done {
                fence(Ordering::Acquire);
                // An entry is the number of a descriptor and a length, of 4 bytes each.
                let entry = usize::from(self.done) % self.entries;
                let buffer = self.device_word(2 + 4 * entry).cast::<u32>().read_volatile();
                self.free |= 1u8.checked_shl(buffer).unwrap_or(0);
                self.done = self.done.wrapping_add(1);
            }
        }
    }

    /// A 16-bit word of the driver's ring: flags, index, and entries.
    fn driver_word(&self, index: usize) -> *mut u16 {
        (self.address as usize + self.entries * DESCRIPTOR + 2 * index) as *mut u16
    }

    /// A 16-bit word of the device's ring: flags, index, and entries of 8 bytes.
    fn device_word(&self, index: usize) -> *mut u16 {
        (self.address as usize + self.device_ring + 2 * index) as *mut u16
    }
}
