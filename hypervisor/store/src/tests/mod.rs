//! The protocol from the guest's side.

mod allocations;
mod fixed;

use crate::connection::Connection;
use crate::quota;
use crate::wire::{HEADER, Header, MAX_PAYLOAD, kind};
use proptest::prelude::*;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// A guest with its connection.
struct Guest(Connection);

/// A message: type, transaction, payload.
type Message = (u32, u32, Vec<u8>);

/// A request's bytes.
fn message(kind: u32, transaction: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header { kind, request: 9, transaction, length: payload.len() as u32 };
    [&header.to_bytes(), payload].concat()
}

impl Guest {
    fn new() -> Guest {
        Guest(Connection::new(3).unwrap())
    }

    /// Everything that waits.
    fn hear(&mut self) -> Vec<Message> {
        let mut bytes = Vec::new();
        while !self.0.output().is_empty() {
            let now = self.0.output().len().min(7);
            bytes.extend_from_slice(&self.0.output()[..now]);
            self.0.sent(now);
        }
        let mut messages = Vec::new();
        let mut rest = &bytes[..];
        while let Some((head, more)) = rest.split_first_chunk::<HEADER>() {
            let header = Header::read(head);
            let (payload, more) = more.split_at(header.length as usize);
            messages.push((header.kind, header.transaction, payload.to_vec()));
            rest = more;
        }
        assert!(rest.is_empty());
        messages
    }

    fn say_in(&mut self, transaction: u32, kind: u32, payload: &[u8]) -> Vec<Message> {
        let bytes = message(kind, transaction, payload);
        // Byte by byte, as rings may bring it.
        for byte in bytes {
            assert_ne!(self.0.wanted(), 0);
            self.0.take(&[byte]);
        }
        self.0.check();
        self.hear()
    }

    /// The reply alone; errors by their names.
    fn ask_in(&mut self, transaction: u32, kind: u32, payload: &[u8]) -> Result<String, String> {
        let messages = self.say_in(transaction, kind, payload);
        let (got, _, bytes) = &messages[0];
        let text = String::from_utf8(bytes.clone()).unwrap();
        if *got == kind::ERROR {
            return Err(text.trim_end_matches('\0').into());
        }
        assert_eq!(*got, kind);
        Ok(text)
    }

    fn ask(&mut self, kind: u32, payload: &[u8]) -> Result<String, String> {
        self.ask_in(0, kind, payload)
    }

    /// Events that a request caused, as path and token.
    fn events(&mut self, kind: u32, payload: &[u8]) -> Vec<String> {
        let messages = self.say_in(0, kind, payload);
        assert_ne!(messages[0].0, kind::ERROR);
        assert!(messages[1..].iter().all(|message| message.0 == kind::WATCH_EVENT));
        messages[1..].iter().map(|m| String::from_utf8(m.2.clone()).unwrap()).collect()
    }
}

fn refused(name: &str) -> Result<String, String> {
    Err(name.into())
}

fn said(text: &str) -> Result<String, String> {
    Ok(text.into())
}

#[test]
fn what_is_written_is_read_by_either_path() {
    let mut guest = Guest::new();
    assert_eq!(guest.ask(kind::WRITE, b"a/b\0value"), said("OK\0"));
    assert_eq!(guest.ask(kind::READ, b"a/b\0"), said("value"));
    assert_eq!(guest.ask(kind::READ, b"/local/domain/3/a/b\0"), said("value"));
    assert_eq!(guest.ask(kind::READ, b"a\0"), said(""));
    assert_eq!(guest.ask(kind::READ, b"a/c\0"), refused("ENOENT"));
    assert_eq!(guest.ask(kind::GET_PERMS, b"a/b\0"), said("n3\0"));
    assert_eq!(guest.ask(kind::WRITE, b"a-z\0"), said("OK\0"));
    assert_eq!(guest.ask(kind::MKDIR, b"a/d\0"), said("OK\0"));
    assert_eq!(guest.ask(kind::DIRECTORY, b"/local/domain/3\0"), said("a\0a-z\0"));
    assert_eq!(guest.ask(kind::DIRECTORY, b"a\0"), said("b\0d\0"));
    assert_eq!(guest.ask(kind::DIRECTORY, b"a/b\0"), said(""));
}

