//! Tests grants: of a domain to itself (each answer as on Xen), and between two domains, with
//! `role=granter`, `role=borrower` or `role=churn` and `peer=` the number of the other one. The word
//! `last` says that the peer ends first. It fails on any other answer or status than expected, if a
//! granted page becomes a page table while it is mapped writable, or if the audit finds something.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

extern crate alloc;

mod copies;
mod fixture;
mod pair;
mod single;

use fixture::GrantFixture;
use pinfold_guest::entry::{Boot, event};
use pinfold_guest::fixtures::Check;
use pinfold_guest::guest_main;
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::hypercall::sched::Exit;

guest_main!(main);

fn main(boot: &Boot) -> Exit {
    let mut check = Check::new("grants", boot);
    if check.ok("the shared page", event::init(boot)).is_none() {
        return check.verdict();
    }
    let role = boot.option("role");
    let peer = boot.number("peer", 0) as u16;
    let Some(mut fixture) = GrantFixture::set_up(boot, &mut check) else { return check.verdict() };
    match role {
        Some("churn") => {
            let (seed, rounds) = (boot.number("seed", 1), boot.number("rounds", 20_000));
            pair::churn::run(&mut fixture, peer, boot.has_word("last"), seed, rounds, &mut check);
        }
        Some("granter") => {
            pair::granter::run(&mut fixture, peer, boot.has_word("last"), &mut check);
        }
        Some("borrower") => {
            pair::borrower::run(&mut fixture, peer, boot.has_word("last"), &mut check);
        }
        _ => {
            single::run(&mut fixture, &mut check);
            copies::run(&mut fixture, &mut check);
            if !check.on_xen() {
                check.equal(
                    "the audit finds nothing",
                    pinfold::audit().map(|a| a.wrong).ok(),
                    Some(0),
                );
            }
        }
    }
    check.verdict()
}
