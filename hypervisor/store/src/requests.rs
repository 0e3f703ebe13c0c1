//! What each request does.

use crate::fixed_vec::FixedVec;
use crate::path;
use crate::quota::{ALLOCATION_OVERHEAD, TRANSACTIONS};
use crate::tree::{self, Tree};
use crate::watch::{self, Changes, WatchedPath, Watches};
use crate::wire::{Error, HEADER, Header, MessageType};
use alloc::collections::TryReserveError;
use core::fmt::Write;
use pinfold_abi::domid;

const OK: &[u8] = b"OK\0";
/// Bytes of the longest base path.
const BASE_PATH: usize = b"/local/domain/65535".len();

/// Bytes of the longest permissions that the base node begins with.
const PERMISSIONS: usize = b"n65535\0".len();

/// Heap memory of a [`Store`] in bytes.
pub(crate) const HEAP_BYTES: usize = BASE_PATH
    + PERMISSIONS
    + 2 * ALLOCATION_OVERHEAD
    + tree::HEAP_BYTES
    + watch::HEAP_BYTES
    + TRANSACTIONS * (tree::HEAP_BYTES + watch::CHANGES_HEAP_BYTES);

/// An open transaction, or a slot for one.
#[derive(Debug)]
struct Transaction {
    /// 0: the slot is free.
    id: u32,
    /// The copy of the domain's tree that the transaction works on.
    tree: Tree,
    /// Generation of the domain's tree when the transaction began.
    start_generation: u64,
    changes: Changes,
}

/// A domain's store.
#[derive(Debug)]
pub(crate) struct Store {
    domain: u16,
    base_path: FixedVec<u8>,
    pub(crate) tree: Tree,
    watches: Watches,
    transactions: [Transaction; TRANSACTIONS],
    last_transaction: u32,
}

/// Parses a payload that is one string with its NUL.
fn parse_string(payload: &[u8]) -> Result<&[u8], Error> {
    match payload.split_last() {
        Some((0, text)) if !text.contains(&0) => Ok(text),
        _ => Err(Error::Invalid),
    }
}

/// Parses a payload that begins with two strings, each with its NUL.
fn parse_two_strings(payload: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let (first, rest) = split_string(payload)?;
    Ok((first, split_string(rest)?.0))
}

/// Splits a payload after its first NUL: the string before it, and the rest.
fn split_string(payload: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let end = payload.iter().position(|&byte| byte == 0).ok_or(Error::Invalid)?;
    Ok((&payload[..end], &payload[end + 1..]))
}

/// Parses a decimal number.
fn parse_number(text: &[u8]) -> Result<u32, Error> {
    let text = core::str::from_utf8(text).map_err(|_| Error::Invalid)?;
    text.parse().map_err(|_| Error::Invalid)
}

impl Transaction {
    fn empty() -> Result<Transaction, TryReserveError> {
        Ok(Transaction {
            id: 0,
            tree: Tree::empty()?,
            start_generation: 0,
            changes: Changes::empty()?,
        })
    }
}

