//! A foreign-mapped frame is flushed from all CPUs (`INV-FOREIGN`).
//!
//! The owner makes the frame a table. Another domain, on a CPU where the owner never ran, maps it writable
//! and unmaps it without a flush. A CPU that finds that mapping gone must find the mark, or it does not
//! flush the other domain's CPU. The same model with the mark set after the entry must fail.

use crate::frame_table::{Begun, FrameEntry, Kind};
use crate::ids::{CpuSet, DomId};
use crate::tlb::FlushClock;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

const OWNER: DomId = DomId::new(1);
/// The borrower's CPU.
const BORROWER: usize = 1;

struct Scene {
    frame: FrameEntry,
    clock: FlushClock,
    /// The borrower's TLB: whether it has the translation.
    cached: AtomicBool,
}

impl Scene {
    fn new() -> Scene {
        let frame = FrameEntry::new();
        assert!(frame.make_ram() && frame.begin_alloc());
        frame.assign_to(OWNER);
        Scene { frame, clock: FlushClock::new(), cached: AtomicBool::new(false) }
    }

    /// Maps, uses and unmaps the frame. It is marked before the entry is there, as must be,
    /// or after.
    fn borrow(&self, mark_first: bool) {
        self.frame.get(OWNER).unwrap();
        match self.frame.begin_type(Kind::Writable) {
            Ok(Begun::Started(before)) => self.frame.publish(Kind::Writable, before.stamp()),
            _ => return self.frame.put(),
        }
        if mark_first {
            self.frame.mark_foreign_mapped();
        }
        // The entry is there, a CPU uses it, and it is gone again.
        self.cached.store(true, Ordering::SeqCst);
        if self.frame.put_writable_ref(|| self.clock.now()) {
            self.frame.put();
        }
        if !mark_first {
            self.frame.mark_foreign_mapped();
        }
    }

    /// Makes it a table, as `Validator::get_type_ref` does: the owner itself has run nowhere.
    fn promote(&self) {
        self.frame.get(OWNER).unwrap();
        match self.frame.begin_type(Kind::L1) {
            Ok(Begun::Started(before)) => {
                if let (true, Some(stamp)) =
                    (self.frame.ref_word().is_foreign_mapped(), before.stamp())
                {
                    let all = CpuSet::of(BORROWER);
                    if !self.clock.behind(stamp, all).is_empty() {
                        let ticket = self.clock.begin();
                        self.cached.store(false, Ordering::SeqCst);
                        self.clock.end(BORROWER, ticket);
                    }
                }
                assert!(!self.cached.load(Ordering::SeqCst), "checked while a TLB can write");
                self.frame.publish(Kind::L1, None);
            }
            _ => self.frame.put(),
        }
    }
}

fn run(mark_first: bool) {
    super::model(move || {
        let scene = Arc::new(Scene::new());
        let borrower = {
            let scene = scene.clone();
            thread::spawn(move || scene.borrow(mark_first))
        };
        scene.promote();
        borrower.join().unwrap();
    });
}

#[test]
fn loom_a_foreign_mapped_frame_is_flushed_on_all_cpus() {
    run(true);
}

#[test]
#[should_panic(expected = "checked while a TLB can write")]
fn loom_a_mark_set_after_the_entry_is_caught() {
    run(false);
}
