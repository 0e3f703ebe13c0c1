//! What can go wrong in a round, and checks of refused pins.

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
pub(crate) enum Failure {
    Shim(Error),
    /// A pin was accepted that must be refused.
    Accepted,
    /// A pin was refused with another error than -EINVAL.
    Otherwise(Error),
    /// The hypervisor doesn't name the mapping that was left, among so many that it names.
    NotNamed(Vaddr, usize),
    /// The hypervisor names a writable mapping that nobody made.
    Surplus(Vaddr),
    /// A word has another value than the one that was written.
    Content(Content),
    /// A page of a buffer was overwritten.
    Corrupt(Pfn),
    /// An error of a swapped buffer.
    Buffer(buffer::Error),
    /// An error of a pageable object.
    Pageable(pageable::Error),
    /// Anything else.
    Other(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Shim(error)
    }
}

impl From<buffer::Error> for Failure {
    fn from(error: buffer::Error) -> Failure {
        Failure::Buffer(error)
    }
}

impl From<pageable::Error> for Failure {
    fn from(error: pageable::Error) -> Failure {
        Failure::Pageable(error)
    }
}

impl From<Content> for Failure {
    fn from(content: Content) -> Failure {
        Failure::Content(content)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Shim(error) => error.fmt(f),
            Failure::Accepted => f.write_str("a pin with a stray mapping was accepted"),
            Failure::Otherwise(error) => {
                write!(f, "refused with another error than -EINVAL: {error}")
            }
            Failure::NotNamed(va, count) => {
                write!(
                    f,
                    "the mapping left at {va} is not among the {count} that the hypervisor names"
                )
            }
            Failure::Surplus(va) => {
                write!(f, "the hypervisor names a writable mapping at {va} that nobody made")
            }
            Failure::Content(content) => content.fmt(f),
            Failure::Corrupt(frame) => write!(f, "frame {frame} was overwritten"),
            Failure::Buffer(error) => error.fmt(f),
            Failure::Pageable(error) => error.fmt(f),
            Failure::Other(what) => f.write_str(what),
        }
    }
}

/// Has a pin refused with -EINVAL. `pin` may go through the shim or around it. Returns the tables.
pub(crate) fn expect_refusal(
    mmu: &mut Mmu<Native>,
    tree: UnpinnedTables,
    pin: impl FnOnce(&mut Mmu<Native>, UnpinnedTables) -> Result<AddressSpace, (UnpinnedTables, Error)>,
) -> Result<UnpinnedTables, Failure> {
    match pin(mmu, tree) {
        Ok(space) => {
            let _ = mmu.unpin(space).map(|tree| mmu.free_tables(tree));
            Err(Failure::Accepted)
        }
        Err((tree, Error::Refused(errno))) if errno == Errno::EINVAL => Ok(tree),
        Err((_, error)) => Err(Failure::Otherwise(error)),
    }
}

/// Checks that the hypervisor finds exactly the mappings that were left of a frame. Returns how
/// many it named: none where `find_aliases` doesn't exist.
pub(crate) fn check_named(
    mmu: &mut Mmu<Native>,
    frame: Pfn,
    left: &[Vaddr],
) -> Result<u64, Failure> {
    let mappings = match mmu.find_aliases(&[frame]) {
        Ok(mappings) => mappings,
        Err(errno) if errno == Errno::ENOSYS => return Ok(0),
        Err(errno) => return Err(Error::Refused(errno).into()),
    };
    let home = mmu.direct_map_va(frame);
    let wanted = MAPPING_WRITABLE | MAPPING_ATTACHED;
    let writable = mappings.iter().filter(|mapping| mapping.flags & wanted == wanted);
    // The direct map's entry is writable again since the pin was refused.
    let mut found: alloc::vec::Vec<Vaddr> =
        writable.map(|mapping| Vaddr(mapping.va)).filter(|&va| va != home).collect();
    for &va in left {
        match found.iter().position(|&other| other == va) {
            Some(place) => drop(found.swap_remove(place)),
            None => return Err(Failure::NotNamed(va, mappings.len())),
        }
    }
    match found.first() {
        Some(&va) => Err(Failure::Surplus(va)),
        None => Ok(left.len() as u64),
    }
}

/// A phase has failed, and has printed why.
pub(crate) struct Failed;
