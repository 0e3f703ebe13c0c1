//! The bitmap of free frames, against a plain set.

use crate::bitmap::FrameBitmap;
use pinfold_validator::Mfn;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

const FRAMES: u64 = 1024;

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(u32),
    TakeThis(u64),
    Add(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0u32..9).prop_map(Step::Take),
        1 => (0..FRAMES + 100).prop_map(Step::TakeThis),
        5 => (0..FRAMES).prop_map(Step::Add),
    ];
    proptest::collection::vec(step, 1..2000)
}

proptest! {
    /// The bitmap takes a run whenever there is one, and nothing that isn't free.
    #[test]
    fn agrees_with_a_set(steps in steps(), full in any::<bool>()) {
        let mut bitmap = FrameBitmap::new(Vec::leak(vec![0; FRAMES as usize / 64]));
        let mut set = BTreeSet::new();
        if full {
            (0..FRAMES).for_each(|frame| { bitmap.add(Mfn::new(frame)); set.insert(frame); });
        }
        for step in steps {
            match step {
                Step::Add(frame) if set.insert(frame) => bitmap.add(Mfn::new(frame)),
                Step::Add(_) => {}
                Step::TakeThis(frame) => {
                    prop_assert_eq!(bitmap.take_this(Mfn::new(frame)), set.remove(&frame));
                }
                Step::Take(order) => {
                    let count = 1u64 << order;
                    let is_free = |first: u64| (first..first + count).all(|f| set.contains(&f));
                    let any = (0..FRAMES / count).any(|run| is_free(run * count));
                    match bitmap.take_aligned(order) {
                        None => prop_assert!(!any),
                        Some(first) => {
                            let first = first.get();
                            prop_assert!(first.is_multiple_of(count) && is_free(first));
                            (first..first + count).for_each(|frame| { set.remove(&frame); });
                        }
                    }
                }
            }
            prop_assert_eq!(bitmap.free(), set.len() as u64);
        }
    }
}
