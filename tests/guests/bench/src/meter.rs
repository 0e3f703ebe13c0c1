//! The measuring loop.

use core::arch::x86_64::{_mm_lfence, _rdtsc};
use core::hint::black_box;
use pinfold_guest::println;

fn now() -> u64 {
    // SAFETY: every 64-bit processor has the instructions, and they have no side effect.
    unsafe {
        _mm_lfence();
        _rdtsc()
    }
}

/// Measures operations.
pub(crate) struct Meter {
    turns: u64,
    /// Cost of an iteration of the empty loop, in 1/1000.
    empty: u64,
}

impl Meter {
    /// Makes a meter that runs each operation so many times.
    pub(crate) fn new(turns: u64) -> Meter {
        let mut meter = Meter { turns: turns.max(1), empty: 0 };
        meter.empty = meter.milli(|turn| {
            black_box(turn);
        });
        meter
    }

    /// Measures the cost of an iteration, in 1/1000.
    fn milli(&self, mut operation: impl FnMut(u64)) -> u64 {
        // One iteration first, which may be slow for reasons that come once only.
        operation(0);
        let begin = now();
        for turn in 1..=self.turns {
            operation(turn);
        }
        (now() - begin) * 1000 / self.turns
    }

    /// Measures an operation, each iteration of which does `each` of what is counted, and prints the
    /// row.
    pub(crate) fn row(&self, name: &str, each: u64, operation: impl FnMut(u64)) {
        let cost = self.milli(operation).saturating_sub(self.empty) / each / 1000;
        println!("BENCH name={name} cost={cost}");
    }
}

/// Stops the benchmark if an operation didn't do what it is measured for.
///
/// # Panics
///
/// If `result` isn't `wanted`.
pub(crate) fn expect(what: &str, result: i64, wanted: i64) {
    assert!(result == wanted, "{what} gave {result}, not {wanted}");
}