#[test]
fn what_is_outside_is_denied() {
    let mut guest = Guest::new();
    for path in [&b"/\0"[..], b"/local/domain/4\0", b"/local/domain/33/x\0", b"/vm\0"] {
        for kind in [kind::READ, kind::DIRECTORY, kind::MKDIR, kind::RM, kind::GET_PERMS] {
            assert_eq!(guest.ask(kind, path), refused("EACCES"));
        }
    }
    for privileged in [kind::CONTROL, kind::INTRODUCE, kind::RELEASE, kind::RESUME] {
        assert_eq!(guest.ask(privileged, b"1\0"), refused("EACCES"));
    }
    assert_eq!(guest.ask(99, b""), refused("ENOSYS"));
    assert_eq!(guest.ask(kind::WATCH_EVENT, b""), refused("ENOSYS"));
}

#[test]
fn odd_paths_are_invalid() {
    let mut guest = Guest::new();
    for path in [&b"\0"[..], b"a", b"a//b\0", b"a/\0", b"a b\0", b"a\0b\0", b"\xff\0"] {
        assert_eq!(guest.ask(kind::READ, path), refused("EINVAL"), "{path:?}");
    }
    let long = [vec![b'a'; quota::RELATIVE_PATH + 1], vec![0]].concat();
    assert_eq!(guest.ask(kind::READ, &long), refused("EINVAL"));
}

#[test]
fn removing_takes_all_below() {
    let mut guest = Guest::new();
    guest.ask(kind::WRITE, b"a/b/c\0x").unwrap();
    guest.ask(kind::WRITE, b"a-b\0x").unwrap();
    assert_eq!(guest.ask(kind::RM, b"a\0"), said("OK\0"));
    assert_eq!(guest.ask(kind::READ, b"a/b/c\0"), refused("ENOENT"));
    assert_eq!(guest.ask(kind::READ, b"a-b\0"), said("x"));
    // Not there, but its parent is; not even that.
    assert_eq!(guest.ask(kind::RM, b"a\0"), said("OK\0"));
    assert_eq!(guest.ask(kind::RM, b"a/b\0"), refused("ENOENT"));
    assert_eq!(guest.ask(kind::RM, b"/local/domain/3\0"), refused("EACCES"));
}

#[test]
fn watches_fire_at_once_and_for_what_is_below() {
    let mut guest = Guest::new();
    assert_eq!(guest.events(kind::WATCH, b"a\0t\0"), ["a\0t\0"]);
    assert_eq!(guest.ask(kind::WATCH, b"/local/domain/3/a\0t\0"), refused("EEXIST"));
    let home = "/local/domain/3";
    assert_eq!(guest.events(kind::WATCH, b"/local/domain/3\0h\0").len(), 1);
    assert_eq!(guest.events(kind::WATCH, b"@releaseDomain\0r\0"), ["@releaseDomain\0r\0"]);
    let told = [String::from("a/b\0t\0"), std::format!("{home}/a/b\0h\0")];
    assert_eq!(guest.events(kind::WRITE, b"a/b\0x"), told);
    assert_eq!(guest.events(kind::WRITE, b"ab\0x"), [std::format!("{home}/ab\0h\0")]);
    assert_eq!(guest.events(kind::SET_PERMS, b"a/b\0n3\0r0\0"), told);
    assert_eq!(guest.ask(kind::GET_PERMS, b"a/b\0"), said("n3\0r0\0"));
    assert!(guest.events(kind::MKDIR, b"a/b\0").is_empty());
    assert_eq!(guest.ask(kind::UNWATCH, b"a\0t\0"), said("OK\0"));
    assert_eq!(guest.ask(kind::UNWATCH, b"a\0t\0"), refused("ENOENT"));
    assert_eq!(guest.events(kind::WRITE, b"a/b\0x"), [std::format!("{home}/a/b\0h\0")]);
    assert_eq!(guest.ask(kind::RESET_WATCHES, b"\0"), said("OK\0"));
    assert!(guest.events(kind::WRITE, b"a/b\0x").is_empty());
}

