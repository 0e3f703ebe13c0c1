//! A small ring, so that it wraps often; and a guest that keeps to the protocol, or doesn't.

use crate::*;
use proptest::prelude::*;
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

    fn drained(&self) -> Result<Vec<u8>, Garbled> {
        let mut all = Vec::new();
        let count = self.reader().drain(|bytes| all.extend_from_slice(bytes))?;
        assert_eq!(count, all.len());
        Ok(all)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<u8>),
    Read(usize),
    Drain,
    DrainWhile(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2 * SIZE).prop_map(Step::Write),
        (0..2 * SIZE).prop_map(Step::Read),
        Just(Step::Drain),
        (0..2 * SIZE).prop_map(Step::DrainWhile),
    ]
}

proptest! {
    /// Whatever is written comes out once and in order, and no more goes in than fits.
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
                Step::DrainWhile(most) => {
                    let mut taken = Vec::new();
                    let (count, stayed) = shared.reader().drain_while(|bytes| {
                        let now = bytes.len().min(most - taken.len());
                        taken.extend_from_slice(&bytes[..now]);
                        now
                    }).unwrap();
                    prop_assert_eq!(count, most.min(model.len()));
                    let expected: Vec<u8> = model.drain(..count).collect();
                    prop_assert_eq!(taken, expected);
                    prop_assert_eq!(stayed, !model.is_empty());
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

    /// Any two numbers in place of the indices: what comes out is what lies between them, or they
    /// are refused and the ring works again.
    #[test]
    fn any_indices_are_survived(consumed: u32, distance in prop_oneof![any::<u32>(), 0..40u32]) {
        let produced = consumed.wrapping_add(distance);
        let shared = Shared::with(consumed, produced);
        let lie = distance as usize > SIZE;
        match shared.drained() {
            Ok(bytes) => {
                prop_assert!(!lie);
                let expected: Vec<u8> =
                    (0..distance).map(|i| (consumed.wrapping_add(i) % 16) as u8).collect();
                prop_assert_eq!(bytes, expected);
            }
            Err(garbled) => {
                prop_assert!(lie);
                prop_assert_eq!(garbled, Garbled { consumed, produced });
            }
        }
        prop_assert_eq!(shared.indices(), (produced, produced), "the guest's index is not touched");

        let shared = Shared::with(consumed, produced);
        match shared.writer().write(&[7; 3 * SIZE]) {
            Ok(put) => {
                prop_assert!(!lie);
                prop_assert_eq!(put, SIZE - distance as usize);
                prop_assert_eq!(shared.indices(), (consumed, consumed.wrapping_add(SIZE as u32)));
            }
            Err(garbled) => {
                prop_assert!(lie);
                prop_assert_eq!(garbled, Garbled { consumed, produced });
                prop_assert_eq!(shared.indices(), (consumed, consumed));
            }
        }
        shared.drained().unwrap();
        prop_assert_eq!(shared.writer().write(b"again"), Ok(5));
        prop_assert_eq!(shared.drained().unwrap(), b"again".to_vec());
    }
}

/// A guest that scribbles over both indices while we work: each call ends, and takes or gives no
/// more than a ring's worth.
#[test]
fn scribbling_guests_get_bounded_calls() {
    let shared = Shared::at(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut noise = 1u32;
            while !done.load(Ordering::Relaxed) {
                noise = noise.wrapping_mul(0x9e37_79b1).wrapping_add(12345);
                shared.produced.store(noise >> 7, Ordering::Relaxed);
                shared.consumed.store(noise >> 7 ^ noise >> 28, Ordering::Relaxed);
            }
        });
        for _ in 0..20_000 {
            let _ = shared.drained().map(|bytes| assert!(bytes.len() <= SIZE));
            let _ = shared.writer().write(&[1; 64]).map(|put| assert!(put <= SIZE));
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// The orderings, as far as this machine can show: two threads, every byte once and in order.
#[test]
fn bytes_cross_threads_in_order() {
    const BYTES: usize = 200_000;
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
                })
                .unwrap();
            std::thread::yield_now();
        }
    });
}

#[test]
fn the_console_page_has_both_directions() {
    let page = ConsolePage::new();
    assert_eq!(page.to_guest().write(&[1; 2000]), Ok(1024));
    assert_eq!(page.from_guest().drain(|_| panic!("nothing was printed")), Ok(0));
    let page = StorePage::new();
    assert_eq!(page.to_guest().write(&[1; 2000]), Ok(1024));
    assert_eq!(page.from_guest().read(&mut [0; 16]), Ok(0));
}
