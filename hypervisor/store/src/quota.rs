//! What a guest's store may hold. All of it is allocated when the store is created.

/// Nodes of a tree. Xen lets a domain own 1000, which includes the devices of a large guest.
pub const NODES: usize = 160;
/// Bytes of a tree: names, values and permissions.
pub const TREE_BYTES: usize = 48 << 10;
/// Bytes of a value, as in Xen.
pub const VALUE_BYTES: usize = 2048;
/// Watches: half as many as in Xen.
pub const WATCHES: usize = 64;
/// Bytes of all watches' paths and tokens.
pub const WATCH_BYTES: usize = 8 << 10;
/// Open transactions; each has a copy of the tree.
pub const TRANSACTIONS: usize = 2;
/// Changes in one transaction; its end queues events for them.
pub const CHANGES: usize = 64;
/// Bytes of the paths of one transaction's changes.
pub const CHANGE_BYTES: usize = 8 << 10;
/// Queued events: one for each watch and each change of a transaction.
pub const EVENTS: usize = WATCHES * CHANGES;
/// Bytes of an absolute path (`XENSTORE_ABS_PATH_MAX`).
pub const ABSOLUTE_PATH: usize = 3072;
/// Bytes of a relative path (`XENSTORE_REL_PATH_MAX`).
pub const RELATIVE_PATH: usize = 2048;

/// Bytes that the allocator may add to each allocation; an upper bound.
pub(crate) const ALLOCATION_OVERHEAD: usize = 64;

// A list of changes holds at least one path of any length.
const _: () = assert!(ABSOLUTE_PATH <= CHANGE_BYTES);
