//! The protocol as a guest uses it.

use crate::connection::Connection;
use crate::quota;
use crate::wire::{HEADER, Header, MAX_PAYLOAD, MessageType};
use proptest::prelude::*;
use std::string::String;
use std::vec;
use std::vec::Vec;

/// A guest with its connection.
struct Guest(Connection);

/// A message: type, transaction, payload.
type Message = (u32, u32, Vec<u8>);

/// A request's bytes.
fn message(kind: impl Into<u32>, transaction: u32, payload: &[u8]) -> Vec<u8> {
    let header =
        Header { kind: kind.into(), request: 9, transaction, length: payload.len() as u32 };
    [&header.to_bytes(), payload].concat()
}

impl Guest {
    fn new() -> Guest {
        Guest(Connection::new(3).unwrap())
    }

    /// Receives all queued messages.
    fn receive_all(&mut self) -> Vec<Message> {
        let mut bytes = Vec::new();
        while !self.0.output().is_empty() {
            let now = self.0.output().len().min(7);
            bytes.extend_from_slice(&self.0.output()[..now]);
            self.0.consume_output(now);
        }
        let mut messages = Vec::new();
        let mut rest = &bytes[..];
        while let Some((head, more)) = rest.split_first_chunk::<HEADER>() {
            let header = Header::from_bytes(head);
            let (payload, more) = more.split_at(header.length as usize);
            messages.push((header.kind, header.transaction, payload.to_vec()));
            rest = more;
        }
        assert!(rest.is_empty());
        messages
    }

    /// Sends a request and receives its reply and events.
    fn exchange(&mut self, transaction: u32, kind: impl Into<u32>, payload: &[u8]) -> Vec<Message> {
        let bytes = message(kind, transaction, payload);
        // Byte by byte, as a ring may deliver it.
        for byte in bytes {
            assert_ne!(self.0.bytes_wanted(), 0);
            self.0.receive(&[byte]);
        }
        self.0.check();
        self.receive_all()
    }

    /// The payload of the reply, or the name of the error.
    fn ask_in(
        &mut self,
        transaction: u32,
        kind: impl Into<u32>,
        payload: &[u8],
    ) -> Result<String, String> {
        let kind = kind.into();
        let messages = self.exchange(transaction, kind, payload);
        let (got, _, bytes) = &messages[0];
        let text = String::from_utf8(bytes.clone()).unwrap();
        if *got == MessageType::Error as u32 {
            return Err(text.trim_end_matches('\0').into());
        }
        assert_eq!(*got, kind);
        Ok(text)
    }

    fn ask(&mut self, kind: impl Into<u32>, payload: &[u8]) -> Result<String, String> {
        self.ask_in(0, kind, payload)
    }

    /// The events that a request causes, as path and token.
    fn events(&mut self, kind: impl Into<u32>, payload: &[u8]) -> Vec<String> {
        let messages = self.exchange(0, kind, payload);
        assert_ne!(messages[0].0, MessageType::Error as u32);
        assert!(messages[1..].iter().all(|message| message.0 == MessageType::WatchEvent as u32));
        messages[1..].iter().map(|m| String::from_utf8(m.2.clone()).unwrap()).collect()
    }
}

fn error(name: &str) -> Result<String, String> {
    Err(name.into())
}

fn reply(text: &str) -> Result<String, String> {
    Ok(text.into())
}

#[test]
fn a_value_is_read_by_relative_and_absolute_path() {
    let mut guest = Guest::new();
    assert_eq!(guest.ask(MessageType::Write, b"a/b\0value"), reply("OK\0"));
    assert_eq!(guest.ask(MessageType::Read, b"a/b\0"), reply("value"));
    assert_eq!(guest.ask(MessageType::Read, b"/local/domain/3/a/b\0"), reply("value"));
    assert_eq!(guest.ask(MessageType::Read, b"a\0"), reply(""));
    assert_eq!(guest.ask(MessageType::Read, b"a/c\0"), error("ENOENT"));
    assert_eq!(guest.ask(MessageType::GetPerms, b"a/b\0"), reply("n3\0"));
    assert_eq!(guest.ask(MessageType::Write, b"a-z\0"), reply("OK\0"));
    assert_eq!(guest.ask(MessageType::Mkdir, b"a/d\0"), reply("OK\0"));
    assert_eq!(guest.ask(MessageType::Directory, b"/local/domain/3\0"), reply("a\0a-z\0"));
    assert_eq!(guest.ask(MessageType::Directory, b"a\0"), reply("b\0d\0"));
    assert_eq!(guest.ask(MessageType::Directory, b"a/b\0"), reply(""));
}

