//! The order of a change of memory type: no new mapping, then the TLBs, then the caches
//! (`INV-CACHE`, `INV-COHERENT`).
//!
//! One CPU writes past the caches, through a mapping of another type or through what its TLB still
//! remembers of one; another wants the frame write-back, and reads it. The model fails if it is
//! read while memory may differ from the caches, or after it was read gets to differ. The same with
//! the caches flushed before the TLB, and with both flushed before the frame is had, must fail.
//!
//! And with policy report: of a mapping with another memory type and a promotion, one sees the other.

use crate::frame_table::{Begun, FrameEntry, Kind, Reservation, State};
use crate::ids::{CpuSet, DomId};
use crate::memtype::FrameMemType;
use crate::tlb::FlushClock;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use pinfold_abi::mmu::MemoryType::{Uncached, WriteBack};

const DOM: DomId = DomId::new(1);
/// The CPU that writes past the caches.
const WRITER: usize = 1;

/// The writer's TLB has the translation.
const REMEMBERED: u64 = 1;
/// Memory may differ from the caches.
const STALE: u64 = 2;

struct Scene {
    frame: FrameEntry,
    clock: FlushClock,
    /// [`REMEMBERED`] and [`STALE`]: together, as the use of a translation is one act of the CPU,
    /// and its flush another.
    machine: AtomicU64,
}

impl Scene {
    fn new() -> Scene {
        let frame = FrameEntry::new();
        assert!(frame.make_ram() && frame.begin_alloc());
        frame.assign_to(DOM);
        Scene { frame, clock: FlushClock::new(), machine: AtomicU64::new(0) }
    }

    /// A scene in which the frame is mapped uncached.
    fn mapped() -> Scene {
        let scene = Scene::new();
        assert_eq!(scene.frame.get_with_memtype(DOM, Uncached), Ok(Reservation::Changing));
        scene.frame.set_memtype(FrameMemType::Uniform(Uncached));
        scene
    }

    /// The writer's CPU writes past the caches, if it remembers how.
    fn write(&self) {
        let use_it = |now| (now & REMEMBERED != 0).then_some(now | STALE);
        let _ = self.machine.fetch_update(Ordering::SeqCst, Ordering::SeqCst, use_it);
    }

    fn flush_tlb(&self) {
        let now = self.clock.now();
        if self.clock.behind(now, CpuSet::of(WRITER)).contains(WRITER) {
            let ticket = self.clock.begin();
            self.machine.fetch_and(!REMEMBERED, Ordering::SeqCst);
            self.clock.end(WRITER, ticket);
        }
    }

    fn flush_cache(&self) {
        self.machine.fetch_and(!STALE, Ordering::SeqCst);
    }

    /// The hypervisor reads the frame through its own view.
    fn read(&self) {
        let stale = self.machine.fetch_or(0, Ordering::SeqCst) & STALE != 0;
        assert!(!stale, "read while the caches may be stale");
    }

    fn reserve(&self, flush: impl FnOnce(&Scene)) {
        match self.frame.get_with_memtype(DOM, WriteBack) {
            Ok(Reservation::Changing) => {
                flush(self);
                self.frame.set_memtype(FrameMemType::Uniform(WriteBack));
            }
            // Still mapped, or being changed.
            _ => return,
        }
        self.read();
        self.frame.put();
    }
}

/// The writer uses the mapping, unmaps, and goes on by what it remembers; the other CPU reserves the
/// frame.
fn race(reserve: fn(&Scene)) {
    super::model(move || {
        let scene = Arc::new(Scene::mapped());
        let writer = {
            let scene = scene.clone();
            thread::spawn(move || {
                // While the entry is there it is used. Then it goes, and its reference; the translation stays until it is flushed.
                scene.machine.fetch_or(REMEMBERED | STALE, Ordering::SeqCst);
                scene.frame.put();
                scene.write();
            })
        };
        reserve(&scene);
        writer.join().unwrap();
        if scene.frame.info().memtype().is_write_back() {
            scene.read();
        }
    });
}

#[test]
fn loom_tlb_then_cache_leaves_nothing_stale() {
    race(|scene| {
        scene.reserve(|scene| {
            scene.flush_tlb();
            scene.flush_cache();
        });
    });
}

#[test]
#[should_panic(expected = "read while the caches may be stale")]
fn loom_cache_then_tlb_is_caught() {
    race(|scene| {
        scene.reserve(|scene| {
            scene.flush_cache();
            scene.flush_tlb();
        });
    });
}

#[test]
#[should_panic(expected = "read while the caches may be stale")]
fn loom_flushes_before_the_reservation_are_caught() {
    race(|scene| {
        scene.flush_tlb();
        scene.flush_cache();
        scene.reserve(|_| {});
    });
}

/// Two CPUs map an unmapped frame in two ways: one has it, the other finds it had.
#[test]
fn loom_a_frame_gets_one_type() {
    super::model(|| {
        let frame = Arc::new(Scene::new().frame);
        let map = |frame: &FrameEntry, kind| match frame.get_with_memtype(DOM, kind) {
            Ok(Reservation::AsWanted) => true,
            Ok(Reservation::Changing) => {
                frame.set_memtype(FrameMemType::Uniform(kind));
                true
            }
            Err(_) => false,
        };
        let other = {
            let frame = frame.clone();
            thread::spawn(move || map(&frame, Uncached))
        };
        let cached = map(&frame, WriteBack);
        let uncached = other.join().unwrap();
        assert!(!(cached && uncached), "mapped in two ways");
        assert!(cached || uncached, "one of them was there first");
        let kind = if cached { WriteBack } else { Uncached };
        assert_eq!(frame.info().memtype(), FrameMemType::Uniform(kind));
    });
}

/// With policy report, a mapping with another memory type and a promotion don't both succeed.
fn mixing_against(promote: fn(&FrameEntry) -> bool) {
    super::model(move || {
        let frame = Arc::new(Scene::new().frame);
        // It is mapped once, read-only and write-back.
        frame.get(DOM).unwrap();
        let mixer = {
            let frame = frame.clone();
            thread::spawn(move || frame.get_mixed(DOM).is_ok())
        };
        let promoted = promote(&frame);
        let mixed = mixer.join().unwrap();
        assert!(!(promoted && mixed), "a table that is mapped past the caches");
        if promoted {
            assert!(frame.info().memtype().is_write_back());
        }
    });
}

fn promote(frame: &FrameEntry, look: bool) -> bool {
    if frame.get_with_memtype(DOM, WriteBack) != Ok(Reservation::AsWanted) {
        return false;
    }
    match frame.begin_type(Kind::L1) {
        Ok(Begun::Started(_)) if !look || frame.memtype_of_typed().is_write_back() => {
            frame.publish(Kind::L1, None);
            assert_eq!(frame.info().state(), State::Validated);
            true
        }
        Ok(_) => {
            frame.finish(Kind::L1, None);
            frame.put();
            false
        }
        Err(_) => {
            frame.put();
            false
        }
    }
}

#[test]
fn loom_a_table_is_not_mixed() {
    mixing_against(|frame| promote(frame, true));
}

#[test]
#[should_panic(expected = "a table that is mapped past the caches")]
fn loom_a_promotion_that_does_not_look_again_is_caught() {
    mixing_against(|frame| promote(frame, false));
}
