//! The nodes of a domain.
//!
//! A tree is two lists of fixed capacity: the nodes, sorted by key, and the bytes of all nodes, in
//! any order but without gaps. Each change moves the bytes behind it once, some tens of KiB at most.
//! In return nothing can become fragmented, and the rest of a quota can always be used.

use crate::fixed_vec::{FixedVec, Full};
use crate::path::{is_within, parent};
use crate::quota::{ALLOCATION_OVERHEAD, NODES, TREE_BYTES, VALUE_BYTES};
use crate::wire::Error;
use alloc::collections::TryReserveError;
use core::ops::Range;

/// A node: where its bytes are. The key comes first, then the permissions as the guest reads them
/// (strings, each with its NUL), then the value.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    start: u32,
    key: u16,
    permissions: u16,
    value: u16,
    /// The tree's generation when the node, or the list of its children, changed last.
    generation: u64,
}

// Lengths fit `u16`, and indices of nodes `u8`.
const _: () = assert!(TREE_BYTES <= u16::MAX as usize && NODES <= 256);

/// Heap memory of a tree in bytes.
pub(crate) const HEAP_BYTES: usize =
    NODES * size_of::<Node>() + TREE_BYTES + 2 * ALLOCATION_OVERHEAD;

impl Node {
    fn key(&self) -> Range<usize> {
        let start = self.start as usize;
        start..start + usize::from(self.key)
    }

    fn permissions(&self) -> Range<usize> {
        let start = self.key().end;
        start..start + usize::from(self.permissions)
    }

    fn value(&self) -> Range<usize> {
        let start = self.permissions().end;
        start..start + usize::from(self.value)
    }

    fn all(&self) -> Range<usize> {
        self.start as usize..self.value().end
    }
}

/// A tree of nodes. The parent of every node is in it, up to the base node, whose key is empty.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: FixedVec<Node>,
    bytes: FixedVec<u8>,
    /// Number of changes so far.
    pub(crate) generation: u64,
}

/// The error for a list that is full because a quota is used up.
fn no_space(Full: Full) -> Error {
    Error::NoSpace
}

