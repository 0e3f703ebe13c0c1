//! What each request does.

use crate::fixed::Fixed;
use crate::path::{self, Place};
use crate::quota::{PIECE_BYTES, TRANSACTIONS};
use crate::tree::{self, Tree};
use crate::watch::{self, Changes, Watched, Watches};
use crate::wire::{Error, HEADER, Header, kind};
use alloc::collections::TryReserveError;
use core::fmt::Write;

/// `DOMID_SELF`.
const SELF: u32 = 0x7ff0;
const OK: &[u8] = b"OK\0";
/// Bytes of the longest home.
const HOME: usize = b"/local/domain/65535".len();

/// Bytes of home's longest permissions before the guest sets others.
const PERMISSIONS: usize = b"n65535\0".len();

/// What a store takes of the heap.
pub(crate) const HEAP_BYTES: usize = HOME
    + PERMISSIONS
    + 2 * PIECE_BYTES
    + tree::HEAP_BYTES
    + watch::HEAP_BYTES
    + TRANSACTIONS * (tree::HEAP_BYTES + watch::CHANGES_HEAP_BYTES);

/// A transaction that isn't at its end, or room for one.
#[derive(Debug)]
struct Transaction {
    /// 0: none.
    id: u32,
    tree: Tree,
    /// Of the domain's tree when it began.
    began: u64,
    changes: Changes,
}

/// A domain's store.
#[derive(Debug)]
pub(crate) struct Store {
    domain: u16,
    home: Fixed<u8>,
    pub(crate) tree: Tree,
    watches: Watches,
    transactions: [Transaction; TRANSACTIONS],
    last_transaction: u32,
}

/// A reply is written to the message that it goes in.
type Reply = Result<(), Error>;

/// The one string that a payload must be.
fn one(payload: &[u8]) -> Result<&[u8], Error> {
    match payload.split_last() {
        Some((0, text)) if !text.contains(&0) => Ok(text),
        _ => Err(Error::Invalid),
    }
}

/// The two strings that a payload must begin with.
fn two(payload: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let (first, rest) = cut(payload)?;
    Ok((first, cut(rest)?.0))
}

/// A string, and what follows it.
fn cut(payload: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let end = payload.iter().position(|&byte| byte == 0).ok_or(Error::Invalid)?;
    Ok((&payload[..end], &payload[end + 1..]))
}

/// A decimal number.
fn number(text: &[u8]) -> Result<u32, Error> {
    let text = core::str::from_utf8(text).map_err(|_| Error::Invalid)?;
    text.parse().map_err(|_| Error::Invalid)
}

impl Transaction {
    fn empty() -> Result<Transaction, TryReserveError> {
        Ok(Transaction { id: 0, tree: Tree::empty()?, began: 0, changes: Changes::empty()? })
    }
}

