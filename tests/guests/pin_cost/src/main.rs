//! What a pin costs under each policy, as the lazy mappings about grow in number.
//!
//! Each point of a curve is a number of outstanding lazy mappings. Under each, address spaces of four
//! tables are pinned and unpinned, once from frames that nothing maps any more and once from frames
//! that each have a dead mapping, and what that cost is printed, one line a point:
//!
//! `CURVE policy=lazy aliases=0 outstanding=1000 dead=1000 pins=16 instructions_per_pin=...`
//!
//! | field | what it is |
//! |---|---|
//! | `aliases` | dead mappings of the tables of each pin |
//! | `outstanding` | mappings of other frames let go before each pin |
//! | `dead` | how many of all these are not cleared when the pin begins |
//! | `instructions_per_pin` | of the pin, of the unpin, and of what the tables' frames cost beyond taking them from a list |
//! | `instructions_per_vunmap` | of letting go one mapping, in areas of eight |
//! | `flushes`, `cleared`, `refused` | TLB flushes, mappings cleared, and pins refused, over all these pins |
//! | `vunmap_flushes` | TLB flushes while mappings were let go, before these pins and as many others |
//!
//! `policy=upcall` is `lazy` with nothing done before a pin: the hypervisor reports what it meets,
//! tells the guest, which clears it by a shootdown of its own (`flushes` has none of these), and the
//! pin is tried again.
//!
//! Under QEMU's `-icount shift=0` the figures are instructions, the same on any machine. `most=N`
//! leaves out points with more outstanding mappings.
#![no_std]
#![no_main]

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
use point::Bench;

guest_main!(main);

/// Outstanding mappings.
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
    // SAFETY: once, and nobody else in this guest uses frames.
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
    let mut bench = Bench::new(mmu)?;
    for kind in KINDS {
        for with_aliases in [false, true] {
            for outstanding in OUTSTANDING.into_iter().filter(|&number| number <= most) {
                bench.measure(kind, outstanding, with_aliases)?;
            }
        }
    }
    Ok(())
}
