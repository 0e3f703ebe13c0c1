//! Finds the ports with an event for a vCPU, by two levels of bits.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use pinfold_abi::event::PORTS;

/// Words of a [`PortSet`].
pub const WORDS: usize = (PORTS / u64::BITS) as usize;

/// One bit for each port.
pub type PortSet = [AtomicU64; WORDS];

/// Word and bit of a port, if there is such a port.
fn place(port: u32) -> Option<(usize, u64)> {
    let word = (port / 64) as usize;
    (word < WORDS).then_some((word, 1 << (port % 64)))
}

/// Whether the port's bit is set.
pub fn has(set: &PortSet, port: u32) -> bool {
    place(port).is_some_and(|(word, bit)| set[word].load(SeqCst) & bit != 0)
}

/// Sets the port's bit. Returns whether it was set before; false for a port that does not exist.
pub fn set(set: &PortSet, port: u32) -> bool {
    place(port).is_some_and(|(word, bit)| set[word].fetch_or(bit, SeqCst) & bit != 0)
}

/// Clears the port's bit. Returns whether it was set before.
pub fn clear(set: &PortSet, port: u32) -> bool {
    place(port).is_some_and(|(word, bit)| set[word].fetch_and(!bit, SeqCst) & bit != 0)
}

/// Takes each event that is pending, not masked and for this vCPU, in the words that `selector`
/// names, and calls a function with its port. The pending bit is cleared before, so that an event
/// raised meanwhile is a new one. Returns the number of events.
pub fn take(
    selector: u64,
    pending: &PortSet,
    mask: &PortSet,
    mine: &PortSet,
    mut each: impl FnMut(u32),
) -> u64 {
    let mut count = 0;
    let mut words = selector;
    while words != 0 {
        let word = words.trailing_zeros() as usize;
        words &= words - 1;
        loop {
            // Read again after each event: its handler may have masked others.
            let open = !mask[word].load(SeqCst) & mine[word].load(Relaxed);
            let ready = pending[word].load(SeqCst) & open;
            if ready == 0 {
                break;
            }
            let bit = ready & ready.wrapping_neg();
            if pending[word].fetch_and(!bit, SeqCst) & bit != 0 {
                count += 1;
                each(word as u32 * 64 + bit.trailing_zeros());
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn of(ports: &[u32]) -> PortSet {
        let all = [const { AtomicU64::new(0) }; WORDS];
        for &port in ports {
            set(&all, port);
        }
        all
    }

    fn taken(selector: u64, pending: &PortSet, mask: &[u32], mine: &[u32]) -> Vec<u32> {
        let mut ports = Vec::new();
        take(selector, pending, &of(mask), &of(mine), |port| ports.push(port));
        ports
    }

    #[test]
    fn pending_ports_of_selected_words_are_taken_in_order() {
        let pending = of(&[1, 5, 63, 64, 4095]);
        let all = [1, 5, 63, 64, 4095];
        assert_eq!(taken(1 | 1 << 63, &pending, &[], &all), [1, 5, 63, 4095]);
        assert!(has(&pending, 64));
        assert!(!has(&pending, 1));
        assert_eq!(taken(u64::MAX, &pending, &[], &all), [64]);
    }

    #[test]
    fn masked_ports_and_those_of_others_stay_pending() {
        let pending = of(&[1, 2, 3]);
        assert_eq!(taken(1, &pending, &[2], &[1, 2]), [1]);
        assert!(has(&pending, 2) && has(&pending, 3));
    }

    #[test]
    fn an_event_raised_by_its_handler_is_taken_again() {
        let (pending, mask, mine) = (of(&[7]), of(&[]), of(&[7]));
        let mut seen = 0;
        let count = take(1, &pending, &mask, &mine, |port| {
            seen += 1;
            if seen < 3 {
                assert!(!set(&pending, port), "cleared before it is handed over");
            }
        });
        assert_eq!((count, seen), (3, 3));
    }

    #[test]
    fn a_port_masked_by_a_handler_is_not_taken() {
        let (pending, mask, mine) = (of(&[1, 2]), of(&[]), of(&[1, 2]));
        let mut ports = Vec::new();
        take(1, &pending, &mask, &mine, |port| {
            ports.push(port);
            set(&mask, 2);
        });
        assert_eq!(ports, [1]);
        assert!(has(&pending, 2));
    }

    #[test]
    fn ports_that_do_not_exist_have_no_bit() {
        let all = of(&[]);
        assert!(!set(&all, PORTS) && !has(&all, PORTS) && !clear(&all, u32::MAX));
    }
}