impl Tree {
    /// A tree without nodes, not even the base node.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(crate) fn empty() -> Result<Tree, TryReserveError> {
        let nodes = FixedVec::with_capacity(NODES)?;
        Ok(Tree { nodes, bytes: FixedVec::with_capacity(TREE_BYTES)?, generation: 0 })
    }

    /// Creates the base node in a tree without nodes.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: the permissions are too long.
    pub(crate) fn create_base(&mut self, permissions: &[u8]) -> Result<(), Error> {
        debug_assert!(self.nodes.is_empty());
        self.bytes.extend(permissions).map_err(no_space)?;
        let permissions = permissions.len() as u16;
        let base = Node { start: 0, key: 0, permissions, value: 0, generation: 0 };
        self.nodes.push(base).map_err(no_space)
    }

    /// Becomes a copy of another tree.
    pub(crate) fn copy_from(&mut self, other: &Tree) {
        self.nodes.copy_from(&other.nodes);
        self.bytes.copy_from(&other.bytes);
        self.generation = other.generation;
    }

    /// The node's index, or the index at which to insert it.
    fn search(&self, key: &[u8]) -> Result<usize, usize> {
        self.nodes.binary_search_by(|node| self.bytes[node.key()].cmp(key))
    }

    fn index(&self, key: &[u8]) -> Result<usize, Error> {
        self.search(key).map_err(|_| Error::NoEntry)
    }

    fn get(&self, key: &[u8]) -> Result<&Node, Error> {
        Ok(&self.nodes[self.index(key)?])
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.search(key).is_ok()
    }

    pub(crate) fn value(&self, key: &[u8]) -> Result<&[u8], Error> {
        Ok(&self.bytes[self.get(key)?.value()])
    }

    pub(crate) fn permissions(&self, key: &[u8]) -> Result<&[u8], Error> {
        Ok(&self.bytes[self.get(key)?.permissions()])
    }

    pub(crate) fn node_generation(&self, key: &[u8]) -> Result<u64, Error> {
        Ok(self.get(key)?.generation)
    }

    /// Names of a node's children.
    ///
    /// # Errors
    /// [`Error::NoEntry`].
    pub(crate) fn children<'a>(
        &'a self,
        key: &'a [u8],
    ) -> Result<impl Iterator<Item = &'a [u8]>, Error> {
        let first = self.index(key)? + 1;
        let skip = if key.is_empty() { 0 } else { key.len() + 1 };
        let below = self.nodes[first..]
            .iter()
            .map(|node| &self.bytes[node.key()])
            // The nodes below a node follow it, mixed with keys such as `a-b` for the node `a`:
            // these begin with the same bytes, and `-` sorts before `/`.
            .take_while(move |child| child.starts_with(key))
            .filter(move |child| is_within(child, key))
            .map(move |child| &child[skip..]);
        Ok(below.filter(|name| !name.contains(&b'/')))
    }

    /// Replaces bytes of a node by others. The caller adjusts the lengths in the node.
    fn replace(&mut self, index: usize, range: Range<usize>, with: &[u8]) -> Result<(), Error> {
        let (old, new) = (range.len(), with.len());
        self.bytes.replace(range, with).map_err(no_space)?;
        let own = self.nodes[index].start;
        for node in self.nodes.iter_mut().filter(|node| node.start > own) {
            // Its bytes lie behind those that are replaced.
            node.start = (node.start as usize - old + new) as u32;
        }
        Ok(())
    }

    fn bump_generation(&mut self, index: usize) {
        self.generation += 1;
        self.nodes[index].generation = self.generation;
    }

    /// Writes a value. Creates the node and its ancestors if they don't exist.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: a quota is used up, and nothing has changed.
    pub(crate) fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if value.len() > VALUE_BYTES {
            return Err(Error::NoSpace);
        }
        if !self.contains(key) {
            self.create(key, value.len())?;
        }
        let index = self.index(key)?;
        self.replace(index, self.nodes[index].value(), value)?;
        self.nodes[index].value = value.len() as u16;
        self.bump_generation(index);
        Ok(())
    }

    /// Creates a node and its missing ancestors, without values. `reserve`: bytes that must be free
    /// afterwards.
    fn create(&mut self, key: &[u8], reserve: usize) -> Result<(), Error> {
        let (mut nodes, mut bytes) = (0, 0);
        let mut ancestor = key;
        while !self.contains(ancestor) {
            nodes += 1;
            bytes += ancestor.len();
            if nodes > self.nodes.room() {
                return Err(Error::NoSpace);
            }
            // The base node, which has no parent, always exists.
            ancestor = parent(ancestor).unwrap_or_default();
        }
        let ancestor = self.index(ancestor)?;
        let permissions = self.nodes[ancestor].permissions();
        if bytes + nodes * permissions.len() + reserve > self.bytes.room() {
            return Err(Error::NoSpace);
        }
        self.bump_generation(ancestor);
        let mut missing = key;
        while let Err(index) = self.search(missing) {
            let node = Node {
                start: self.bytes.len() as u32,
                key: missing.len() as u16,
                permissions: permissions.len() as u16,
                value: 0,
                generation: self.generation,
            };
            self.bytes.extend(missing).map_err(no_space)?;
            self.bytes.extend_from_within(permissions.clone()).map_err(no_space)?;
            self.nodes.insert(index, node).map_err(no_space)?;
            missing = parent(missing).unwrap_or_default();
        }
        Ok(())
    }

    /// Creates a node without a value. Returns `false` if it exists already.
    ///
    /// # Errors
    /// As [`Tree::write`].
    pub(crate) fn mkdir(&mut self, key: &[u8]) -> Result<bool, Error> {
        if self.contains(key) {
            return Ok(false);
        }
        self.create(key, 0).map(|()| true)
    }

    /// Sets the permissions of a node.
    ///
    /// # Errors
    /// [`Error::NoEntry`]: no such node. [`Error::NoSpace`]: a quota is used up.
    pub(crate) fn set_permissions(&mut self, key: &[u8], permissions: &[u8]) -> Result<(), Error> {
        let index = self.index(key)?;
        let old = self.nodes[index].permissions();
        self.replace(index, old, permissions)?;
        // Fits: at most the payload of a message.
        self.nodes[index].permissions = permissions.len() as u16;
        self.bump_generation(index);
        Ok(())
    }

    /// Removes a node and all nodes below it. Returns `false` if the node doesn't exist but its parent
    /// does.
    ///
    /// # Errors
    /// [`Error::Access`]: the base node. [`Error::NoEntry`]: the parent doesn't exist either.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Result<bool, Error> {
        let parent = self.index(parent(key).ok_or(Error::Access)?);
        if !self.contains(key) {
            return parent.map(|_| false);
        }
        // The parent sorts before the removed nodes, so its index stays the same.
        let parent = parent?;
        let Tree { nodes, bytes, .. } = self;
        nodes.retain_mut(|node| !is_within(&bytes[node.key()], key));
        self.compact_bytes();
        self.bump_generation(parent);
        Ok(true)
    }

    /// The indices of the nodes, in the order of their bytes.
    fn order_of_bytes(&self) -> impl Iterator<Item = usize> + use<> {
        let mut order: [u8; NODES] = core::array::from_fn(|index| index as u8);
        let count = self.nodes.len();
        order[..count].sort_unstable_by_key(|&index| self.nodes[usize::from(index)].start);
        order.into_iter().take(count).map(usize::from)
    }

    /// Closes the gaps between the bytes of the nodes, after nodes were removed.
    fn compact_bytes(&mut self) {
        let mut end = 0;
        for index in self.order_of_bytes() {
            let bytes = self.nodes[index].all();
            let length = bytes.len();
            self.nodes[index].start = end as u32;
            self.bytes.copy_within(bytes, end);
            end += length;
        }
        self.bytes.truncate(end);
    }

    /// Checks that the nodes are sorted, have their parents, and that their bytes have no gaps.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let mut end = 0;
        for index in self.order_of_bytes() {
            let node = &self.nodes[index];
            assert_eq!(node.start as usize, end);
            end = node.all().end;
            assert!(parent(&self.bytes[node.key()]).is_none_or(|parent| self.contains(parent)));
        }
        assert_eq!(self.bytes.len(), end);
        assert!(self.nodes.is_sorted_by(|a, b| self.bytes[a.key()] < self.bytes[b.key()]));
        assert!(self.bytes.len() <= TREE_BYTES && self.nodes.len() <= NODES);
    }
}