#[test]
fn who_watches_below_hears_of_a_removal_from_above() {
    let mut guest = Guest::new();
    guest.ask(kind::WRITE, b"a/b\0x").unwrap();
    guest.ask(kind::WATCH, b"a/b\0t\0").unwrap();
    guest.ask(kind::WATCH, b"a/c\0u\0").unwrap();
    assert_eq!(guest.events(kind::RM, b"a\0"), ["a/b\0t\0"]);
    // There was nothing to remove.
    assert!(guest.events(kind::RM, b"a\0").is_empty());
}

#[test]
fn transactions_are_isolated() {
    let mut guest = Guest::new();
    guest.ask(kind::WATCH, b"a\0t\0").unwrap();
    let start = |guest: &mut Guest| -> u32 {
        let id = guest.ask(kind::TRANSACTION_START, b"\0").unwrap();
        id.trim_end_matches('\0').parse().unwrap()
    };
    let first = start(&mut guest);
    let second = start(&mut guest);
    assert_eq!(guest.ask(kind::TRANSACTION_START, b"\0"), refused("ENOSPC"));
    assert_eq!(guest.ask_in(first, kind::TRANSACTION_START, b"\0"), refused("EBUSY"));
    for id in [first, second] {
        assert_eq!(guest.say_in(id, kind::WRITE, b"a\0x").len(), 1);
    }
    assert_eq!(guest.ask(kind::READ, b"a\0"), refused("ENOENT"));
    assert_eq!(guest.ask_in(first, kind::READ, b"a\0"), said("x"));
    assert_eq!(guest.say_in(first, kind::TRANSACTION_END, b"T\0").len(), 2);
    assert_eq!(guest.ask(kind::READ, b"a\0"), said("x"));
    assert_eq!(guest.ask_in(second, kind::TRANSACTION_END, b"T\0"), refused("EAGAIN"));
    assert_eq!(guest.ask_in(second, kind::READ, b"a\0"), refused("ENOENT"));
    let third = start(&mut guest);
    guest.ask_in(third, kind::RM, b"a\0").unwrap();
    assert_eq!(guest.ask_in(third, kind::TRANSACTION_END, b"F\0"), said("OK\0"));
    assert_eq!(guest.ask(kind::READ, b"a\0"), said("x"));
    assert_eq!(guest.ask(kind::TRANSACTION_END, b"T\0"), refused("ENOENT"));
}

#[test]
fn a_long_directory_comes_in_parts() {
    let mut guest = Guest::new();
    for number in 0..80 {
        let path = std::format!("d/{number:0>60}\0");
        guest.ask(kind::WRITE, path.as_bytes()).unwrap();
    }
    assert_eq!(guest.ask(kind::DIRECTORY, b"d\0"), refused("E2BIG"));
    let mut list = String::new();
    while !list.ends_with("\0\0") {
        let part = std::format!("d\0{}\0", list.len());
        let reply = guest.ask(kind::DIRECTORY_PART, part.as_bytes()).unwrap();
        list.push_str(reply.split_once('\0').unwrap().1);
    }
    assert_eq!(list.split_terminator('\0').filter(|name| name.len() == 60).count(), 80);
    assert_eq!(guest.ask(kind::DIRECTORY_PART, b"d\099999\0"), refused("EINVAL"));
}

#[test]
fn quotas_end_what_would_grow() {
    let mut guest = Guest::new();
    let fill = |guest: &mut Guest, kind, payload: &dyn Fn(usize) -> Vec<u8>| {
        (0..10_000).find_map(|number| guest.ask(kind, &payload(number)).err().map(|e| (number, e)))
    };
    let nodes = fill(&mut guest, kind::MKDIR, &|n| std::format!("n/{n}\0").into_bytes());
    assert_eq!(nodes, Some((quota::NODES - 2, "ENOSPC".into())));
    let big = [&b"n/1\0"[..], &vec![b'x'; quota::VALUE_BYTES]].concat();
    guest.ask(kind::WRITE, &big).unwrap();
    assert_eq!(guest.ask(kind::WRITE, &[&big[..], b"x"].concat()), refused("ENOSPC"));
    let bytes = fill(&mut guest, kind::WRITE, &|n| {
        [std::format!("n/{n}\0").as_bytes(), &big[4..]].concat()
    });
    assert_eq!(bytes.unwrap().1, "ENOSPC");
    let watches = fill(&mut guest, kind::WATCH, &|n| std::format!("n\0{n}\0").into_bytes());
    assert_eq!(watches, Some((quota::WATCHES, "E2BIG".into())));
    // All of it can be given back, and had again.
    guest.ask(kind::RM, b"n\0").unwrap();
    guest.ask(kind::RESET_WATCHES, b"\0").unwrap();
    let nodes = fill(&mut guest, kind::MKDIR, &|n| std::format!("n/{n}\0").into_bytes());
    assert_eq!(nodes, Some((quota::NODES - 2, "ENOSPC".into())));
}

