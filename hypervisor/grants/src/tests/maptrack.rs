//! Handles against a naive map.

use super::CASES;
use crate::*;
use pinfold_abi::address::Mfn;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::vec::Vec;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    /// A handle is allocated once at a time, and keeps the mapping that was set.
    #[test]
    fn handles_are_unique_and_keep_their_mapping(steps in prop::collection::vec((0..6u8, any::<u32>()), 0..120)) {
        const ROOM: u32 = 8;
        let mut maptrack = Maptrack::new([const { AtomicU64::new(0) }; 2 * ROOM as usize]);
        let mut busy: Vec<u32> = Vec::new();
        let mut mapped: BTreeMap<u32, MaptrackEntry> = BTreeMap::new();
        for (what, number) in steps {
            let pick = |list: &Vec<u32>| (!list.is_empty()).then(|| number as usize % list.len());
            match what {
                0 | 1 => match maptrack.alloc() {
                    Some(handle) => {
                        prop_assert!(!busy.contains(&handle) && !mapped.contains_key(&handle));
                        busy.push(handle);
                    }
                    None => prop_assert_eq!(busy.len() + mapped.len(), ROOM as usize),
                },
                2 | 3 => if let Some(at) = pick(&busy) {
                    let handle = busy.swap_remove(at);
                    let mapping = MaptrackEntry {
                        granter: number as u16,
                        reference: number.rotate_left(7),
                        frame: Mfn::new(u64::from(number) << 8),
                        writable: number & 1 != 0,
                        contains_pte: number & 2 != 0,
                    };
                    maptrack.set_mapped(handle, mapping);
                    mapped.insert(handle, mapping);
                },
                4 => {
                    let handle = number % (ROOM + 2);
                    let taken = maptrack.take(handle);
                    prop_assert_eq!(taken, mapped.remove(&handle));
                    busy.extend(taken.map(|_| handle));
                }
                _ => if let Some(at) = pick(&busy) {
                    maptrack.free(busy.swap_remove(at));
                },
            }
        }
        prop_assert_eq!(maptrack.take(u32::MAX), None);
        // At teardown no handle is busy.
        busy.drain(..).for_each(|handle| maptrack.free(handle));
        let mut from = 0;
        while let Some((handle, mapping)) = maptrack.take_next(from) {
            prop_assert_eq!(mapped.remove(&handle), Some(mapping));
            from = handle;
        }
        prop_assert!(mapped.is_empty());
    }
}
