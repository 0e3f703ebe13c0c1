//! What each request does.

use crate::path::{self, Place};
use crate::quota::TRANSACTIONS;
use crate::tree::Tree;
use crate::watch::{Changes, Watches};
use crate::wire::{Error, Header, MAX_PAYLOAD, kind};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// `DOMID_SELF`.
const SELF: u32 = 0x7ff0;
const OK: &[u8] = b"OK\0";

/// A transaction that isn't at its end.
#[derive(Debug)]
struct Transaction {
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
    pub(crate) home: String,
    pub(crate) tree: Tree,
    pub(crate) watches: Watches,
    transactions: Vec<Transaction>,
    last_transaction: u32,
}

/// A reply's bytes.
type Reply = Result<Vec<u8>, Error>;

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

impl Store {
    pub(crate) fn new(domain: u16) -> Store {
        let permissions = format!("n{domain}\0");
        Store {
            domain,
            home: path::home(domain),
            tree: Tree::new(permissions.as_bytes()),
            watches: Watches::default(),
            transactions: Vec::new(),
            last_transaction: 0,
        }
    }

    /// Answers a request: the type and the bytes of the reply.
    pub(crate) fn answer(&mut self, header: &Header, payload: &[u8]) -> (u32, Vec<u8>) {
        match self.carry_out(header, payload) {
            Ok(reply) if reply.len() <= MAX_PAYLOAD => (header.kind, reply),
            Ok(_) => failed(Error::TooBig),
            Err(error) => failed(error),
        }
    }

    fn carry_out(&mut self, header: &Header, payload: &[u8]) -> Reply {
        let id = header.transaction;
        if id != 0 && !self.transactions.iter().any(|transaction| transaction.id == id) {
            return Err(Error::NoEntry);
        }
        match header.kind {
            kind::DIRECTORY => self.tree(id)?.children(self.own(one(payload)?)?),
            kind::DIRECTORY_PART => self.directory_part(id, payload),
            kind::READ => Ok(self.tree(id)?.value(self.own(one(payload)?)?)?.to_vec()),
            kind::GET_PERMS => Ok(self.tree(id)?.permissions(self.own(one(payload)?)?)?.to_vec()),
            kind::WRITE => {
                let (path, value) = cut(payload)?;
                self.change(id, path, false, |tree, key| tree.write(key, value).map(|()| true))
            }
            kind::MKDIR => {
                self.change(id, one(payload)?, false, |tree, key| tree.make_directory(key))
            }
            kind::RM => self.change(id, one(payload)?, true, |tree, key| tree.remove(key)),
            kind::SET_PERMS => self.set_permissions(id, payload),
            kind::WATCH => {
                let (path, token) = two(payload)?;
                let key = self.watched(path)?;
                self.watches.add(path, key, token)?;
                Ok(OK.to_vec())
            }
            kind::UNWATCH => {
                let (path, token) = two(payload)?;
                let key = self.watched(path)?;
                self.watches.remove(path, key, token)?;
                Ok(OK.to_vec())
            }
            kind::RESET_WATCHES => {
                self.watches.clear();
                self.transactions.clear();
                Ok(OK.to_vec())
            }
            kind::TRANSACTION_START => self.start(id),
            kind::TRANSACTION_END => self.end(id, one(payload)?),
            kind::GET_DOMAIN_PATH => {
                let asked = u16::try_from(number(one(payload)?)?).map_err(|_| Error::Invalid)?;
                let asked = if u32::from(asked) == SELF { self.domain } else { asked };
                Ok(format!("{}\0", path::home(asked)).into_bytes())
            }
            kind::IS_DOMAIN_INTRODUCED => {
                let asked = number(one(payload)?)?;
                // The store itself stands for domain 0; of others a domain is told nothing.
                let known = asked == SELF || asked == 0 || asked == u32::from(self.domain);
                Ok(if known { b"T\0" } else { b"F\0" }.to_vec())
            }
            kind::CONTROL | kind::INTRODUCE | kind::RELEASE | kind::RESUME | kind::SET_TARGET => {
                Err(Error::Access)
            }
            _ => Err(Error::NoSystemCall),
        }
    }

