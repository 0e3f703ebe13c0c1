//! Finding the entry that translates an address.

use crate::addr::{Index, Level, Mfn, Vaddr};
use crate::entry::Entry;
use crate::frame_table::{Kind, State};
use crate::platform::Platform;
use crate::validator::Validator;

/// The L1 entry that translates an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The L1 table.
    pub table: Mfn,
    /// Its slot.
    pub index: Index,
    /// The entry: present or not.
    pub entry: Entry,
    /// Whether all entries on the way allow writes, the last one included.
    pub writable: bool,
}

/// Why a walk did not come to an L1 entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkError {
    /// The address is not canonical.
    NonCanonical,
    /// The address is in the hypervisor's part of the address space.
    Reserved,
    /// An entry on the way is not present.
    NotPresent {
        /// Level of the table that holds it.
        level: Level,
        /// The table.
        table: Mfn,
        /// The slot.
        index: Index,
        /// The entry.
        entry: Entry,
    },
    /// A frame on the way is no validated table of the level: the root isn't one, the tables changed
    /// meanwhile, or the way goes through a linear mapping.
    NotATable {
        /// The level that was wanted.
        level: Level,
        /// The frame.
        frame: Mfn,
    },
}

impl<P: Platform> Validator<'_, P> {
    /// Finds the L1 entry that translates an address below a root. It may change as soon as this returns:
    /// the result is a hint, which [`Validator::update`] checks.
    ///
    /// # Errors
    /// See [`WalkError`].
    pub fn walk(&self, root: Mfn, address: Vaddr) -> Result<Leaf, WalkError> {
        if !address.is_canonical() {
            return Err(WalkError::NonCanonical);
        }
        if address.index(Level::L4).is_reserved() {
            return Err(WalkError::Reserved);
        }
        let mut table = root;
        let mut writable = true;
        for level in [Level::L4, Level::L3, Level::L2] {
            let (index, entry) = self.step(table, level, address)?;
            let Some(next) = entry.target() else {
                return Err(WalkError::NotPresent { level, table, index, entry });
            };
            writable &= entry.is_writable();
            table = next;
        }
        let (index, entry) = self.step(table, Level::L1, address)?;
        Ok(Leaf { table, index, entry, writable: writable && entry.is_writable() })
    }

    fn step(&self, table: Mfn, level: Level, address: Vaddr) -> Result<(Index, Entry), WalkError> {
        let types = self.frame(table).map(|frame| frame.type_word());
        match types {
            Some(types)
                if types.kind() == Kind::table(level) && types.state() == State::Validated =>
            {
                let index = address.index(level);
                Ok((index, Entry::new(self.read(table, index))))
            }
            _ => Err(WalkError::NotATable { level, frame: table }),
        }
    }
}