#[test]
fn paths_of_other_domains_are_denied() {
    let mut guest = Guest::new();
    for path in [&b"/\0"[..], b"/local/domain/4\0", b"/local/domain/33/x\0", b"/vm\0"] {
        for kind in [
            MessageType::Read,
            MessageType::Directory,
            MessageType::Mkdir,
            MessageType::Rm,
            MessageType::GetPerms,
        ] {
            assert_eq!(guest.ask(kind, path), error("EACCES"));
        }
    }
    for privileged in
        [MessageType::Control, MessageType::Introduce, MessageType::Release, MessageType::Resume]
    {
        assert_eq!(guest.ask(privileged, b"1\0"), error("EACCES"));
    }
    assert_eq!(guest.ask(99u32, b""), error("ENOSYS"));
    assert_eq!(guest.ask(MessageType::WatchEvent, b""), error("ENOSYS"));
}

#[test]
fn malformed_paths_are_invalid() {
    let mut guest = Guest::new();
    for path in [&b"\0"[..], b"a", b"a//b\0", b"a/\0", b"a b\0", b"a\0b\0", b"\xff\0"] {
        assert_eq!(guest.ask(MessageType::Read, path), error("EINVAL"), "{path:?}");
    }
    let long = [vec![b'a'; quota::RELATIVE_PATH + 1], vec![0]].concat();
    assert_eq!(guest.ask(MessageType::Read, &long), error("EINVAL"));
}

#[test]
fn removing_a_node_removes_its_subtree() {
    let mut guest = Guest::new();
    guest.ask(MessageType::Write, b"a/b/c\0x").unwrap();
    guest.ask(MessageType::Write, b"a-b\0x").unwrap();
    assert_eq!(guest.ask(MessageType::Rm, b"a\0"), reply("OK\0"));
    assert_eq!(guest.ask(MessageType::Read, b"a/b/c\0"), error("ENOENT"));
    assert_eq!(guest.ask(MessageType::Read, b"a-b\0"), reply("x"));
    // The parent exists; then it doesn't.
    assert_eq!(guest.ask(MessageType::Rm, b"a\0"), reply("OK\0"));
    assert_eq!(guest.ask(MessageType::Rm, b"a/b\0"), error("ENOENT"));
    assert_eq!(guest.ask(MessageType::Rm, b"/local/domain/3\0"), error("EACCES"));
}

#[test]
fn a_watch_fires_when_added_and_for_changes_below() {
    let mut guest = Guest::new();
    assert_eq!(guest.events(MessageType::Watch, b"a\0t\0"), ["a\0t\0"]);
    assert_eq!(guest.ask(MessageType::Watch, b"/local/domain/3/a\0t\0"), error("EEXIST"));
    let base = "/local/domain/3";
    assert_eq!(guest.events(MessageType::Watch, b"/local/domain/3\0h\0").len(), 1);
    assert_eq!(guest.events(MessageType::Watch, b"@releaseDomain\0r\0"), ["@releaseDomain\0r\0"]);
    let events = [String::from("a/b\0t\0"), std::format!("{base}/a/b\0h\0")];
    assert_eq!(guest.events(MessageType::Write, b"a/b\0x"), events);
    assert_eq!(guest.events(MessageType::Write, b"ab\0x"), [std::format!("{base}/ab\0h\0")]);
    assert_eq!(guest.events(MessageType::SetPerms, b"a/b\0n3\0r0\0"), events);
    assert_eq!(guest.ask(MessageType::GetPerms, b"a/b\0"), reply("n3\0r0\0"));
    assert!(guest.events(MessageType::Mkdir, b"a/b\0").is_empty());
    assert_eq!(guest.ask(MessageType::Unwatch, b"a\0t\0"), reply("OK\0"));
    assert_eq!(guest.ask(MessageType::Unwatch, b"a\0t\0"), error("ENOENT"));
    assert_eq!(guest.events(MessageType::Write, b"a/b\0x"), [std::format!("{base}/a/b\0h\0")]);
    assert_eq!(guest.ask(MessageType::ResetWatches, b"\0"), reply("OK\0"));
    assert!(guest.events(MessageType::Write, b"a/b\0x").is_empty());
}