#[test]
fn nothing_is_taken_while_something_waits() {
    let mut guest = Guest::new();
    guest.ask(kind::WATCH, b"a\0t\0").unwrap();
    let bytes = message(kind::WRITE, 0, b"a\0b");
    guest.0.take(&bytes[..HEADER]);
    guest.0.take(&bytes[HEADER..]);
    assert_eq!(guest.0.wanted(), 0);
    let reply = guest.0.output().len();
    guest.0.sent(reply);
    // The event.
    assert_eq!(guest.0.wanted(), 0);
    assert_eq!(guest.hear().len(), 1);
    assert_eq!(guest.0.wanted(), HEADER);
}

#[test]
fn a_header_that_cannot_be_ends_the_connection() {
    let mut guest = Guest::new();
    let mut bytes = [0; HEADER];
    bytes[12..].copy_from_slice(&(MAX_PAYLOAD as u32 + 1).to_le_bytes());
    guest.0.take(&bytes);
    assert!(guest.0.is_broken());
    assert_eq!(guest.0.wanted(), 0);
    guest.0.take(&bytes);
    assert!(guest.0.output().is_empty());
}

#[test]
fn domains_are_named_but_not_told_of() {
    let mut guest = Guest::new();
    assert_eq!(guest.ask(kind::GET_DOMAIN_PATH, b"7\0"), said("/local/domain/7\0"));
    assert_eq!(guest.ask(kind::GET_DOMAIN_PATH, b"x\0"), refused("EINVAL"));
    for (domain, known) in
        [(&b"3\0"[..], "T\0"), (b"0\0", "T\0"), (b"32752\0", "T\0"), (b"4\0", "F\0")]
    {
        assert_eq!(guest.ask(kind::IS_DOMAIN_INTRODUCED, domain), said(known));
    }
    guest.ask(kind::MKDIR, b"a\0").unwrap();
    assert_eq!(guest.ask(kind::SET_PERMS, b"a\0n4\0"), refused("EPERM"));
    assert_eq!(guest.ask(kind::SET_PERMS, b"a\0x3\0"), refused("EINVAL"));
    assert_eq!(guest.ask(kind::SET_PERMS, b"a\0"), refused("EINVAL"));
}

const WORDS: &[&str] =
    &["a", "/", "\0", "b", "1", "T", "n3", "@", "/local/domain/3/", "/local/domain/3"];

/// Words that make requests which mean something.
fn words() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => prop::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..600),
    ];
    prop::collection::vec(word, 0..8).prop_map(|words| {
        let mut payload = words.concat();
        payload.truncate(MAX_PAYLOAD);
        payload
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every request gets one reply, whatever it says, and the quotas hold.
    #[test]
    fn requests_of_all_kinds(requests in prop::collection::vec((0u32..24, 0u32..4, words(), any::<bool>()), 0..200)) {
        let mut guest = Guest::new();
        for (kind, transaction, payload, ends) in requests {
            let payload = if ends { [&payload[..payload.len().min(4000)], b"\0"].concat() } else { payload };
            let messages = guest.say_in(transaction, kind, &payload);
            prop_assert!(messages[0].0 == kind || messages[0].0 == kind::ERROR);
            prop_assert_eq!(messages[0].1, transaction);
            prop_assert!(messages[1..].iter().all(|message| message.0 == kind::WATCH_EVENT));
        }
    }

    /// Bytes without any sense are survived.
    #[test]
    fn arbitrary_bytes(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..64)) {
        let mut guest = Guest::new();
        for piece in pieces {
            guest.0.take(&piece);
            guest.0.check();
            guest.hear();
        }
    }
}