    /// The node of the domain's that a path names.
    fn own<'a>(&self, path: &'a [u8]) -> Result<&'a [u8], Error> {
        match path::find(&self.home, path)? {
            Place::Own(key) => Ok(key),
            Place::Outside => Err(Error::Access),
        }
    }

    /// The node of the domain's that a watch is for, if it is one: others may be watched, but
    /// nothing that the domain may see happens to them.
    fn watched<'a>(&self, path: &'a [u8]) -> Result<Option<&'a [u8]>, Error> {
        if path.starts_with(b"@") {
            return Ok(None);
        }
        Ok(match path::find(&self.home, path)? {
            Place::Own(key) => Some(key),
            Place::Outside => None,
        })
    }

    fn transaction(&mut self, id: u32) -> Option<&mut Transaction> {
        self.transactions.iter_mut().find(|transaction| transaction.id == id)
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
                transaction.changes.note(key, removes);
            }
            return Ok(OK.to_vec());
        }
        let mut changes = Changes::default();
        changes.note(key, removes);
        if removes {
            // Who watches what goes is told: found while it is there, forgotten if it stays.
            self.watches.fire(changes, &self.tree);
            let done = change(&mut self.tree, key);
            if done != Ok(true) {
                self.watches.forget_events();
            }
            done?;
        } else if change(&mut self.tree, key)? {
            self.watches.fire(changes, &self.tree);
        }
        Ok(OK.to_vec())
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

    fn directory_part(&self, id: u32, payload: &[u8]) -> Reply {
        let (path, offset) = two(payload)?;
        let key = self.own(path)?;
        let tree = self.tree(id)?;
        let (mut names, skip) = (tree.children(key)?, number(offset)? as usize);
        let mut reply = format!("{}\0", tree.node_generation(key)?).into_bytes();
        // An empty name ends the list.
        names.push(0);
        let rest = names.get(skip..).ok_or(Error::Invalid)?;
        let room = MAX_PAYLOAD - reply.len();
        let whole = match rest.get(..room) {
            // Whole names only.
            Some(fits) => &fits[..fits.iter().rposition(|&byte| byte == 0).map_or(0, |at| at + 1)],
            None => rest,
        };
        reply.extend_from_slice(whole);
        Ok(reply)
    }

    fn start(&mut self, within: u32) -> Reply {
        if within != 0 {
            return Err(Error::Busy);
        }
        if self.transactions.len() >= TRANSACTIONS {
            return Err(Error::NoSpace);
        }
        loop {
            self.last_transaction = self.last_transaction.wrapping_add(1).max(1);
            let id = self.last_transaction;
            if self.transaction(id).is_none() {
                self.transactions.push(Transaction {
                    id,
                    tree: self.tree.clone(),
                    began: self.tree.generation,
                    changes: Changes::default(),
                });
                return Ok(format!("{id}\0").into_bytes());
            }
        }
    }

    fn end(&mut self, id: u32, how: &[u8]) -> Reply {
        let index = self.transactions.iter().position(|transaction| transaction.id == id);
        let index = index.ok_or(Error::NoEntry)?;
        let commits = match how {
            b"T" => true,
            b"F" => false,
            _ => return Err(Error::Invalid),
        };
        let transaction = self.transactions.swap_remove(index);
        if commits && !transaction.changes.list.is_empty() {
            if transaction.began != self.tree.generation {
                return Err(Error::Again);
            }
            let before = core::mem::replace(&mut self.tree, transaction.tree);
            self.watches.fire(transaction.changes, &before);
        }
        Ok(OK.to_vec())
    }
}

fn failed(error: Error) -> (u32, Vec<u8>) {
    (kind::ERROR, format!("{}\0", error.name()).into_bytes())
}
