//! What a guest's store may take. All of it is reserved when the store is made.

/// Nodes of a tree. The reference lets a domain own 1000, all devices of a big guest included.
pub const NODES: usize = 160;
/// Bytes of a tree: names, values and permissions.
pub const TREE_BYTES: usize = 48 << 10;
/// Bytes of a value: what the reference lets a node have.
pub const VALUE_BYTES: usize = 2048;
/// Watches: as in the reference, halved.
pub const WATCHES: usize = 64;
/// Bytes of all watches' paths and tokens.
pub const WATCH_BYTES: usize = 8 << 10;
/// Transactions at a time; each has a copy of the tree.
pub const TRANSACTIONS: usize = 2;
/// Changes in a transaction, for which events are due at its end.
pub const CHANGES: usize = 64;
/// Bytes of their paths.
pub const CHANGE_BYTES: usize = 8 << 10;
/// Events that wait: one for each watch and each change of a transaction.
pub const EVENTS: usize = WATCHES * CHANGES;
/// Bytes of an absolute path (`XENSTORE_ABS_PATH_MAX`).
pub const ABSOLUTE_PATH: usize = 3072;
/// Bytes of a relative path (`XENSTORE_REL_PATH_MAX`).
pub const RELATIVE_PATH: usize = 2048;

/// What a store takes of the heap, from its beginning to its end.
pub const HEAP_BYTES: usize = crate::connection::HEAP_BYTES;

/// What the allocator adds to each piece, generously.
pub(crate) const PIECE_BYTES: usize = 64;

// The bytes of one path always fit where one change is noted.
const _: () = assert!(ABSOLUTE_PATH <= CHANGE_BYTES);
