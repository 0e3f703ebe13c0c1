//! Measures what a pin costs under each policy, as the number of lazy mappings grows.
//!
//! Each point of a curve is a number of outstanding lazy mappings. At each, address spaces of four
//! tables are pinned and unpinned: once with tables whose frames have no mapping, and once with
//! tables whose frames each have a dead one. What that cost is printed, one line a point:
//!
//! `CURVE policy=lazy aliases=0 outstanding=1000 dead=1000 pins=16 instructions_per_pin=...`
//!
//! | field | what it is |
//! |---|---|
//! | `aliases` | dead mappings of the tables of each pin |
//! | `outstanding` | mappings of other frames that are unmapped before each pin |
//! | `dead` | how many of all these are not cleared when the pin begins |
//! | `instructions_per_pin` | for the pin, the unpin, and for allocating the tables' frames beyond taking them from a list |
//! | `instructions_per_vunmap` | for unmapping one mapping, in areas of eight |
//! | `flushes`, `cleared`, `refused` | TLB flushes, mappings cleared, and pins refused, in all these pins |
//! | `vunmap_flushes` | TLB flushes while mappings were unmapped, before these pins and as many others |
//!
//! `policy=upcall` is `lazy` with nothing done before a pin: the hypervisor names the mappings that it
//! meets in an upcall, the guest clears them by a shootdown of its own (which `flushes` doesn't
//! count), and the pin is tried again.
//!
//! Under QEMU's `-icount shift=0` the numbers are instructions, the same on any host. `most=N` leaves
//! out points with more outstanding mappings. It fails if a pin fails.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

extern crate alloc;

mod kinds;
mod point;

use kinds::KINDS;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::entry::{Boot, Native, kernel};
use pinfold_guest::hypercall::sched::Exit;
use pinfold_guest::mmu::{Config, Error, Mmu};
use pinfold_guest::vmap::Policy;
use pinfold_guest::{guest_main, println};
use point::Measurement;

guest_main!(main);

/// Outstanding mappings of each point.
const OUTSTANDING: [u64; 6] = [0, 10, 100, 1_000, 10_000, 100_000];

fn main(boot: &Boot) -> Exit {
    let config = Config {
        vmap_start: Vaddr(0xffff_9000_0000_0000),
        vmap_pages: 256 * 512,
        kmap_start: Vaddr(0xffff_9800_0000_0000),
        kmap_slots: 64,
        cpus: 1,
        policy: Policy::Eager,
        table_pool: 0,
    };
    // SAFETY: called once, and nothing else in this guest uses frames.
    let mmu = unsafe { kernel::start(boot, u64::MAX, &config) };
    match mmu.and_then(|mut mmu| run(&mut mmu, boot.number("most", u64::MAX))) {
        Ok(()) => {
            println!("VERDICT pass guest=pin_cost");
            Exit::PowerOff
        }
        Err(error) => {
            println!("VERDICT fail guest=pin_cost {error}");
            Exit::Crash
        }
    }
}

fn run(mmu: &mut Mmu<Native>, most: u64) -> Result<(), Error> {
    let mut measurement = Measurement::new(mmu)?;
    for kind in KINDS {
        for with_aliases in [false, true] {
            for outstanding in OUTSTANDING.into_iter().filter(|&number| number <= most) {
                measurement.measure(kind, outstanding, with_aliases)?;
            }
        }
    }
    Ok(())
}
