//! Access to guest memory by guest pointers.
//!
//! A [`GuestPtr`] is an unchecked address that a guest supplied. Each read or write checks the whole
//! range that it accesses against the hypervisor's address range (each element, not just the base:
//! XSA-212), and copies. No Rust reference to guest memory ever exists.

use super::frame_refs::WritableRef;
use super::{guest_walk, validator};
use crate::arch::{percpu, user_copy};
use core::marker::PhantomData;
use pinfold_abi::errno::Errno;
use pinfold_abi::layout::{HYPERVISOR_END, PAGE_SIZE};
use pinfold_validator::{DomId, Mfn, Vaddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// End of the lower half of the canonical addresses.
const LOWER_END: u64 = 1 << 47;

/// Whether a range belongs to guests: canonical, in one half of the address space, and outside the
/// hypervisor's range.
pub fn is_guest_range(start: u64, bytes: u64) -> bool {
    let Some(end) = start.checked_add(bytes) else {
        // Guests own the end of the address space, so a range may end at 2^64.
        return start >= HYPERVISOR_END && start.wrapping_add(bytes) == 0;
    };
    end <= LOWER_END || start >= HYPERVISOR_END
}

/// Whether an address belongs to guests.
pub fn is_guest_address(address: u64) -> bool {
    is_guest_range(address, 1)
}

/// Whether an address is canonical with four-level paging.
pub fn is_canonical(address: u64) -> bool {
    Vaddr::new(address).is_canonical()
}

/// Copies bytes from the address space of the loaded vCPU.
///
/// # Errors
/// EFAULT if the range isn't a guest's or a page is absent.
#[inline]
pub fn read_bytes(to: &mut [u8], from: u64) -> Result<(), Errno> {
    if !is_guest_range(from, to.len() as u64) {
        return Err(Errno::EFAULT);
    }
    if let Some(root) = percpu::walked_root() {
        // SAFETY: the range is a guest's, as just checked; the root is that of the loaded vCPU.
        return unsafe { guest_walk::read(root, to, from) }.map_err(|_| Errno::EFAULT);
    }
    // SAFETY: the range is a guest's, as just checked.
    unsafe { user_copy::read(to, from) }.map_err(|_| Errno::EFAULT)
}

/// Copies bytes to the address space of the loaded vCPU.
///
/// # Errors
/// EFAULT if the range isn't a guest's, or a page is absent or read-only. Pages before that one are
/// written.
#[inline]
pub fn write_bytes(to: u64, from: &[u8]) -> Result<(), Errno> {
    if !is_guest_range(to, from.len() as u64) {
        return Err(Errno::EFAULT);
    }
    if let Some(root) = percpu::walked_root() {
        // SAFETY: the range is a guest's, as just checked; the root is that of the loaded vCPU.
        return unsafe { guest_walk::write(root, to, from) }.map_err(|_| Errno::EFAULT);
    }
    // SAFETY: the range is a guest's, as just checked.
    unsafe { user_copy::write(to, from) }.map_err(|_| Errno::EFAULT)
}

/// Copies bytes to the address space of a guest root that need not be loaded.
///
/// # Errors
/// EFAULT at the first page that the root doesn't map writable. Pages before that one are written.
pub fn write_by_root(domain: DomId, root: Mfn, to: u64, from: &[u8]) -> Result<(), Errno> {
    if !is_guest_range(to, from.len() as u64) {
        return Err(Errno::EFAULT);
    }
    let (mut at, mut rest) = (to, from);
    while !rest.is_empty() {
        let offset = Vaddr::new(at).page_offset() as usize;
        let (now, later) = rest.split_at(rest.len().min(PAGE_SIZE as usize - offset));
        let leaf = validator().walk(root, Vaddr::new(at)).map_err(|_| Errno::EFAULT)?;
        let frame = leaf.entry.target().filter(|_| leaf.entry.is_writable());
        let frame = frame.ok_or(Errno::EFAULT)?;
        // Another vCPU may change the mapping right now: what counts is that the frame is the
        // domain's and plain memory while we write.
        let frame = WritableRef::get(domain, frame).map_err(|_| Errno::EFAULT)?;
        frame.write_bytes(offset, now);
        at = at.wrapping_add(now.len() as u64);
        rest = later;
    }
    Ok(())
}

/// An unchecked guest address of one or more `T`s.
#[derive(Debug)]
pub struct GuestPtr<T> {
    address: u64,
    target: PhantomData<fn() -> T>,
}

impl<T> Clone for GuestPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GuestPtr<T> {}

impl<T> GuestPtr<T> {
    /// Makes one.
    pub fn new(address: u64) -> GuestPtr<T> {
        GuestPtr { address, target: PhantomData }
    }

    /// Whether the guest passed null.
    pub fn is_null(self) -> bool {
        self.address == 0
    }

    /// Address of element `index`; fails if it wraps around.
    fn element(self, index: u64) -> Result<u64, Errno> {
        let offset = index.checked_mul(size_of::<T>() as u64).ok_or(Errno::EFAULT)?;
        self.address.checked_add(offset).ok_or(Errno::EFAULT)
    }
}

impl<T: FromBytes + IntoBytes + Immutable> GuestPtr<T> {
    /// Reads the value.
    pub fn read(self) -> Result<T, Errno> {
        self.read_at(0)
    }

    /// Reads element `index`.
    pub fn read_at(self, index: u64) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        read_bytes(value.as_mut_bytes(), self.element(index)?)?;
        Ok(value)
    }

    /// Writes the value.
    pub fn write(self, value: &T) -> Result<(), Errno> {
        self.write_at(0, value)
    }

    /// Writes element `index`.
    pub fn write_at(self, index: u64, value: &T) -> Result<(), Errno> {
        write_bytes(self.element(index)?, value.as_bytes())
    }
}

/// Reads a byte from the address space of the loaded vCPU, if it is mapped.
pub fn read_byte(address: u64) -> Option<u8> {
    let mut byte = [0];
    read_bytes(&mut byte, address).ok().map(|()| byte[0])
}
