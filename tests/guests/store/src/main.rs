//! Tests xenstore: uses it as guests do, fragments it, fills it up, and then sends random requests
//! and writes random indices and bytes to its ring. It fails on a wrong reply, on a quota that
//! differs after fragmentation, or if a request gets no reply. `rounds=N` is the number of random
//! requests (default 3000), `seed=S` repeats them, `fragment=N` is the number of rounds of
//! fragmentation (default 1). Not for Xen's first domain, which has no store.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

extern crate alloc;

mod client;
mod fragment;
mod ring;

use alloc::format;
use alloc::vec::Vec;
use client::{Client, kind};
use pinfold_guest::entry::{Boot, event};
use pinfold_guest::fixtures::{Check, Random};
use pinfold_guest::hypercall::sched::Exit;
use pinfold_guest::{guest_main, println};
use ring::Ring;

guest_main!(main);

fn main(boot: &Boot) -> Exit {
    let mut check = Check::new("store", boot);
    check.ok("the shared page", event::init(boot));
    let Some(ring) = Ring::find(boot) else {
        check.holds("there is a ring", false);
        return check.verdict();
    };
    let mut client = Client::new(ring);
    use_store(&mut client, &mut check);
    fill_store(&mut client, &mut check);
    fragment::rounds(&mut client, &mut check, boot.number("fragment", 1));
    use_store(&mut client, &mut check);
    let mut random = Random::new(boot.number("seed", 1));
    let rounds = boot.number("rounds", 3000);
    send_random_requests(&mut client, &mut random, rounds);
    use_store(&mut client, &mut check);
    // The damage is limited to this guest and its store.
    for _ in 0..rounds {
        let (index, value) = (random.next_u64(), random.next_u64() as u32);
        client.ring.write_raw(index, value);
        client.ring.discard_replies();
    }
    println!("STORE events={} rounds={rounds}", client.events);
    check.verdict()
}

/// Reads, writes, watches, and makes a transaction that conflicts with another write.
fn use_store(client: &mut Client, check: &mut Check) {
    let name = client.ask(kind::READ, 0, b"name\0").unwrap_or_default();
    check.holds("read", name.starts_with(b"store"));
    check.equal(
        "read a node that doesn't exist",
        client.ask(kind::READ, 0, b"nothing\0"),
        Err(b"ENOENT".to_vec()),
    );
    let before = client.events;
    check.equal("watch", client.ask(kind::WATCH, 0, b"data\0token\0").map(drop), Ok(()));
    check.equal("write", client.ask(kind::WRITE, 0, b"data/a\0one").map(drop), Ok(()));
    check.equal("read it", client.ask(kind::READ, 0, b"data/a\0"), Ok(b"one".to_vec()));
    check.holds("the watch fired", client.events > before);
    let Ok(id) = client.ask(kind::TRANSACTION_START, 0, b"\0") else {
        return check.holds("start a transaction", false);
    };
    let id = number(&id);
    check.equal(
        "write in the transaction",
        client.ask(kind::WRITE, id, b"data/a\0two").map(drop),
        Ok(()),
    );
    check.equal(
        "read outside the transaction",
        client.ask(kind::READ, 0, b"data/a\0"),
        Ok(b"one".to_vec()),
    );
    check.equal(
        "write outside the transaction",
        client.ask(kind::WRITE, 0, b"data/a\0three").map(drop),
        Ok(()),
    );
    let end = client.ask(kind::TRANSACTION_END, id, b"T\0").map(drop);
    check.equal("the transaction conflicts", end, Err(b"EAGAIN".to_vec()));
    check.equal(
        "the other write stays",
        client.ask(kind::READ, 0, b"data/a\0"),
        Ok(b"three".to_vec()),
    );
    check.equal("remove it", client.ask(kind::RM, 0, b"data/a\0").map(drop), Ok(()));
    // Removes the watch.
    let _ = client.ask(kind::UNWATCH, 0, b"data\0token\0");
}

/// Parses a number in a reply.
fn number(reply: &[u8]) -> u32 {
    let digits = core::str::from_utf8(reply).unwrap_or_default();
    digits.trim_end_matches('\0').parse().unwrap_or(0)
}

/// Writes nodes until one is refused, and checks that all others exist.
fn fill_store(client: &mut Client, check: &mut Check) {
    let mut taken = 0u32;
    let refused = loop {
        let node = format!("data/fill/{taken}\0{}", "x".repeat(64));
        match client.ask(kind::WRITE, 0, node.as_bytes()) {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
    };
    let quota = [b"ENOSPC".to_vec(), b"EQUOTA".to_vec()];
    check.holds("a quota refuses it", quota.contains(&refused) && taken > 50);
    let listed = client.ask(kind::DIRECTORY, 0, b"data/fill\0").unwrap_or_default();
    let names = listed.split(|&byte| byte == 0).filter(|name| !name.is_empty()).count();
    check.equal("all accepted nodes exist", names as u32, taken);
    check.equal("remove all nodes", client.ask(kind::RM, 0, b"data/fill\0").map(drop), Ok(()));
    println!("STORE nodes={taken}");
}

/// Sends well-formed messages of any type with any contents: each must get a reply.
fn send_random_requests(client: &mut Client, random: &mut Random, rounds: u64) {
    const WORDS: [&[u8]; 10] =
        [b"data", b"/", b"\0", b"name", b"..", b"token", b"@releaseDomain", b"T", b"\xff", b"w"];
    // Open transactions, and some that have ended.
    let mut transactions = alloc::vec![0, 0, 1];
    for _ in 0..rounds {
        let payload: Vec<u8> =
            (0..random.below(12)).flat_map(|_| WORDS[random.index(WORDS.len())]).copied().collect();
        let which = random.index(transactions.len());
        let transaction = transactions[which];
        // Includes RESUME (18) and unknown types.
        let kind = random.below(24) as u32;
        // Watch events and errors are not requests.
        if kind != kind::WATCH_EVENT && kind != kind::ERROR {
            let reply = client.ask(kind, transaction, &payload);
            if kind == kind::TRANSACTION_START
                && let Ok(id) = reply
            {
                transactions.push(number(&id));
            }
        }
    }
    for id in transactions {
        let _ = client.ask(kind::TRANSACTION_END, id, b"F\0");
    }
    let _ = client.ask(kind::RM, 0, b"data\0");
}
