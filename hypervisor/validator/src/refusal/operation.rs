//! The operations of the validator, by name.

use crate::addr::Level;

/// An operation that can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Give a frame to a domain.
    Assign,
    /// Take a frame back from a domain.
    Release,
    /// Share a frame of the hypervisor's with a domain.
    Share,
    /// Pin a table.
    Pin(Level),
    /// Unpin a table.
    Unpin,
    /// Load a root.
    LoadRoot,
    /// Write to a frame on the guest's behalf.
    WritePage,
    /// Read a frame on a guest's behalf.
    ReadPage,
    /// Map a frame that another domain granted.
    MapGranted,
    /// Unmap a granted frame.
    UnmapGranted,
    /// Use a frame in a GDT or LDT.
    UseDescriptors,
    /// Check one descriptor.
    CheckDescriptor,
    /// Change one descriptor.
    UpdateDescriptor,
    /// Change one entry.
    Update,
    /// Emulate a guest's store to a page table.
    EmulatedStore,
    /// Clear the entries of a range of addresses.
    Shootdown,
    /// Take a dead domain's tables apart.
    Relinquish,
}

impl Operation {
    /// Short name for the log.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Assign => "assign",
            Operation::Release => "release",
            Operation::Share => "share",
            Operation::Pin(Level::L1) => "pin_l1",
            Operation::Pin(Level::L2) => "pin_l2",
            Operation::Pin(Level::L3) => "pin_l3",
            Operation::Pin(Level::L4) => "pin_l4",
            Operation::Unpin => "unpin",
            Operation::LoadRoot => "load_root",
            Operation::WritePage => "write_page",
            Operation::ReadPage => "read_page",
            Operation::MapGranted => "grant_map",
            Operation::UnmapGranted => "grant_unmap",
            Operation::UseDescriptors => "use_descriptors",
            Operation::CheckDescriptor => "check_descriptor",
            Operation::UpdateDescriptor => "update_descriptor",
            Operation::Update => "update",
            Operation::EmulatedStore => "store",
            Operation::Shootdown => "shootdown",
            Operation::Relinquish => "relinquish",
        }
    }
}