impl Store {
    /// A store with an empty home.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(crate) fn new(domain: u16) -> Result<Store, TryReserveError> {
        let mut store = Store {
            domain,
            home: Fixed::with_capacity(HOME)?,
            tree: Tree::empty()?,
            watches: Watches::empty()?,
            transactions: [Transaction::empty()?, Transaction::empty()?],
            last_transaction: 0,
        };
        path::write_home(&mut store.home, domain).expect("the longest fits");
        let mut permissions = Fixed::with_capacity(PERMISSIONS)?;
        write!(permissions, "n{domain}\0").expect("the longest fit");
        store.tree.make_home(&permissions).expect("the first node fits");
        Ok(store)
    }

    /// Writes the next event that waits to an empty message; leaves it empty if there is none.
    pub(crate) fn tell(&mut self, to: &mut Fixed<u8>) {
        self.watches.tell(&self.home, to);
    }

    /// Writes the reply to a request to a message, whatever was in it.
    pub(crate) fn answer(&mut self, header: &Header, payload: &[u8], to: &mut Fixed<u8>) {
        to.clear();
        // The header is known last. A message has room for it, and for every error's name.
        to.extend(&[0; HEADER]).unwrap_or_default();
        let mut kind = header.kind;
        if let Err(error) = self.carry_out(header, payload, to) {
            to.truncate(HEADER);
            kind = kind::ERROR;
            to.extend(error.name().as_bytes()).unwrap_or_default();
            to.push(0).unwrap_or_default();
        }
        let length = (to.len() - HEADER) as u32;
        to[..HEADER].copy_from_slice(&Header { kind, length, ..*header }.to_bytes());
    }

    fn carry_out(&mut self, header: &Header, payload: &[u8], to: &mut Fixed<u8>) -> Reply {
        let id = header.transaction;
        self.tree(id)?;
        match header.kind {
            kind::DIRECTORY => {
                for name in self.tree(id)?.children(self.own(one(payload)?)?)? {
                    to.extend(name)?;
                    to.push(0)?;
                }
                return Ok(());
            }
            kind::DIRECTORY_PART => return self.directory_part(id, payload, to),
            kind::READ => return Ok(to.extend(self.tree(id)?.value(self.own(one(payload)?)?)?)?),
            kind::GET_PERMS => {
                return Ok(to.extend(self.tree(id)?.permissions(self.own(one(payload)?)?)?)?);
            }
            kind::TRANSACTION_START => return self.start(id, to),
            kind::GET_DOMAIN_PATH => {
                let asked = u16::try_from(number(one(payload)?)?).map_err(|_| Error::Invalid)?;
                let asked = if u32::from(asked) == SELF { self.domain } else { asked };
                path::write_home(to, asked)?;
                return Ok(to.push(0)?);
            }
            kind::IS_DOMAIN_INTRODUCED => {
                let asked = number(one(payload)?)?;
                // The store itself stands for domain 0; of others a domain is told nothing.
                let known = asked == SELF || asked == 0 || asked == u32::from(self.domain);
                return Ok(to.extend(if known { b"T\0" } else { b"F\0" })?);
            }
            kind::WRITE => {
                let (path, value) = cut(payload)?;
                self.change(id, path, false, |tree, key| tree.write(key, value).map(|()| true))?;
            }
            kind::MKDIR => {
                self.change(id, one(payload)?, false, |tree, key| tree.make_directory(key))?;
            }
            kind::RM => self.change(id, one(payload)?, true, |tree, key| tree.remove(key))?,
            kind::SET_PERMS => self.set_permissions(id, payload)?,
            kind::WATCH => {
                let (path, token) = two(payload)?;
                let watched = self.watched(path)?;
                self.watches.add(watched, token)?;
            }
            kind::UNWATCH => {
                let (path, token) = two(payload)?;
                let watched = self.watched(path)?;
                self.watches.remove(watched, token)?;
            }
            kind::RESET_WATCHES => {
                self.watches.clear();
                self.transactions.iter_mut().for_each(|transaction| transaction.id = 0);
            }
            kind::TRANSACTION_END => self.end(id, one(payload)?)?,
            kind::CONTROL | kind::INTRODUCE | kind::RELEASE | kind::RESUME | kind::SET_TARGET => {
                return Err(Error::Access);
            }
            _ => return Err(Error::NoSystemCall),
        }
        // What only does something answers so.
        Ok(to.extend(OK)?)
    }

    /// The node of the domain's that a path names.
    fn own<'a>(&self, path: &'a [u8]) -> Result<&'a [u8], Error> {
        match path::find(&self.home, path)? {
            Place::Own(key) => Ok(key),
            Place::Outside => Err(Error::Access),
        }
    }

    /// What a watch is for: others' nodes may be watched, but nothing that the domain may see
    /// happens to them.
    fn watched<'a>(&self, path: &'a [u8]) -> Result<Watched<'a>, Error> {
        if path.starts_with(b"@") {
            return Ok(Watched { path, key: None });
        }
        let key = match path::find(&self.home, path)? {
            Place::Own(key) => Some(path.len() - key.len()),
            Place::Outside => None,
        };
        Ok(Watched { path, key })
    }

    /// A transaction that isn't at its end; 0 names none.
    fn transaction(&mut self, id: u32) -> Option<&mut Transaction> {
        self.transactions.iter_mut().find(|transaction| id != 0 && transaction.id == id)
    }

    /// The tree that a request sees.
    fn tree(&self, id: u32) -> Result<&Tree, Error> {
        if id == 0 {
            return Ok(&self.tree);
        }
        let found = self.transactions.iter().find(|transaction| transaction.id == id);
        found.map(|transaction| &transaction.tree).ok_or(Error::NoEntry)
    }

    /// Changes a node, in a transaction or at once; `false` from `change`: it was so already.
    fn change(
        &mut self,
        id: u32,
        path: &[u8],
        removes: bool,
        change: impl FnOnce(&mut Tree, &[u8]) -> Result<bool, Error>,
    ) -> Reply {
        let key = self.own(path)?;
        if let Some(transaction) = self.transaction(id) {
            if !transaction.changes.has_room(key) {
                return Err(Error::NoSpace);
            }
            if change(&mut transaction.tree, key)? {
                transaction.changes.note(key, removes)?;
            }
            return Ok(());
        }
        if removes {
            // Who watches what goes is told: found while it is there, forgotten if it stays.
            self.watches.fire_one(key, true, &self.tree)?;
            let done = change(&mut self.tree, key);
            if done != Ok(true) {
                self.watches.forget_events();
            }
            done?;
        } else if change(&mut self.tree, key)? {
            self.watches.fire_one(key, false, &self.tree)?;
        }
        Ok(())
    }

    fn set_permissions(&mut self, id: u32, payload: &[u8]) -> Reply {
        let (path, permissions) = cut(payload)?;
        let listed = permissions.strip_suffix(b"\0").ok_or(Error::Invalid)?;
        for (index, permission) in listed.split(|&byte| byte == 0).enumerate() {
            let [b'n' | b'r' | b'w' | b'b', domain @ ..] = permission else {
                return Err(Error::Invalid);
            };
            // The first names the owner.
            if number(domain)? != u32::from(self.domain) && index == 0 {
                return Err(Error::NotPermitted);
            }
        }
        self.change(id, path, false, |tree, key| {
            tree.set_permissions(key, permissions).map(|()| true)
        })
    }

    /// Writes the names of a node's children from an offset on, as many whole ones as fit. An empty
    /// name ends the list.
    fn directory_part(&self, id: u32, payload: &[u8], to: &mut Fixed<u8>) -> Reply {
        let (path, offset) = two(payload)?;
        let key = self.own(path)?;
        let tree = self.tree(id)?;
        write!(to, "{}\0", tree.node_generation(key)?)?;
        let skip = number(offset)? as usize;
        let (mut at, mut fits) = (0, true);
        for name in tree.children(key)?.chain([&b""[..]]) {
            // The offset may be in the middle of a name, or at its NUL.
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

    fn start(&mut self, within: u32, to: &mut Fixed<u8>) -> Reply {
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
                transaction.began = self.tree.generation;
                transaction.changes.clear();
                return Ok(write!(to, "{id}\0")?);
            }
        }
    }

    fn end(&mut self, id: u32, how: &[u8]) -> Reply {
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
            if transaction.began != tree.generation {
                return Err(Error::Again);
            }
            core::mem::swap(tree, &mut transaction.tree);
            let before = &transaction.tree;
            watches.fire_all(&mut transaction.changes, before)?;
        }
        Ok(())
    }
}
