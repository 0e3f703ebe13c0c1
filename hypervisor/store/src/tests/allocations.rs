//! A store allocates memory only when it is created, and can use its quotas completely whatever was
//! done with it before.
//!
//! The allocator of these tests refuses all requests of a thread while that thread handles a
//! request: a store that allocates then ends the test, as it would end the machine.
#![expect(unsafe_code, reason = "an allocator that counts")]

use crate::wire::{HEADER, Header, MAX_PAYLOAD, MessageType};
use crate::{Connection, HEAP_BYTES, quota};
use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::ToOwned;
use std::cell::Cell;
use std::format;
use std::io::Write;
use std::thread_local;
use std::vec;
use std::vec::Vec;

thread_local! {
    /// Number of further allocations of this thread that succeed.
    static ALLOWED: Cell<u64> = const { Cell::new(u64::MAX) };
    /// Bytes allocated minus bytes freed by this thread.
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

struct Limited;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

// SAFETY: all memory is the system allocator's; returning null is allowed at any time.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(left) = ALLOWED.get().checked_sub(1) else { return std::ptr::null_mut() };
        if ALLOWED.get() != u64::MAX {
            ALLOWED.set(left);
        }
        LIVE.set(LIVE.get().wrapping_add(layout.size()));
        // SAFETY: the caller keeps the precondition, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().wrapping_sub(layout.size()));
        // SAFETY: `memory` came from `alloc`, so from the system allocator.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Runs `act` while only `allowed` allocations succeed.
fn with_allocations<T>(allowed: u64, act: impl FnOnce() -> T) -> T {
    ALLOWED.set(allowed);
    let result = act();
    ALLOWED.set(u64::MAX);
    result
}

/// A guest and its store. Its buffers have their capacity from the beginning, too.
struct Guest {
    store: Connection,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Guest {
    fn new() -> Guest {
        let buffer = || Vec::with_capacity(2 * (HEADER + MAX_PAYLOAD));
        Guest { store: Connection::new(3).unwrap(), request: buffer(), reply: buffer() }
    }

    /// Sends a request and receives its reply and events. `false`: the reply is an error.
    fn ask(&mut self, kind: impl Into<u32>, transaction: u32, payload: &[&[u8]]) -> bool {
        let kind = kind.into();
        let length = payload.iter().map(|part| part.len()).sum::<usize>() as u32;
        let header = Header { kind, request: 1, transaction, length };
        self.request.clear();
        self.request.extend_from_slice(&header.to_bytes());
        payload.iter().for_each(|part| self.request.extend_from_slice(part));
        self.reply.clear();
        let Guest { store, request, reply } = self;
        with_allocations(0, || {
            let mut rest = &request[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(store.bytes_wanted().min(rest.len()));
                assert!(!now.is_empty());
                store.receive(now);
                rest = later;
            }
            // The reply comes first; events may follow.
            reply.extend_from_slice(store.output());
            while !store.output().is_empty() {
                let count = store.output().len();
                store.consume_output(count);
            }
        });
        let header = Header::from_bytes(self.reply.first_chunk().unwrap());
        assert_eq!(self.reply.len(), HEADER + header.length as usize);
        assert!(header.kind == kind || header.kind == MessageType::Error as u32);
        header.kind == kind
    }

    fn start(&mut self) -> Option<u32> {
        self.ask(MessageType::TransactionStart, 0, &[b"\0"]).then(|| {
            let digits = self.reply[HEADER..].strip_suffix(b"\0").unwrap();
            std::str::from_utf8(digits).unwrap().parse().unwrap()
        })
    }

    /// Creates nodes with values of `size` bytes until a quota is used up. Returns how many.
    fn fill(&mut self, transaction: u32, size: usize) -> usize {
        let value = vec![b'x'; size];
        let mut path = Vec::with_capacity(64);
        for number in 0.. {
            path.clear();
            write!(path, "f/{number}\0").unwrap();
            if !self.ask(MessageType::Write, transaction, &[&path, &value]) {
                return number;
            }
        }
        unreachable!("the quotas have an end")
    }

    /// How many nodes, large values, changes in a transaction and watches the quotas allow.
    fn measure(&mut self) -> [usize; 5] {
        let small = self.fill(0, 0);
        assert!(self.ask(MessageType::Rm, 0, &[b"f\0"]));
        let big = self.fill(0, quota::VALUE_BYTES);
        // Two transactions with copies of all that, and as many changes as fit.
        let id = self.start().unwrap();
        let other = self.start().unwrap();
        assert!(self.ask(MessageType::Rm, id, &[b"f\0"]));
        let noted = self.fill(id, 8);
        assert!(self.ask(MessageType::TransactionEnd, other, &[b"F\0"]));
        let token = [b't'; 60];
        let watches = (0..=u8::MAX)
            .take_while(|number| {
                self.ask(MessageType::Watch, 0, &[b"f\0", &[b'a' + number], &token, b"\0"])
            })
            .count();
        assert!(self.ask(MessageType::TransactionEnd, id, &[b"T\0"]));
        let after = self.fill(0, 100);
        [small, big, noted, watches, after]
    }
}

#[test]
fn a_store_uses_no_more_heap_than_documented() {
    let before = LIVE.get();
    let store = Connection::new(3).unwrap();
    let taken = LIVE.get().wrapping_sub(before);
    assert!(taken <= HEAP_BYTES, "{taken} of {HEAP_BYTES}");
    // And the bound is tight.
    assert!(taken > HEAP_BYTES * 9 / 10);
    drop(store);
    assert_eq!(LIVE.get(), before);
}

#[test]
fn creating_a_store_without_memory_is_an_error() {
    let before = LIVE.get();
    let needed = (0..100).find(|&allowed| with_allocations(allowed, || Connection::new(3).is_ok()));
    assert!(needed.is_some_and(|needed| needed > 5));
    assert_eq!(LIVE.get(), before);
}

/// Fills everything with small items, keeps a few, and asks for larger ones, as one would attack an
/// allocator. After each round there is as much room as in a new store.
#[test]
fn the_quotas_stay_usable_after_fragmenting_requests() {
    let fresh = Guest::new().measure();
    let mut guest = Guest::new();
    for round in 0..if cfg!(miri) { 1 } else { 12usize } {
        // Values get larger; the nodes that are kept stay until the end of the round.
        for (step, size) in [0, 16, 48, 100, 200, 400, 900, quota::VALUE_BYTES].iter().enumerate() {
            let count = guest.fill(0, *size);
            let path = |number: usize| format!("f/{number}\0");
            for number in (0..count).filter(|number| number % (step + 3) != round % (step + 3)) {
                assert!(guest.ask(MessageType::Rm, 0, &[path(number).as_bytes()]));
            }
            for number in 0..round {
                // Permissions that get longer.
                let permissions = "n3\0".to_owned() + &"r77\0".repeat(number * 7 + step);
                let path = path(number * 3);
                guest.ask(MessageType::SetPerms, 0, &[path.as_bytes(), permissions.as_bytes()]);
                guest.ask(MessageType::Watch, 0, &[path.as_bytes(), &path.as_bytes()[..3], b"\0"]);
                if number % 2 == 0 {
                    guest.ask(
                        MessageType::Unwatch,
                        0,
                        &[path.as_bytes(), &path.as_bytes()[..3], b"\0"],
                    );
                }
            }
        }
        assert!(guest.ask(MessageType::ResetWatches, 0, &[b"\0"]));
        assert!(guest.ask(MessageType::Rm, 0, &[b"f\0"]));
        assert_eq!(guest.measure(), fresh, "after round {round}");
        assert!(guest.ask(MessageType::ResetWatches, 0, &[b"\0"]));
        assert!(guest.ask(MessageType::Rm, 0, &[b"f\0"]));
    }
}

const WORDS: &[&str] =
    &["a", "/", "\0", "b", "1", "2", "T\0", "F\0", "n3\0", "@", "/local/domain/3/", "a/b\0", "f"];

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        6 => prop::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..900),
    ];
    prop::collection::vec(word, 0..8).prop_map(|words| {
        let mut payload = words.concat();
        payload.truncate(MAX_PAYLOAD - 1);
        payload
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 100 }))]

    #[test]
    fn no_request_allocates_memory(
        requests in prop::collection::vec((0u32..24, 0u32..4, payload(), any::<bool>()), 0..300)
    ) {
        let mut guest = Guest::new();
        for (kind, transaction, payload, ends) in requests {
            guest.ask(kind, transaction, &[&payload, if ends { b"\0" } else { b"" }]);
        }
    }
}
