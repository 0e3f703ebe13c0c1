//! Guest memory by guest pointers: claims, checked and copied once.
//!
//! [`GuestPtr`] says nothing but that a guest gave us a number. Each read or write checks the whole
//! range it touches against the hypervisor's hole (XSA-212: every element, not just the base) and
//! copies; no reference into guest memory ever exists.

use super::frame_refs::WritableRef;
use super::validator;
use crate::arch::user_copy;
use core::marker::PhantomData;
use pinfold_abi::errno::Errno;
use pinfold_abi::layout::{HYPERVISOR_END, HYPERVISOR_START};
use pinfold_validator::{DomId, Mfn, Vaddr};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// First address of the lower half that isn't canonical.
const LOWER_END: u64 = 1 << 47;

/// Whether a guest may name this range: canonical, in one half, out of the hypervisor's hole.
pub fn is_guest_range(start: u64, bytes: u64) -> bool {
    let Some(end) = start.checked_add(bytes) else {
        // The last byte of the address space is a guest's, so a range may end right behind it.
        return start >= HYPERVISOR_END && start.wrapping_add(bytes) == 0;
    };
    end <= LOWER_END || start >= HYPERVISOR_END
}

/// Whether a guest may run or keep a base at this address.
pub fn is_guest_address(address: u64) -> bool {
    is_guest_range(address, 1)
}

/// Whether bits 63 to 47 of an address are equal, as CPUs with four levels want it.
pub fn is_canonical(address: u64) -> bool {
    !(LOWER_END..HYPERVISOR_START).contains(&address)
}

/// Copies bytes from the guest.
pub fn read_bytes(to: &mut [u8], from: u64) -> Result<(), Errno> {
    if !is_guest_range(from, to.len() as u64) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the range is out of the hole, as just checked.
    unsafe { user_copy::read(to, from) }.map_err(|_| Errno::EFAULT)
}

/// Copies bytes to the guest.
pub fn write_bytes(to: u64, from: &[u8]) -> Result<(), Errno> {
    if !is_guest_range(to, from.len() as u64) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the range is out of the hole, as just checked.
    unsafe { user_copy::write(to, from) }.map_err(|_| Errno::EFAULT)
}

/// Copies bytes to a guest by a root that need not be loaded: as far as the root maps the pages
/// writable.
///
/// # Errors
/// EFAULT at the first page that it doesn't; what lies before is written.
pub fn write_by_root(domain: DomId, root: Mfn, to: u64, from: &[u8]) -> Result<(), Errno> {
    if !is_guest_range(to, from.len() as u64) {
        return Err(Errno::EFAULT);
    }
    let (mut at, mut rest) = (to, from);
    while !rest.is_empty() {
        let offset = (at % 4096) as usize;
        let (now, later) = rest.split_at(rest.len().min(4096 - offset));
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

/// A guest's claim that `T`s are at an address.
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
    /// The claim.
    pub fn new(address: u64) -> GuestPtr<T> {
        GuestPtr { address, target: PhantomData }
    }

    /// Whether the guest passed null.
    pub fn is_null(self) -> bool {
        self.address == 0
    }

    /// The address of element `index`; fails if it leaves the address space.
    fn element(self, index: u64) -> Result<u64, Errno> {
        let offset = index.checked_mul(size_of::<T>() as u64).ok_or(Errno::EFAULT)?;
        self.address.checked_add(offset).ok_or(Errno::EFAULT)
    }
}

impl<T: FromBytes + IntoBytes + Immutable> GuestPtr<T> {
    /// Copies the value in.
    pub fn read(self) -> Result<T, Errno> {
        self.read_at(0)
    }

    /// Copies element `index` in.
    pub fn read_at(self, index: u64) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        read_bytes(value.as_mut_bytes(), self.element(index)?)?;
        Ok(value)
    }

    /// Copies the value out.
    pub fn write(self, value: &T) -> Result<(), Errno> {
        self.write_at(0, value)
    }

    /// Copies element `index` out.
    pub fn write_at(self, index: u64, value: &T) -> Result<(), Errno> {
        write_bytes(self.element(index)?, value.as_bytes())
    }
}

/// Reads a byte of the loaded vCPU's guest, if it can be read.
pub fn read_byte(address: u64) -> Option<u8> {
    let mut byte = [0];
    read_bytes(&mut byte, address).ok().map(|()| byte[0])
}
