//! The nodes of a domain.
//!
//! A tree is two lists of fixed capacity: the nodes, ordered by their paths, and the bytes of all
//! of them, in any order but without gaps. A change moves what lies behind it, some tens of KiB at
//! most, once; for that there is nothing to fragment, and what is left of the quota can always be
//! used.

use crate::fixed::{Fixed, Full};
use crate::path::{is_within, parent};
use crate::quota::{NODES, PIECE_BYTES, TREE_BYTES, VALUE_BYTES};
use crate::wire::Error;
use alloc::collections::TryReserveError;
use core::ops::Range;

/// A node: where its bytes are. The path from home comes first, then the permissions as the guest
/// reads them (strings, each with its NUL), then the value.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    start: u32,
    key: u16,
    permissions: u16,
    value: u16,
    /// The tree's when the node, or the list of its children, changed last.
    generation: u64,
}

// Every length fits its type, and every index a byte.
const _: () = assert!(TREE_BYTES <= u16::MAX as usize && NODES <= 256);

/// What a tree takes of the heap.
pub(crate) const HEAP_BYTES: usize = NODES * size_of::<Node>() + TREE_BYTES + 2 * PIECE_BYTES;

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

/// A tree: every node by its path from home, whose path is empty. A node's parent is always there.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Fixed<Node>,
    bytes: Fixed<u8>,
    /// Counts changes.
    pub(crate) generation: u64,
}

/// A quota is used up.
fn no_space(Full: Full) -> Error {
    Error::NoSpace
}

impl Tree {
    /// No nodes at all, not even home.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(crate) fn empty() -> Result<Tree, TryReserveError> {
        let nodes = Fixed::with_capacity(NODES)?;
        Ok(Tree { nodes, bytes: Fixed::with_capacity(TREE_BYTES)?, generation: 0 })
    }

    /// Makes home in a tree without nodes.
    ///
    /// # Errors
    /// [`Error::NoSpace`] for permissions that are too long.
    pub(crate) fn make_home(&mut self, permissions: &[u8]) -> Result<(), Error> {
        debug_assert!(self.nodes.is_empty());
        self.bytes.extend(permissions).map_err(no_space)?;
        let permissions = permissions.len() as u16;
        let home = Node { start: 0, key: 0, permissions, value: 0, generation: 0 };
        self.nodes.push(home).map_err(no_space)
    }

    /// Becomes like another tree.
    pub(crate) fn copy_from(&mut self, other: &Tree) {
        self.nodes.copy_from(&other.nodes);
        self.bytes.copy_from(&other.bytes);
        self.generation = other.generation;
    }

    /// The node's index, or where it would be.
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
            // Everything below a node lies between it and what doesn't begin as it does; so does
            // what goes on with less than a slash.
            .take_while(move |child| child.starts_with(key))
            .filter(move |child| is_within(child, key))
            .map(move |child| &child[skip..]);
        Ok(below.filter(|name| !name.contains(&b'/')))
    }

    /// Puts other bytes where some of a node are. The node's own lengths are the caller's to set.
    fn replace(&mut self, index: usize, range: Range<usize>, with: &[u8]) -> Result<(), Error> {
        let (old, new) = (range.len(), with.len());
        self.bytes.replace(range, with).map_err(no_space)?;
        let own = self.nodes[index].start;
        for node in self.nodes.iter_mut().filter(|node| node.start > own) {
            // It lies behind all bytes of this node, also those that are replaced.
            node.start = (node.start as usize - old + new) as u32;
        }
        Ok(())
    }

    fn touch(&mut self, index: usize) {
        self.generation += 1;
        self.nodes[index].generation = self.generation;
    }

    /// Writes a value; makes the node, and those above it, if there are none.
    ///
    /// # Errors
    /// [`Error::NoSpace`] by the quotas; then nothing has changed.
    pub(crate) fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if value.len() > VALUE_BYTES {
            return Err(Error::NoSpace);
        }
        if !self.contains(key) {
            self.make(key, value.len())?;
        }
        let index = self.index(key)?;
        self.replace(index, self.nodes[index].value(), value)?;
        self.nodes[index].value = value.len() as u16;
        self.touch(index);
        Ok(())
    }

    /// Makes a node and those above it, without values, and makes sure that there is room for
    /// `value` bytes, too.
    fn make(&mut self, key: &[u8], value: usize) -> Result<(), Error> {
        let (mut nodes, mut bytes) = (0, 0);
        let mut above = key;
        while !self.contains(above) {
            nodes += 1;
            bytes += above.len();
            if nodes > self.nodes.room() {
                return Err(Error::NoSpace);
            }
            // Home, which has no parent, is there.
            above = parent(above).unwrap_or_default();
        }
        let above = self.index(above)?;
        let permissions = self.nodes[above].permissions();
        if bytes + nodes * permissions.len() + value > self.bytes.room() {
            return Err(Error::NoSpace);
        }
        self.touch(above);
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

    /// Makes a node without a value; `false` if it is there.
    ///
    /// # Errors
    /// As [`Tree::write`].
    pub(crate) fn make_directory(&mut self, key: &[u8]) -> Result<bool, Error> {
        if self.contains(key) {
            return Ok(false);
        }
        self.make(key, 0).map(|()| true)
    }

    /// Sets what a node's permissions say.
    ///
    /// # Errors
    /// [`Error::NoEntry`]; [`Error::NoSpace`] by the quotas.
    pub(crate) fn set_permissions(&mut self, key: &[u8], permissions: &[u8]) -> Result<(), Error> {
        let index = self.index(key)?;
        let old = self.nodes[index].permissions();
        self.replace(index, old, permissions)?;
        // At most a message's payload.
        self.nodes[index].permissions = permissions.len() as u16;
        self.touch(index);
        Ok(())
    }

    /// Removes a node and all below it; `false` if there is none, but its parent.
    ///
    /// # Errors
    /// [`Error::Access`] for home, [`Error::NoEntry`] if the parent isn't there either.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Result<bool, Error> {
        let above = self.index(parent(key).ok_or(Error::Access)?);
        if !self.contains(key) {
            return above.map(|_| false);
        }
        // The parent comes before what goes, and stays where it is.
        let above = above?;
        let Tree { nodes, bytes, .. } = self;
        nodes.retain_mut(|node| !is_within(&bytes[node.key()], key));
        self.close_gaps();
        self.touch(above);
        Ok(true)
    }

    /// The indices of the nodes, in the order of their bytes.
    fn order_of_bytes(&self) -> impl Iterator<Item = usize> + use<> {
        let mut order: [u8; NODES] = core::array::from_fn(|index| index as u8);
        let count = self.nodes.len();
        order[..count].sort_unstable_by_key(|&index| self.nodes[usize::from(index)].start);
        order.into_iter().take(count).map(usize::from)
    }

    /// Moves the bytes of all nodes together, after some nodes went.
    fn close_gaps(&mut self) {
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

    /// The nodes are in order, with their parents, and their bytes without gaps.
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
