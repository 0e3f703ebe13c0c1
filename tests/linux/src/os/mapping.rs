//! Anonymous mappings.

use super::PAGE;
use rustix::mm::{self, MapFlags, MprotectFlags, MremapFlags, ProtFlags};
use std::io::{Error, Write};
use std::os::fd::AsRawFd;

/// A private anonymous mapping, unmapped when it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: nothing else refers to the memory, so the pointer may move to another thread with it.
unsafe impl Send for Mapping {}

/// The accesses that a mapping allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    None,
    Read,
    ReadWrite,
}

impl Access {
    fn flags(self) -> ProtFlags {
        match self {
            Access::None => ProtFlags::empty(),
            Access::Read => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        }
    }
}

impl Mapping {
    /// Maps zeroed pages.
    pub(crate) fn new(pages: usize, access: Access) -> Result<Mapping, String> {
        Mapping::with(pages, access, MapFlags::empty())
    }

    /// Maps zeroed pages, perhaps more of them than there is memory for.
    pub(crate) fn sparse(pages: usize) -> Result<Mapping, String> {
        Mapping::with(pages, Access::ReadWrite, MapFlags::NORESERVE)
    }

    /// Maps zeroed pages below 2 GiB.
    pub(crate) fn low(pages: usize) -> Result<Mapping, String> {
        Mapping::with(pages, Access::ReadWrite, MapFlags::from_bits_retain(libc::MAP_32BIT as u32))
    }

    fn with(pages: usize, access: Access, flags: MapFlags) -> Result<Mapping, String> {
        let bytes = pages * PAGE;
        let (prot, flags) = (access.flags(), flags | MapFlags::PRIVATE);
        // SAFETY: the kernel chooses the address, so the new mapping replaces no other.
        let start = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), bytes, prot, flags) }
            .map_err(|error| format!("mmap of {pages} pages: {error}"))?;
        Ok(Mapping { start: start.cast(), bytes })
    }

    /// Returns its first address.
    pub(crate) fn address(&self) -> usize {
        self.start as usize
    }

    /// Returns its size in pages.
    pub(crate) fn pages(&self) -> usize {
        self.bytes / PAGE
    }

    fn page(&self, page: usize) -> *mut u8 {
        assert!(page < self.pages());
        self.start.wrapping_add(page * PAGE)
    }

    /// Changes the access to `pages` pages, of which there must be one, from `first` on.
    pub(crate) fn protect(&self, first: usize, pages: usize, access: Access) -> Result<(), String> {
        assert!(first + pages <= self.pages());
        let flags = MprotectFlags::from_bits_retain(access.flags().bits());
        // SAFETY: the pages belong to this mapping, and no reference into them exists.
        unsafe { mm::mprotect(self.page(first).cast(), pages * PAGE, flags) }
            .map_err(|error| format!("mprotect: {error}"))
    }

    /// Replaces all pages by new, zeroed ones at the same addresses.
    pub(crate) fn replace_pages(&self) -> Result<(), String> {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        let prot = Access::ReadWrite.flags();
        // SAFETY: only this mapping's own pages are replaced, and no reference into them exists.
        unsafe { mm::mmap_anonymous(self.start.cast(), self.bytes, prot, flags) }
            .map(drop)
            .map_err(|error| format!("mmap in place: {error}"))
    }

    /// Changes its size; the kernel may move it.
    pub(crate) fn resize(&mut self, pages: usize) -> Result<(), String> {
        let (start, bytes) = (self.start.cast(), pages * PAGE);
        // SAFETY: the mapping is this one, and no reference into it exists.
        let start = unsafe { mm::mremap(start, self.bytes, bytes, MremapFlags::MAYMOVE) }
            .map_err(|error| format!("mremap: {error}"))?;
        self.start = start.cast();
        self.bytes = bytes;
        Ok(())
    }

    /// Writes the first word of a page. The page must be writable, or a signal handler must make
    /// it so.
    pub(crate) fn write(&self, page: usize, word: u64) {
        // SAFETY: the page is part of the mapping, and page-aligned.
        unsafe { self.page(page).cast::<u64>().write_volatile(word) };
    }

    /// Reads the first word of a page, which must be readable.
    pub(crate) fn read(&self, page: usize) -> u64 {
        // SAFETY: as in `write`.
        unsafe { self.page(page).cast::<u64>().read_volatile() }
    }

    /// Has the kernel write a word into a page. Where the page is not writable, this gives the
    /// error number of the system call; there is no signal.
    pub(crate) fn write_by_kernel(&self, page: usize) -> Result<(), i32> {
        let (output, mut input) = std::io::pipe().expect("a pipe");
        let word = 0x5eed_u64.to_le_bytes();
        input.write_all(&word).expect("an empty pipe takes eight bytes");
        let target = self.page(page).cast();
        // SAFETY: the page is part of the mapping; the kernel checks whether it may be written.
        match unsafe { libc::read(output.as_raw_fd(), target, word.len()) } {
            -1 => Err(Error::last_os_error().raw_os_error().unwrap_or(0)),
            _ => Ok(()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one; nothing refers to it any more.
        unsafe { mm::munmap(self.start.cast(), self.bytes) }.expect("a mapping can be unmapped");
    }
}
