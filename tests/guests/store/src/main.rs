//! Uses its store as guests do, then fills it to the brim, and then writes nonsense to its ring:
//! requests of every kind with any content first, any indices and bytes at last. `rounds=N` sets how
//! much nonsense (default 3000), `seed=S` which, `fragment=N` how often it fragments its share first
//! (default 1). Only for a hypervisor that gives it a store.
#![no_std]
#![no_main]

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
    use_it(&mut client, &mut check);
    fill_it(&mut client, &mut check);
    fragment::rounds(&mut client, &mut check, boot.number("fragment", 1));
    use_it(&mut client, &mut check);
    let mut random = Random::new(boot.number("seed", 1));
    let rounds = boot.number("rounds", 3000);
    any_requests(&mut client, &mut random, rounds);
    use_it(&mut client, &mut check);
    // What comes of this is the guest's own loss, and the store's: not the machine's.
    for _ in 0..rounds {
        let (index, value) = (random.next_u64(), random.next_u64() as u32);
        client.ring.scribble(index, value);
        client.ring.forget_replies();
    }
    println!("STORE events={} rounds={rounds}", client.events);
    check.verdict()
}

/// Reads, writes, watches, and does two things at once that can't both be.
fn use_it(client: &mut Client, check: &mut Check) {
    let name = client.ask(kind::READ, 0, b"name\0").unwrap_or_default();
    check.holds("read", name.starts_with(b"store"));
    check.equal("nothing there", client.ask(kind::READ, 0, b"nothing\0"), Err(b"ENOENT".to_vec()));
    let before = client.events;
    check.equal("watch", client.ask(kind::WATCH, 0, b"data\0token\0").map(drop), Ok(()));
    check.equal("write", client.ask(kind::WRITE, 0, b"data/a\0one").map(drop), Ok(()));
    check.equal("what was written", client.ask(kind::READ, 0, b"data/a\0"), Ok(b"one".to_vec()));
    check.holds("the watch fired", client.events > before);
    let Ok(id) = client.ask(kind::TRANSACTION_START, 0, b"\0") else {
        return check.holds("a transaction", false);
    };
    let id = number(&id);
    check.equal("in it", client.ask(kind::WRITE, id, b"data/a\0two").map(drop), Ok(()));
    check.equal("outside", client.ask(kind::READ, 0, b"data/a\0"), Ok(b"one".to_vec()));
    check.equal("meanwhile", client.ask(kind::WRITE, 0, b"data/a\0three").map(drop), Ok(()));
    let end = client.ask(kind::TRANSACTION_END, id, b"T\0").map(drop);
    check.equal("too late", end, Err(b"EAGAIN".to_vec()));
    check.equal("as it was", client.ask(kind::READ, 0, b"data/a\0"), Ok(b"three".to_vec()));
    check.equal("away", client.ask(kind::RM, 0, b"data/a\0").map(drop), Ok(()));
    // The watch stays, so that a second time it is refused; that is as good.
    let _ = client.ask(5, 0, b"data\0token\0");
}

/// A number in a reply.
fn number(reply: &[u8]) -> u32 {
    let digits = core::str::from_utf8(reply).unwrap_or_default();
    digits.trim_end_matches('\0').parse().unwrap_or(0)
}

/// Writes until nothing more is taken; what was taken is there.
fn fill_it(client: &mut Client, check: &mut Check) {
    let mut taken = 0u32;
    let refused = loop {
        let node = format!("data/fill/{taken}\0{}", "x".repeat(64));
        match client.ask(kind::WRITE, 0, node.as_bytes()) {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
    };
    let quota = [b"ENOSPC".to_vec(), b"EQUOTA".to_vec()];
    check.holds("a quota ends it", quota.contains(&refused) && taken > 50);
    let listed = client.ask(kind::DIRECTORY, 0, b"data/fill\0").unwrap_or_default();
    let names = listed.split(|&byte| byte == 0).filter(|name| !name.is_empty()).count();
    check.equal("all that was taken", names as u32, taken);
    check.equal("all away", client.ask(kind::RM, 0, b"data/fill\0").map(drop), Ok(()));
    println!("STORE nodes={taken}");
}

/// Whole messages of any kind with any content: each is answered, somehow.
fn any_requests(client: &mut Client, random: &mut Random, rounds: u64) {
    const WORDS: [&[u8]; 10] =
        [b"data", b"/", b"\0", b"name", b"..", b"token", b"@releaseDomain", b"T", b"\xff", b"w"];
    // Some of them begun, some long over.
    let mut transactions = alloc::vec![0, 0, 1];
    for _ in 0..rounds {
        let payload: Vec<u8> =
            (0..random.below(12)).flat_map(|_| WORDS[random.index(WORDS.len())]).copied().collect();
        let which = random.index(transactions.len());
        let transaction = transactions[which];
        // 18, RESUME, and what is not known.
        let kind = random.below(24) as u32;
        // A watch's event is no request; neither is an error.
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
