//! Fragments the store's memory, and checks that all of it can still be used.
//!
//! This is the usual attack on an allocator: fill everything with small values, keep one here and
//! there, free the rest, and ask for bigger values. If domains shared the memory, a few guests could
//! together leave no block that is large enough for another. After each round, a store must have
//! room for exactly as much as at first, whatever other domains do meanwhile.

use crate::client::{Client, kind};
use alloc::format;
use alloc::vec::Vec;
use pinfold_guest::fixtures::Check;

/// Sizes of values, in the order in which the store is filled with them.
const SIZES: [usize; 7] = [0, 24, 60, 150, 400, 1000, 2048];
/// Watches that are set at most: more than any quota.
const WATCHES: u32 = 200;

/// Runs so many rounds.
pub(crate) fn rounds(client: &mut Client, check: &mut Check, rounds: u64) {
    let fresh = measure(client, check);
    for round in 0..rounds as usize {
        for (step, size) in SIZES.into_iter().enumerate() {
            let count = fill(client, 0, size);
            // What remains of each size keeps what lies between from being merged.
            let stride = step + 2;
            for number in (0..count).filter(|number| number % stride != round % stride) {
                let gone = client.ask(kind::RM, 0, format!("data/f/{number}\0").as_bytes());
                check.equal("a node is removed", gone.map(drop), Ok(()));
            }
            // Paths and tokens of all lengths between the nodes.
            let token = "t".repeat(step * 20);
            let watch = format!("data/f/{round}\0{token}\0");
            let _ = client.ask(kind::WATCH, 0, watch.as_bytes());
        }
        remove_all(client, check);
        let now = measure(client, check);
        check.equal("the whole quota can still be used", now, fresh);
    }
    let [small, big, changed, watches] = fresh;
    pinfold_guest::println!(
        "STORE fragmented rounds={rounds} small={small} big={big} changed={changed} watches={watches}"
    );
}

/// Measures what the store has room for: small nodes, big values, changes in a transaction while
/// another one is open, watches.
fn measure(client: &mut Client, check: &mut Check) -> [usize; 4] {
    let small = fill(client, 0, 0);
    remove_all(client, check);
    let big = fill(client, 0, 2048);
    let transactions = [0, 0].map(|_| client.ask(kind::TRANSACTION_START, 0, b"\0"));
    let [Ok(first), Ok(second)] = transactions.map(|id| id.map(|id| crate::number(&id))) else {
        check.holds("two transactions can be started", false);
        return [0; 4];
    };
    let removed = client.ask(kind::RM, first, b"data/f\0").map(drop);
    check.equal("removed in a transaction", removed, Ok(()));
    let changed = fill(client, first, 8);
    for id in [first, second] {
        let ended = client.ask(kind::TRANSACTION_END, id, b"F\0").map(drop);
        check.equal("a transaction ends", ended, Ok(()));
    }
    let watch = |number| format!("data/f\0{number:0>60}\0");
    let watches = (0..WATCHES)
        .take_while(|&number| client.ask(kind::WATCH, 0, watch(number).as_bytes()).is_ok())
        .count();
    remove_all(client, check);
    check.holds("there is room for a useful number", small > 50 && big > 5 && watches > 20);
    [small, big, changed, watches]
}

/// Removes all nodes and watches of this test.
fn remove_all(client: &mut Client, check: &mut Check) {
    check.equal("remove all nodes", client.ask(kind::RM, 0, b"data/f\0").map(drop), Ok(()));
    let reset = client.ask(kind::RESET_WATCHES, 0, b"\0").map(drop);
    check.equal("remove all watches", reset, Ok(()));
}

/// Writes nodes with values of a size until one is refused. Returns their number.
fn fill(client: &mut Client, transaction: u32, size: usize) -> usize {
    let mut node = Vec::new();
    (0..)
        .take_while(|number| {
            node.clear();
            node.extend_from_slice(format!("data/f/{number}\0").as_bytes());
            node.resize(node.len() + size, b'x');
            client.ask(kind::WRITE, transaction, &node).is_ok()
        })
        .count()
}