impl Store {
    /// Creates a store with only the base node.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(crate) fn new(domain: u16) -> Result<Store, TryReserveError> {
        let mut store = Store {
            domain,
            base_path: FixedVec::with_capacity(BASE_PATH)?,
            tree: Tree::empty()?,
            watches: Watches::empty()?,
            transactions: [Transaction::empty()?, Transaction::empty()?],
            last_transaction: 0,
        };
        path::write_base_path(&mut store.base_path, domain).expect("the longest one fits");
        let mut permissions = FixedVec::with_capacity(PERMISSIONS)?;
        write!(permissions, "n{domain}\0").expect("the longest ones fit");
        store.tree.create_base(&permissions).expect("the first node fits");
        Ok(store)
    }

    /// Writes the next queued event to `to`, which must be empty; leaves it empty if there is none.
    pub(crate) fn write_event(&mut self, to: &mut FixedVec<u8>) {
        self.watches.write_event(&self.base_path, to);
    }

    /// Handles a request and writes the reply to `to`, whose old contents are dropped.
    pub(crate) fn handle_request(
        &mut self,
        header: &Header,
        payload: &[u8],
        to: &mut FixedVec<u8>,
    ) {
        to.clear();
        // The header is filled in at the end. There is room for it and for every error's name.
        to.extend(&[0; HEADER]).unwrap_or_default();
        let mut kind = header.kind;
        if let Err(error) = self.dispatch(header, payload, to) {
            to.truncate(HEADER);
            kind = MessageType::Error.into();
            to.extend(error.name().as_bytes()).unwrap_or_default();
            to.push(0).unwrap_or_default();
        }
        let length = (to.len() - HEADER) as u32;
        to[..HEADER].copy_from_slice(&Header { kind, length, ..*header }.to_bytes());
    }

    /// Does what a request asks, and appends the reply's payload to `to`.
    fn dispatch(
        &mut self,
        header: &Header,
        payload: &[u8],
        to: &mut FixedVec<u8>,
    ) -> Result<(), Error> {
        let id = header.transaction;
        self.tree(id)?;
        let Some(request) = MessageType::from_repr(header.kind) else {
            return Err(Error::NoSystemCall);
        };
        match request {
            MessageType::Directory => {
                let key = self.key_of(parse_string(payload)?)?;
                for name in self.tree(id)?.children(key)? {
                    to.extend(name)?;
                    to.push(0)?;
                }
                return Ok(());
            }
            MessageType::DirectoryPart => return self.directory_part(id, payload, to),
            MessageType::Read => {
                let key = self.key_of(parse_string(payload)?)?;
                return Ok(to.extend(self.tree(id)?.value(key)?)?);
            }
            MessageType::GetPerms => {
                let key = self.key_of(parse_string(payload)?)?;
                return Ok(to.extend(self.tree(id)?.permissions(key)?)?);
            }
            MessageType::TransactionStart => return self.start_transaction(id, to),
            MessageType::GetDomainPath => {
                let number = parse_number(parse_string(payload)?)?;
                let domain = u16::try_from(number).map_err(|_| Error::Invalid)?;
                let domain = if domain == domid::SELF { self.domain } else { domain };
                path::write_base_path(to, domain)?;
                return Ok(to.push(0)?);
            }
            MessageType::IsDomainIntroduced => {
                let number = parse_number(parse_string(payload)?)?;
                // Domain 0 is the one that serves the store. A domain learns nothing about others.
                let known = [0, domid::SELF.into(), self.domain.into()].contains(&number);
                return Ok(to.extend(if known { b"T\0" } else { b"F\0" })?);
            }
            MessageType::Write => {
                let (path, value) = split_string(payload)?;
                self.change(id, path, false, |tree, key| tree.write(key, value).map(|()| true))?;
            }
            MessageType::Mkdir => {
                self.change(id, parse_string(payload)?, false, Tree::mkdir)?;
            }
            MessageType::Rm => {
                self.change(id, parse_string(payload)?, true, Tree::remove)?;
            }
            MessageType::SetPerms => self.set_permissions(id, payload)?,
            MessageType::Watch => {
                let (path, token) = parse_two_strings(payload)?;
                let watched = self.watched_path(path)?;
                self.watches.add(watched, token)?;
            }
            MessageType::Unwatch => {
                let (path, token) = parse_two_strings(payload)?;
                let watched = self.watched_path(path)?;
                self.watches.remove(watched, token)?;
            }
            MessageType::ResetWatches => {
                self.watches.clear();
                self.transactions.iter_mut().for_each(|transaction| transaction.id = 0);
            }
            MessageType::TransactionEnd => self.end_transaction(id, parse_string(payload)?)?,
            MessageType::Control
            | MessageType::Introduce
            | MessageType::Release
            | MessageType::Resume
            | MessageType::SetTarget => {
                return Err(Error::Access);
            }
            MessageType::WatchEvent | MessageType::Error => return Err(Error::NoSystemCall),
        }
        // Requests that return nothing.
        Ok(to.extend(OK)?)
    }

    /// The key of the node that a path names.
    ///
    /// # Errors
    /// [`Error::Invalid`]: not a valid path. [`Error::Access`]: not one of the domain's nodes.
    fn key_of<'a>(&self, path: &'a [u8]) -> Result<&'a [u8], Error> {
        path::resolve(&self.base_path, path)?.ok_or(Error::Access)
    }

    /// Parses the path of a watch. Nodes outside of the domain's tree may be watched, but never
    /// change as far as the domain can see.
    fn watched_path<'a>(&self, path: &'a [u8]) -> Result<WatchedPath<'a>, Error> {
        // Special watches, such as `@releaseDomain`.
        if path.starts_with(b"@") {
            return Ok(WatchedPath { path, key: None });
        }
        let key = path::resolve(&self.base_path, path)?;
        Ok(WatchedPath { path, key: key.map(|key| path.len() - key.len()) })
    }

    /// The open transaction with an id; `None` also for id 0.
    fn transaction(&mut self, id: u32) -> Option<&mut Transaction> {
        self.transactions.iter_mut().find(|transaction| id != 0 && transaction.id == id)
    }

    /// The tree that a request works on: a transaction's, or the domain's for id 0.
    ///
    /// # Errors
    /// [`Error::NoEntry`]: no such transaction.
    fn tree(&self, id: u32) -> Result<&Tree, Error> {
        if id == 0 {
            return Ok(&self.tree);
        }
        let found = self.transactions.iter().find(|transaction| transaction.id == id);
        found.map(|transaction| &transaction.tree).ok_or(Error::NoEntry)
    }

    /// Changes a node, in a transaction or at once, and queues the events. `change` returns `false`
    /// if nothing had to be changed.
    fn change(
        &mut self,
        id: u32,
        path: &[u8],
        removes: bool,
        change: impl FnOnce(&mut Tree, &[u8]) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let key = self.key_of(path)?;
        if let Some(transaction) = self.transaction(id) {
            if !transaction.changes.has_room(key) {
                return Err(Error::NoSpace);
            }
            if change(&mut transaction.tree, key)? {
                transaction.changes.add(key, removes)?;
            }
            return Ok(());
        }
        if removes {
            // Queue the events first: watches of nodes below are found only while the nodes exist.
            self.watches.queue_events(key, true, &self.tree)?;
            let done = change(&mut self.tree, key);
            if done != Ok(true) {
                self.watches.clear_events();
            }
            done?;
        } else if change(&mut self.tree, key)? {
            self.watches.queue_events(key, false, &self.tree)?;
        }
        Ok(())
    }

    fn set_permissions(&mut self, id: u32, payload: &[u8]) -> Result<(), Error> {
        let (path, permissions) = split_string(payload)?;
        let listed = permissions.strip_suffix(b"\0").ok_or(Error::Invalid)?;
        for (index, permission) in listed.split(|&byte| byte == 0).enumerate() {
            let [b'n' | b'r' | b'w' | b'b', domain @ ..] = permission else {
                return Err(Error::Invalid);
            };
            // The first permission names the owner.
            if parse_number(domain)? != u32::from(self.domain) && index == 0 {
                return Err(Error::NotPermitted);
            }
        }
        self.change(id, path, false, |tree, key| {
            tree.set_permissions(key, permissions).map(|()| true)
        })
    }

    /// Writes the generation of a node, then the names of its children from an offset on: as many
    /// complete ones as fit. An empty name ends the list.
    fn directory_part(&self, id: u32, payload: &[u8], to: &mut FixedVec<u8>) -> Result<(), Error> {
        let (path, offset) = parse_two_strings(payload)?;
        let key = self.key_of(path)?;
        let tree = self.tree(id)?;
        write!(to, "{}\0", tree.node_generation(key)?)?;
        let skip = parse_number(offset)? as usize;
        let (mut at, mut fits) = (0, true);
        for name in tree.children(key)?.chain([&b""[..]]) {
            // The offset may point into a name, or at its NUL.
            let begin = skip.saturating_sub(at).min(name.len() + 1);
            at += name.len() + 1;
            if at <= skip {
                continue;
            }
            fits &= name.len() + 1 - begin <= to.room();
            if fits {
                to.extend(&name[begin..])?;
                to.push(0)?;
            }
        }
        if skip > at { Err(Error::Invalid) } else { Ok(()) }
    }

    fn start_transaction(&mut self, within: u32, to: &mut FixedVec<u8>) -> Result<(), Error> {
        if within != 0 {
            return Err(Error::Busy);
        }
        let free = self.transactions.iter().position(|transaction| transaction.id == 0);
        let free = free.ok_or(Error::NoSpace)?;
        loop {
            self.last_transaction = self.last_transaction.wrapping_add(1).max(1);
            let id = self.last_transaction;
            if self.transaction(id).is_none() {
                let transaction = &mut self.transactions[free];
                transaction.id = id;
                transaction.tree.copy_from(&self.tree);
                transaction.start_generation = self.tree.generation;
                transaction.changes.clear();
                return Ok(write!(to, "{id}\0")?);
            }
        }
    }

    /// Commits (`T`) or aborts (`F`) a transaction.
    fn end_transaction(&mut self, id: u32, how: &[u8]) -> Result<(), Error> {
        let Store { tree, transactions, watches, .. } = self;
        let found = transactions.iter_mut().find(|transaction| id != 0 && transaction.id == id);
        let transaction = found.ok_or(Error::NoEntry)?;
        let commits = match how {
            b"T" => true,
            b"F" => false,
            _ => return Err(Error::Invalid),
        };
        transaction.id = 0;
        if commits && !transaction.changes.is_empty() {
            if transaction.start_generation != tree.generation {
                return Err(Error::Again);
            }
            core::mem::swap(tree, &mut transaction.tree);
            let before = &transaction.tree;
            watches.queue_all_events(&mut transaction.changes, before)?;
        }
        Ok(())
    }
}
