//! A small ring that wraps often, with guests that keep to the protocol and guests that don't.

use crate::*;
use proptest::prelude::*;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::vec;
use std::vec::Vec;

const SIZE: usize = 16;

/// A ring in memory.
struct Shared {
    bytes: [AtomicU8; SIZE],
    consumed: AtomicU32,
    produced: AtomicU32,
}

impl Shared {
    /// Empty, with both indices at a place.
    fn at(index: u32) -> Shared {
        Shared::with(index, index)
    }

    fn with(consumed: u32, produced: u32) -> Shared {
        Shared {
            bytes: core::array::from_fn(|place| AtomicU8::new(place as u8)),
            consumed: AtomicU32::new(consumed),
            produced: AtomicU32::new(produced),
        }
    }

    fn reader(&self) -> Reader<'_, SIZE> {
        Reader::new(&self.bytes, &self.consumed, &self.produced)
    }

    fn writer(&self) -> Writer<'_, SIZE> {
        Writer::new(&self.bytes, &self.consumed, &self.produced)
    }

    fn indices(&self) -> (u32, u32) {
        (self.consumed.load(Ordering::SeqCst), self.produced.load(Ordering::SeqCst))
    }

    fn drained(&self) -> Result<Vec<u8>, InvalidIndices> {
        let mut all = Vec::new();
        let (count, left) = self.reader().drain(|bytes| {
            all.extend_from_slice(bytes);
            bytes.len()
        })?;
        assert_eq!((count, left), (all.len(), false));
        Ok(all)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<u8>),
    Read(usize),
    Drain,
    DrainSome(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2 * SIZE).prop_map(Step::Write),
        (0..2 * SIZE).prop_map(Step::Read),
        Just(Step::Drain),
        (0..2 * SIZE).prop_map(Step::DrainSome),
    ]
}

proptest! {
    /// Every byte is read once and in order, and no more is written than fits.
    #[test]
    fn a_ring_is_a_bounded_queue(
        start in prop_oneof![any::<u32>(), Just(u32::MAX - 3), Just(0)],
        steps in prop::collection::vec(step(), 0..64),
    ) {
        let shared = Shared::at(start);
        let mut model: VecDeque<u8> = VecDeque::new();
        for step in steps {
            match step {
                Step::Write(bytes) => {
                    let put = shared.writer().write(&bytes).unwrap();
                    prop_assert_eq!(put, bytes.len().min(SIZE - model.len()));
                    model.extend(&bytes[..put]);
                }
                Step::Read(room) => {
                    let mut to = vec![0xee; room];
                    let got = shared.reader().read(&mut to).unwrap();
                    prop_assert_eq!(got, room.min(model.len()));
                    let expected: Vec<u8> = model.drain(..got).collect();
                    prop_assert_eq!(&to[..got], &expected[..]);
                    prop_assert!(to[got..].iter().all(|&byte| byte == 0xee));
                }
                Step::DrainSome(most) => {
                    let mut taken = Vec::new();
                    let (count, left) = shared.reader().drain(|bytes| {
                        let now = bytes.len().min(most - taken.len());
                        taken.extend_from_slice(&bytes[..now]);
                        now
                    }).unwrap();
                    prop_assert_eq!(count, most.min(model.len()));
                    let expected: Vec<u8> = model.drain(..count).collect();
                    prop_assert_eq!(taken, expected);
                    prop_assert_eq!(left, !model.is_empty());
                }
                Step::Drain => {
                    let expected: Vec<u8> = model.drain(..).collect();
                    prop_assert_eq!(shared.drained().unwrap(), expected);
                }
            }
            let (consumed, produced) = shared.indices();
            prop_assert_eq!(produced.wrapping_sub(consumed) as usize, model.len());
        }
    }

    /// With any two indices the bytes between them are read, or the indices are refused and the
    /// ring works again.
    #[test]
    fn invalid_indices_are_refused_and_empty_the_ring(consumed: u32, distance in prop_oneof![any::<u32>(), 0..40u32]) {
        let produced = consumed.wrapping_add(distance);
        let shared = Shared::with(consumed, produced);
        let is_invalid = distance as usize > SIZE;
        match shared.drained() {
            Ok(bytes) => {
                prop_assert!(!is_invalid);
                let expected: Vec<u8> =
                    (0..distance).map(|i| (consumed.wrapping_add(i) % 16) as u8).collect();
                prop_assert_eq!(bytes, expected);
            }
            Err(invalid) => {
                prop_assert!(is_invalid);
                prop_assert_eq!(invalid, InvalidIndices { consumed, produced });
            }
        }
        prop_assert_eq!(shared.indices(), (produced, produced), "the guest's index is not touched");

        let shared = Shared::with(consumed, produced);
        match shared.writer().write(&[7; 3 * SIZE]) {
            Ok(put) => {
                prop_assert!(!is_invalid);
                prop_assert_eq!(put, SIZE - distance as usize);
                prop_assert_eq!(shared.indices(), (consumed, consumed.wrapping_add(SIZE as u32)));
            }
            Err(invalid) => {
                prop_assert!(is_invalid);
                prop_assert_eq!(invalid, InvalidIndices { consumed, produced });
                prop_assert_eq!(shared.indices(), (consumed, consumed));
            }
        }
        shared.drained().unwrap();
        prop_assert_eq!(shared.writer().write(b"again"), Ok(5));
        prop_assert_eq!(shared.drained().unwrap(), b"again".to_vec());
    }
}

/// A guest that overwrites both indices during the calls: each call ends, and reads or writes at
/// most one ring's length.
#[test]
fn calls_stay_bounded_while_the_guest_overwrites_indices() {
    let shared = Shared::at(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
            while !done.load(Ordering::Relaxed) {
                let index = random.next_u32();
                // Often a valid pair: at most 31 bytes apart.
                let distance = random.next_u32() % 32;
                shared.produced.store(index, Ordering::Relaxed);
                shared.consumed.store(index.wrapping_sub(distance), Ordering::Relaxed);
            }
        });
        for _ in 0..if cfg!(miri) { 100 } else { 20_000 } {
            let _ = shared.drained().map(|bytes| assert!(bytes.len() <= SIZE));
            let _ = shared.writer().write(&[1; 64]).map(|put| assert!(put <= SIZE));
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// The memory orderings, as far as x86 can show a missing one.
#[test]
fn another_thread_reads_every_byte_once_and_in_order() {
    const BYTES: usize = if cfg!(miri) { 500 } else { 200_000 };
    let shared = Shared::at(u32::MAX - 100);
    let value = |place: usize| (place % 251) as u8;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sent = 0;
            while sent < BYTES {
                let piece: Vec<u8> = (sent..BYTES.min(sent + 11)).map(value).collect();
                sent += shared.writer().write(&piece).unwrap();
                std::thread::yield_now();
            }
        });
        let mut got = 0;
        while got < BYTES {
            shared
                .reader()
                .drain(|bytes| {
                    for &byte in bytes {
                        assert_eq!(byte, value(got));
                        got += 1;
                    }
                    bytes.len()
                })
                .unwrap();
            std::thread::yield_now();
        }
    });
}

#[test]
fn pages_have_a_ring_in_each_direction() {
    let page = ConsolePage::new();
    assert_eq!(page.input().write(&[1; 2000]), Ok(1024));
    assert_eq!(page.output().read(&mut [0; 16]), Ok(0));
    let page = StorePage::new();
    assert_eq!(page.replies().write(&[1; 2000]), Ok(1024));
    assert_eq!(page.requests().read(&mut [0; 16]), Ok(0));
}
