//! Fragments what the store has for its nodes, and looks whether all of it is still there.
//!
//! The attack on an allocator: fill everything with small values, keep one here and there, free the
//! rest, and ask for bigger ones. On memory that domains share, a few guests that do this together
//! leave no piece that is long enough for somebody else. A store must have room for exactly what it
//! had room for at first, after each round, whatever its neighbours do meanwhile.

use crate::client::{Client, kind};
use alloc::format;
use alloc::vec::Vec;
use pinfold_guest::fixtures::Check;

/// Sizes of values, in the order in which the store is filled with them.
const SIZES: [usize; 7] = [0, 24, 60, 150, 400, 1000, 2048];
/// Most watches that are set, more than any quota.
const WATCHES: u32 = 200;

/// So many rounds of it.
pub(crate) fn rounds(client: &mut Client, check: &mut Check, rounds: u64) {
    let fresh = measure(client, check);
    for round in 0..rounds as usize {
        for (step, size) in SIZES.into_iter().enumerate() {
            let count = fill(client, 0, size);
            // The survivors of each size pin what lies between them.
            let stride = step + 2;
            for number in (0..count).filter(|number| number % stride != round % stride) {
                let gone = client.ask(kind::RM, 0, format!("data/f/{number}\0").as_bytes());
                check.equal("a node is removed", gone.map(drop), Ok(()));
            }
            // Paths and tokens of all lengths between them.
            let token = "t".repeat(step * 20);
            let watch = format!("data/f/{round}\0{token}\0");
            let _ = client.ask(kind::WATCH, 0, watch.as_bytes());
        }
        forget_all(client, check);
        let now = measure(client, check);
        check.equal("all of the quota is there", now, fresh);
    }
    let [small, big, changed, watches] = fresh;
    pinfold_guest::println!(
        "STORE fragmented rounds={rounds} small={small} big={big} changed={changed} watches={watches}"
    );
}

/// What the store has room for: small nodes, big values, changes in a transaction beside another
/// one, watches.
fn measure(client: &mut Client, check: &mut Check) -> [usize; 4] {
    let small = fill(client, 0, 0);
    forget_all(client, check);
    let big = fill(client, 0, 2048);
    let transactions = [0, 0].map(|_| client.ask(kind::TRANSACTION_START, 0, b"\0"));
    let [Ok(first), Ok(second)] = transactions.map(|id| id.map(|id| crate::number(&id))) else {
        check.holds("two transactions", false);
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
    forget_all(client, check);
    check.holds("there is room for something", small > 50 && big > 5 && watches > 20);
    [small, big, changed, watches]
}

/// Removes all nodes and watches of this phase.
fn forget_all(client: &mut Client, check: &mut Check) {
    check.equal("all away", client.ask(kind::RM, 0, b"data/f\0").map(drop), Ok(()));
    let reset = client.ask(kind::RESET_WATCHES, 0, b"\0").map(drop);
    check.equal("no watches", reset, Ok(()));
}

/// Writes nodes with values of a size until no more are taken; says how many were.
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
