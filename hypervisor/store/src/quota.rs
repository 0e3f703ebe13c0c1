//! What a guest's store may take.

/// Nodes of a tree. The reference lets a domain own 1000, all devices of a big guest included.
pub const NODES: usize = 160;
/// Bytes of a tree: names, values and permissions, and [`NODE_BYTES`] for each node.
pub const TREE_BYTES: usize = 48 << 10;
/// What a node is charged beside its bytes: its place in the map, and the allocator's rounding.
pub const NODE_BYTES: usize = 256;
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
/// Bytes of an absolute path (`XENSTORE_ABS_PATH_MAX`).
pub const ABSOLUTE_PATH: usize = 3072;
/// Bytes of a relative path (`XENSTORE_REL_PATH_MAX`).
pub const RELATIVE_PATH: usize = 2048;

/// What a store takes of the heap at most: the trees; watches and changes with what a list of them
/// costs; events that wait; a request, a reply, and rounding.
pub const HEAP_BYTES: usize = 256 << 10;

const _: () = {
    let trees = (1 + TRANSACTIONS) * TREE_BYTES;
    let watches = WATCH_BYTES + WATCHES * 128;
    let changes = (1 + TRANSACTIONS) * (CHANGE_BYTES + CHANGES * 64);
    let events = WATCHES * CHANGES * 4;
    // A growing vector has its old and its new half for a moment.
    let buffers = 2 * 2 * (16 + super::wire::MAX_PAYLOAD);
    assert!(trees + watches + changes + 2 * events + buffers <= HEAP_BYTES);
};
