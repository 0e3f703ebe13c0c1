//! The nodes of a domain.

use crate::path::{is_within, parent};
use crate::quota::{NODE_BYTES, NODES, TREE_BYTES, VALUE_BYTES};
use crate::wire::Error;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

/// A node.
#[derive(Clone, Debug)]
struct Node {
    value: Box<[u8]>,
    /// As the guest reads them: strings, each with its NUL.
    permissions: Box<[u8]>,
    /// The tree's when the node, or the list of its children, changed last.
    generation: u64,
}

/// A tree: every node by its path from home, whose path is empty. A node's parent is always there.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<Box<[u8]>, Node>,
    /// What they are charged.
    bytes: usize,
    /// Counts changes.
    pub(crate) generation: u64,
}

impl Tree {
    /// Home alone.
    pub(crate) fn new(permissions: &[u8]) -> Tree {
        let home = Node { value: [].into(), permissions: permissions.into(), generation: 0 };
        let bytes = NODE_BYTES + permissions.len();
        Tree { nodes: BTreeMap::from([([].into(), home)]), bytes, generation: 0 }
    }

    fn get(&self, key: &[u8]) -> Result<&Node, Error> {
        self.nodes.get(key).ok_or(Error::NoEntry)
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.nodes.contains_key(key)
    }

    pub(crate) fn value(&self, key: &[u8]) -> Result<&[u8], Error> {
        Ok(&self.get(key)?.value)
    }

    pub(crate) fn permissions(&self, key: &[u8]) -> Result<&[u8], Error> {
        Ok(&self.get(key)?.permissions)
    }

    pub(crate) fn node_generation(&self, key: &[u8]) -> Result<u64, Error> {
        Ok(self.get(key)?.generation)
    }

    /// Names of a node's children, each with a NUL.
    pub(crate) fn children(&self, key: &[u8]) -> Result<Vec<u8>, Error> {
        self.get(key)?;
        let skip = if key.is_empty() { 0 } else { key.len() + 1 };
        let mut names = Vec::new();
        for child in self.below(key) {
            let name = &child[skip..];
            if !name.contains(&b'/') {
                names.extend_from_slice(name);
                names.push(0);
            }
        }
        Ok(names)
    }

    /// Everything below a node: one stretch of the map, between it and what begins as it does but
    /// goes on with less than a slash.
    fn below<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.nodes
            .range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded))
            .map(|(child, _)| &**child)
            .take_while(move |child| child.starts_with(key))
            .filter(move |child| is_within(child, key))
    }

    /// Makes sure that a node may take so many bytes instead of what it has.
    fn charge(&mut self, more: usize, less: usize) -> Result<(), Error> {
        // What is given back was charged.
        let bytes = self.bytes + more - less;
        if more > less && bytes > TREE_BYTES {
            return Err(Error::NoSpace);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Writes a value; makes the node, and those above it, if there are none.
    ///
    /// # Errors
    /// [`Error::NoSpace`] by the quotas; then nothing has changed.
    pub(crate) fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if value.len() > VALUE_BYTES {
            return Err(Error::NoSpace);
        }
        let old = self.nodes.get(key).map(|node| node.value.len());
        match old {
            Some(old) => self.charge(value.len(), old)?,
            None => self.make(key, value.len())?,
        }
        self.generation += 1;
        if let Some(node) = self.nodes.get_mut(key) {
            node.value = value.into();
            node.generation = self.generation;
        }
        Ok(())
    }

    /// Makes a node and those above it, without values; charges for `value` bytes, too.
    fn make(&mut self, key: &[u8], value: usize) -> Result<(), Error> {
        let mut missing = Vec::new();
        let mut next = Some(key);
        let above = loop {
            match next {
                Some(key) if !self.contains(key) => missing.push(key),
                found => break found,
            }
            if missing.len() + self.nodes.len() > NODES {
                return Err(Error::NoSpace);
            }
            next = next.and_then(parent);
        };
        let above = above.unwrap_or_default();
        let permissions: Box<[u8]> = self.permissions(above)?.into();
        let each = NODE_BYTES + permissions.len();
        let cost: usize = missing.iter().map(|key| key.len() + each).sum();
        self.charge(cost + value, 0)?;
        self.generation += 1;
        let generation = self.generation;
        if let Some(node) = self.nodes.get_mut(above) {
            node.generation = generation;
        }
        for key in missing {
            let node = Node { value: [].into(), permissions: permissions.clone(), generation };
            self.nodes.insert(key.into(), node);
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
        let old = self.get(key)?.permissions.len();
        self.charge(permissions.len(), old)?;
        self.generation += 1;
        if let Some(node) = self.nodes.get_mut(key) {
            node.permissions = permissions.into();
            node.generation = self.generation;
        }
        Ok(())
    }

    /// Removes a node and all below it; `false` if there is none, but its parent.
    ///
    /// # Errors
    /// [`Error::Access`] for home, [`Error::NoEntry`] if the parent isn't there either.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Result<bool, Error> {
        let above = parent(key).ok_or(Error::Access)?;
        if !self.contains(key) {
            return self.get(above).map(|_| false);
        }
        let gone: Vec<Box<[u8]>> = self.below(key).chain([key]).map(|gone| gone.into()).collect();
        for key in gone {
            if let Some(node) = self.nodes.remove(&key) {
                self.bytes -= NODE_BYTES + key.len() + node.value.len() + node.permissions.len();
            }
        }
        self.generation += 1;
        if let Some(node) = self.nodes.get_mut(above) {
            node.generation = self.generation;
        }
        Ok(true)
    }

    /// What the nodes are charged, counted anew.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let mut bytes = 0;
        for (key, node) in &self.nodes {
            bytes += NODE_BYTES + key.len() + node.value.len() + node.permissions.len();
        }
        assert_eq!(bytes, self.bytes);
        assert!(self.bytes <= TREE_BYTES && self.nodes.len() <= NODES);
        for key in self.nodes.keys() {
            assert!(parent(key).is_none_or(|parent| self.contains(parent)));
        }
    }
}
