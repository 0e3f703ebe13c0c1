//! A pin that must be refused, and the mapping that must be named for it.

use crate::words::Content;
use core::fmt;
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::{MAPPING_ATTACHED, MAPPING_WRITABLE};
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::entry::Native;
use pinfold_guest::mmu::{AddressSpace, Error, Mmu, UnpinnedTables};
use pinfold_guest::{buffer, pageable};

/// What went wrong in a round.
#[derive(Debug)]
pub(crate) enum Wrong {
    Shim(Error),
    /// The pin went through.
    Accepted,
    /// Refused, but with another error.
    Otherwise(Error),
    /// The mapping that was left is not among those that the hypervisor names.
    NotNamed(Vaddr, usize),
    /// The hypervisor names a writable mapping that should not exist.
    Surplus(Vaddr),
    /// A word is not the one that was written.
    Content(Content),
    /// A page of a buffer was changed by nobody.
    Corrupt(Pfn),
    /// A swapped buffer.
    Buffer(buffer::Error),
    /// A pageable object.
    Pageable(pageable::Error),
    /// Something else that is said in words.
    Told(&'static str),
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Wrong {
        Wrong::Shim(error)
    }
}

impl From<buffer::Error> for Wrong {
    fn from(error: buffer::Error) -> Wrong {
        Wrong::Buffer(error)
    }
}

impl From<pageable::Error> for Wrong {
    fn from(error: pageable::Error) -> Wrong {
        Wrong::Pageable(error)
    }
}

impl From<Content> for Wrong {
    fn from(content: Content) -> Wrong {
        Wrong::Content(content)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Shim(error) => error.fmt(f),
            Wrong::Accepted => f.write_str("a pin with a stray mapping was accepted"),
            Wrong::Otherwise(error) => write!(f, "not -EINVAL: {error}"),
            Wrong::NotNamed(va, count) => {
                write!(f, "the mapping left at {va} is not among the {count} named ones")
            }
            Wrong::Surplus(va) => write!(f, "a writable mapping at {va} that nobody made"),
            Wrong::Content(content) => content.fmt(f),
            Wrong::Corrupt(frame) => write!(f, "frame {frame} was changed by nobody"),
            Wrong::Buffer(error) => error.fmt(f),
            Wrong::Pageable(error) => error.fmt(f),
            Wrong::Told(what) => f.write_str(what),
        }
    }
}

/// Has the hypervisor refuse a tree, through the shim or behind its back.
pub(crate) fn refuse(
    mmu: &mut Mmu<Native>,
    tree: UnpinnedTables,
    pin: impl FnOnce(&mut Mmu<Native>, UnpinnedTables) -> Result<AddressSpace, (UnpinnedTables, Error)>,
) -> Result<UnpinnedTables, Wrong> {
    match pin(mmu, tree) {
        Ok(space) => {
            let _ = mmu.unpin(space).map(|tree| mmu.free_tables(tree));
            Err(Wrong::Accepted)
        }
        Err((tree, Error::Refused(errno))) if errno == Errno::EINVAL => Ok(tree),
        Err((_, error)) => Err(Wrong::Otherwise(error)),
    }
}

/// Checks that the hypervisor finds the mappings that were left of a frame and no others; how
/// many, where it can be asked, else none.
pub(crate) fn named(mmu: &mut Mmu<Native>, frame: Pfn, left: &[Vaddr]) -> Result<u64, Wrong> {
    let mappings = match mmu.find_aliases(&[frame]) {
        Ok(mappings) => mappings,
        Err(errno) if errno == Errno::ENOSYS => return Ok(0),
        Err(errno) => return Err(Error::Refused(errno).into()),
    };
    let home = mmu.direct_map_va(frame);
    let wanted = MAPPING_WRITABLE | MAPPING_ATTACHED;
    let writable = mappings.iter().filter(|mapping| mapping.flags & wanted == wanted);
    // At its home it is writable again since the pin was refused.
    let mut found: alloc::vec::Vec<Vaddr> =
        writable.map(|mapping| Vaddr(mapping.va)).filter(|&va| va != home).collect();
    for &va in left {
        match found.iter().position(|&other| other == va) {
            Some(place) => drop(found.swap_remove(place)),
            None => return Err(Wrong::NotNamed(va, mappings.len())),
        }
    }
    match found.first() {
        Some(&va) => Err(Wrong::Surplus(va)),
        None => Ok(left.len() as u64),
    }
}
