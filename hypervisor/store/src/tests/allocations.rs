//! A store asks for memory when it is made, and never again; what it has, it can use to the last
//! byte, whatever was done with it before.
//!
//! The allocator of this test refuses everything while a request is served: a store that asks for
//! memory then ends the test, as it would end the machine.

use crate::wire::{HEADER, Header, MAX_PAYLOAD, kind};
use crate::{Connection, quota};
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
    /// How many more allocations of this thread succeed.
    static ALLOWED: Cell<u64> = const { Cell::new(u64::MAX) };
    /// Bytes that this thread has, of what it allocated and freed.
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

struct Limited;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

// SAFETY: memory comes from the system's allocator, or not at all, which an allocator may say.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(left) = ALLOWED.get().checked_sub(1) else { return std::ptr::null_mut() };
        if ALLOWED.get() != u64::MAX {
            ALLOWED.set(left);
        }
        LIVE.set(LIVE.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promise is the system allocator's precondition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().wrapping_sub(layout.size()));
        // SAFETY: it came from `alloc`, which has it from the system.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Does something while so many allocations succeed.
fn with_allocations<T>(allowed: u64, act: impl FnOnce() -> T) -> T {
    ALLOWED.set(allowed);
    let result = act();
    ALLOWED.set(u64::MAX);
    result
}

/// A guest that serves itself of a store. Its own buffers have their room from the beginning, too.
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

    /// Sends a request, and hears everything that comes of it; `true` for anything but an error.
    fn ask(&mut self, kind: u32, transaction: u32, payload: &[&[u8]]) -> bool {
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
                let (now, later) = rest.split_at(store.wanted().min(rest.len()));
                assert!(!now.is_empty());
                store.take(now);
                rest = later;
            }
            // The reply comes first, and in one piece; events may follow.
            reply.extend_from_slice(store.output());
            while !store.output().is_empty() {
                let count = store.output().len();
                store.sent(count);
            }
        });
        let header = Header::read(self.reply.first_chunk().unwrap());
        assert_eq!(self.reply.len(), HEADER + header.length as usize);
        assert!(header.kind == kind || header.kind == kind::ERROR);
        header.kind == kind
    }

    fn start(&mut self) -> Option<u32> {
        self.ask(kind::TRANSACTION_START, 0, &[b"\0"]).then(|| {
            let digits = self.reply[HEADER..].strip_suffix(b"\0").unwrap();
            std::str::from_utf8(digits).unwrap().parse().unwrap()
        })
    }

    /// Writes as many nodes with values of a size as there is room for; says how many.
    fn fill(&mut self, transaction: u32, size: usize) -> usize {
        let value = vec![b'x'; size];
        let mut path = Vec::with_capacity(64);
        for number in 0.. {
            path.clear();
            write!(path, "f/{number}\0").unwrap();
            if !self.ask(kind::WRITE, transaction, &[&path, &value]) {
                return number;
            }
        }
        unreachable!("the quotas have an end")
    }

    /// What there is room for: nodes, big values, watches.
    fn measure(&mut self) -> [usize; 5] {
        let small = self.fill(0, 0);
        assert!(self.ask(kind::RM, 0, &[b"f\0"]));
        let big = self.fill(0, quota::VALUE_BYTES);
        // Copies of all that in transactions, and all they can note.
        let id = self.start().unwrap();
        let other = self.start().unwrap();
        assert!(self.ask(kind::RM, id, &[b"f\0"]));
        let noted = self.fill(id, 8);
        assert!(self.ask(kind::TRANSACTION_END, other, &[b"F\0"]));
        let token = [b't'; 60];
        let watches = (0..=u8::MAX)
            .take_while(|number| {
                self.ask(kind::WATCH, 0, &[b"f\0", &[b'a' + number], &token, b"\0"])
            })
            .count();
        assert!(self.ask(kind::TRANSACTION_END, id, &[b"T\0"]));
        let after = self.fill(0, 100);
        [small, big, noted, watches, after]
    }
}

#[test]
fn a_store_takes_no_more_than_it_says() {
    let before = LIVE.get();
    let store = Connection::new(3).unwrap();
    let taken = LIVE.get().wrapping_sub(before);
    assert!(taken <= quota::HEAP_BYTES, "{taken} of {}", quota::HEAP_BYTES);
    // It is no idle promise either.
    assert!(taken > quota::HEAP_BYTES * 9 / 10);
    drop(store);
    assert_eq!(LIVE.get(), before);
}

#[test]
fn without_memory_there_is_no_store_and_no_panic() {
    let before = LIVE.get();
    let needed = (0..100).find(|&allowed| with_allocations(allowed, || Connection::new(3).is_ok()));
    assert!(needed.is_some_and(|needed| needed > 5));
    assert_eq!(LIVE.get(), before);
}

/// The classic attack on an allocator: fill everything with small pieces, keep one here and there,
/// and ask for bigger ones. What a new store has room for, there is room for after each round.
#[test]
fn whatever_came_before_the_whole_quota_is_there() {
    let fresh = Guest::new().measure();
    let mut guest = Guest::new();
    for round in 0..12usize {
        // Sizes grow, the survivors of each size stay until the end of the round.
        for (step, size) in [0, 16, 48, 100, 200, 400, 900, quota::VALUE_BYTES].iter().enumerate() {
            let count = guest.fill(0, *size);
            let path = |number: usize| format!("f/{number}\0");
            for number in (0..count).filter(|number| number % (step + 3) != round % (step + 3)) {
                assert!(guest.ask(kind::RM, 0, &[path(number).as_bytes()]));
            }
            for number in 0..round {
                // Long permissions, and longer ones.
                let permissions = "n3\0".to_owned() + &"r77\0".repeat(number * 7 + step);
                let path = path(number * 3);
                guest.ask(kind::SET_PERMS, 0, &[path.as_bytes(), permissions.as_bytes()]);
                guest.ask(kind::WATCH, 0, &[path.as_bytes(), &path.as_bytes()[..3], b"\0"]);
                if number % 2 == 0 {
                    guest.ask(kind::UNWATCH, 0, &[path.as_bytes(), &path.as_bytes()[..3], b"\0"]);
                }
            }
        }
        assert!(guest.ask(kind::RESET_WATCHES, 0, &[b"\0"]));
        assert!(guest.ask(kind::RM, 0, &[b"f\0"]));
        assert_eq!(guest.measure(), fresh, "after round {round}");
        assert!(guest.ask(kind::RESET_WATCHES, 0, &[b"\0"]));
        assert!(guest.ask(kind::RM, 0, &[b"f\0"]));
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
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// No request asks for memory, whatever it says.
    #[test]
    fn any_request_is_served_without_the_allocator(
        requests in prop::collection::vec((0u32..24, 0u32..4, payload(), any::<bool>()), 0..300)
    ) {
        let mut guest = Guest::new();
        for (kind, transaction, payload, ends) in requests {
            guest.ask(kind, transaction, &[&payload, if ends { b"\0" } else { b"" }]);
        }
    }
}
