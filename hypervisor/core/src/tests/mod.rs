//! The crate over a machine that attacks ([`machine`]), and guests that never flush ([`guest`]).

mod asid;
mod attacks;
mod bitmap;
mod canaries;
mod grant_flags;
mod guest;
mod list;
mod machine;
mod random;
mod teardown;

use crate::FrameAllocator;
use guest::Guest;
use machine::{Machine, MachineValidator};
use pinfold_validator::{
    AuditCell, AuditSummary, DomId, ExternalRef, FrameEntry, Limits, Mfn, Policy, RefKind,
    Validator,
};
use std::boxed::Box;
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

const CPUS: usize = 3;
/// What a stale translation writes, and where to: no present entry, and no grant.
const POISON: u64 = 0x0bad_0000_0000_0000;
const POISON_SLOT: usize = 500;

type Allocator = FrameAllocator<'static, &'static Machine, spin::Spin>;
type GrantState = crate::grant::GrantState<&'static Machine, spin::Spin>;

/// A machine, its frames, and its domains.
struct World {
    machine: &'static Machine,
    validator: &'static MachineValidator,
    allocator: &'static Allocator,
    grants: Listed,
}

/// The grants of each domain.
#[derive(Default)]
struct Listed(Mutex<Vec<(DomId, &'static GrantState)>>);

impl crate::grant::Domains<&'static Machine, spin::Spin> for Listed {
    fn with_grants<T>(&self, dom: DomId, work: impl FnOnce(&GrantState) -> T) -> Option<T> {
        let found = self.0.lock().unwrap().iter().find(|(id, _)| *id == dom).map(|found| found.1);
        found.map(work)
    }
}

impl World {
    /// A machine with so many frames, all but the first of them free. It is never freed.
    fn new(frames: usize) -> World {
        let machine = Machine::leak(frames);
        let table: Vec<FrameEntry> = (0..frames).map(|_| FrameEntry::new()).collect();
        let limits = Limits {
            physical_bits: 40,
            nx: true,
            max_mfn: Mfn::new(frames as u64 - 1),
            max_cached_mfn: Mfn::new(frames as u64 - 1),
            policy: Policy { l1tf: false, refuse_linear_roots: true },
        };
        let validator: &'static MachineValidator =
            Box::leak(Box::new(Validator::new(machine, Vec::leak(table), limits)));
        machine.know(validator);
        let words = Vec::leak(vec![0; frames.div_ceil(64)]);
        let allocator: &'static Allocator =
            Box::leak(Box::new(FrameAllocator::new(validator, words)));
        assert!(validator.reserve_boot_frame(Mfn::new(0)));
        for number in 1..frames {
            assert!(allocator.add_free(Mfn::new(number as u64)));
        }
        World { machine, validator, allocator, grants: Listed::default() }
    }

    /// Recounts everything, and compares the frame table with the bitmap of free frames. `guests`
    /// are all that live.
    fn audit<'g>(&self, guests: impl Iterator<Item = &'g Guest>) -> AuditSummary {
        let mut cells = vec![AuditCell::default(); self.validator.frame_count() as usize];
        let roots = guests.map(|guest| ExternalRef { frame: guest.root(), kind: RefKind::Root });
        let summary = self
            .validator
            .audit(&mut cells, roots, &mut |wrong| panic!("audit: {wrong}"))
            .expect("a cell for each frame");
        let free = (0..self.validator.frame_count())
            .filter(|&number| self.validator.owner(Mfn::new(number)).is_none())
            .count();
        assert_eq!(free as u64, self.allocator.free_count(), "the bitmap and the frame table");
        summary
    }
}