#[test]
fn removing_an_ancestor_fires_watches_of_nodes_below() {
    let mut guest = Guest::new();
    guest.ask(MessageType::Write, b"a/b\0x").unwrap();
    guest.ask(MessageType::Watch, b"a/b\0t\0").unwrap();
    guest.ask(MessageType::Watch, b"a/c\0u\0").unwrap();
    assert_eq!(guest.events(MessageType::Rm, b"a\0"), ["a/b\0t\0"]);
    // There is nothing left to remove.
    assert!(guest.events(MessageType::Rm, b"a\0").is_empty());
}

#[test]
fn transactions_are_isolated() {
    let mut guest = Guest::new();
    guest.ask(MessageType::Watch, b"a\0t\0").unwrap();
    let start = |guest: &mut Guest| -> u32 {
        let id = guest.ask(MessageType::TransactionStart, b"\0").unwrap();
        id.trim_end_matches('\0').parse().unwrap()
    };
    let first = start(&mut guest);
    let second = start(&mut guest);
    assert_eq!(guest.ask(MessageType::TransactionStart, b"\0"), error("ENOSPC"));
    assert_eq!(guest.ask_in(first, MessageType::TransactionStart, b"\0"), error("EBUSY"));
    for id in [first, second] {
        assert_eq!(guest.exchange(id, MessageType::Write, b"a\0x").len(), 1);
    }
    assert_eq!(guest.ask(MessageType::Read, b"a\0"), error("ENOENT"));
    assert_eq!(guest.ask_in(first, MessageType::Read, b"a\0"), reply("x"));
    assert_eq!(guest.exchange(first, MessageType::TransactionEnd, b"T\0").len(), 2);
    assert_eq!(guest.ask(MessageType::Read, b"a\0"), reply("x"));
    assert_eq!(guest.ask_in(second, MessageType::TransactionEnd, b"T\0"), error("EAGAIN"));
    assert_eq!(guest.ask_in(second, MessageType::Read, b"a\0"), error("ENOENT"));
    let third = start(&mut guest);
    guest.ask_in(third, MessageType::Rm, b"a\0").unwrap();
    assert_eq!(guest.ask_in(third, MessageType::TransactionEnd, b"F\0"), reply("OK\0"));
    assert_eq!(guest.ask(MessageType::Read, b"a\0"), reply("x"));
    assert_eq!(guest.ask(MessageType::TransactionEnd, b"T\0"), error("ENOENT"));
}

#[test]
fn a_long_directory_is_read_in_parts() {
    let mut guest = Guest::new();
    for number in 0..80 {
        let path = std::format!("d/{number:0>60}\0");
        guest.ask(MessageType::Write, path.as_bytes()).unwrap();
    }
    assert_eq!(guest.ask(MessageType::Directory, b"d\0"), error("E2BIG"));
    let mut list = String::new();
    while !list.ends_with("\0\0") {
        let part = std::format!("d\0{}\0", list.len());
        let reply = guest.ask(MessageType::DirectoryPart, part.as_bytes()).unwrap();
        list.push_str(reply.split_once('\0').unwrap().1);
    }
    assert_eq!(list.split_terminator('\0').filter(|name| name.len() == 60).count(), 80);
    assert_eq!(guest.ask(MessageType::DirectoryPart, b"d\099999\0"), error("EINVAL"));
}

#[test]
fn quotas_limit_nodes_bytes_and_watches() {
    let mut guest = Guest::new();
    let fill = |guest: &mut Guest, kind: MessageType, payload: &dyn Fn(usize) -> Vec<u8>| {
        (0..10_000).find_map(|number| guest.ask(kind, &payload(number)).err().map(|e| (number, e)))
    };
    let nodes = fill(&mut guest, MessageType::Mkdir, &|n| std::format!("n/{n}\0").into_bytes());
    assert_eq!(nodes, Some((quota::NODES - 2, "ENOSPC".into())));
    let big = [&b"n/1\0"[..], &vec![b'x'; quota::VALUE_BYTES]].concat();
    guest.ask(MessageType::Write, &big).unwrap();
    assert_eq!(guest.ask(MessageType::Write, &[&big[..], b"x"].concat()), error("ENOSPC"));
    let bytes = fill(&mut guest, MessageType::Write, &|n| {
        [std::format!("n/{n}\0").as_bytes(), &big[4..]].concat()
    });
    assert_eq!(bytes.unwrap().1, "ENOSPC");
    let watches = fill(&mut guest, MessageType::Watch, &|n| std::format!("n\0{n}\0").into_bytes());
    assert_eq!(watches, Some((quota::WATCHES, "E2BIG".into())));
    // What is removed can be used again.
    guest.ask(MessageType::Rm, b"n\0").unwrap();
    guest.ask(MessageType::ResetWatches, b"\0").unwrap();
    let nodes = fill(&mut guest, MessageType::Mkdir, &|n| std::format!("n/{n}\0").into_bytes());
    assert_eq!(nodes, Some((quota::NODES - 2, "ENOSPC".into())));
}

#[test]
fn no_request_is_read_while_output_is_queued() {
    let mut guest = Guest::new();
    guest.ask(MessageType::Watch, b"a\0t\0").unwrap();
    let bytes = message(MessageType::Write, 0, b"a\0b");
    guest.0.receive(&bytes[..HEADER]);
    guest.0.receive(&bytes[HEADER..]);
    assert_eq!(guest.0.bytes_wanted(), 0);
    let reply = guest.0.output().len();
    guest.0.consume_output(reply);
    // The event.
    assert_eq!(guest.0.bytes_wanted(), 0);
    assert_eq!(guest.receive_all().len(), 1);
    assert_eq!(guest.0.bytes_wanted(), HEADER);
}

#[test]
fn a_too_long_message_breaks_the_connection() {
    let mut guest = Guest::new();
    let mut bytes = [0; HEADER];
    bytes[12..].copy_from_slice(&(MAX_PAYLOAD as u32 + 1).to_le_bytes());
    guest.0.receive(&bytes);
    assert!(guest.0.is_broken());
    assert_eq!(guest.0.bytes_wanted(), 0);
    guest.0.receive(&bytes);
    assert!(guest.0.output().is_empty());
}

#[test]
fn other_domains_have_paths_but_are_not_introduced() {
    let mut guest = Guest::new();
    assert_eq!(guest.ask(MessageType::GetDomainPath, b"7\0"), reply("/local/domain/7\0"));
    assert_eq!(guest.ask(MessageType::GetDomainPath, b"x\0"), error("EINVAL"));
    for (domain, known) in
        [(&b"3\0"[..], "T\0"), (b"0\0", "T\0"), (b"32752\0", "T\0"), (b"4\0", "F\0")]
    {
        assert_eq!(guest.ask(MessageType::IsDomainIntroduced, domain), reply(known));
    }
    guest.ask(MessageType::Mkdir, b"a\0").unwrap();
    assert_eq!(guest.ask(MessageType::SetPerms, b"a\0n4\0"), error("EPERM"));
    assert_eq!(guest.ask(MessageType::SetPerms, b"a\0x3\0"), error("EINVAL"));
    assert_eq!(guest.ask(MessageType::SetPerms, b"a\0"), error("EINVAL"));
}

const WORDS: &[&str] =
    &["a", "/", "\0", "b", "1", "T", "n3", "@", "/local/domain/3/", "/local/domain/3"];

/// Words that often make valid payloads.
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
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 200 }))]

    /// Every request gets one reply, whatever its payload, and the quotas hold.
    #[test]
    fn every_request_gets_one_reply(requests in prop::collection::vec((0u32..24, 0u32..4, words(), any::<bool>()), 0..200)) {
        let mut guest = Guest::new();
        for (kind, transaction, payload, ends) in requests {
            let payload = if ends { [&payload[..payload.len().min(4000)], b"\0"].concat() } else { payload };
            let messages = guest.exchange(transaction, kind, &payload);
            prop_assert!(messages[0].0 == kind || messages[0].0 == MessageType::Error as u32);
            prop_assert_eq!(messages[0].1, transaction);
            prop_assert!(messages[1..].iter().all(|message| message.0 == MessageType::WatchEvent as u32));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..64)) {
        let mut guest = Guest::new();
        for piece in pieces {
            guest.0.receive(&piece);
            guest.0.check();
            guest.receive_all();
        }
    }
}
