//! The flush comes after the type (`INV-TLB`), stamps are never too old (`INV-STAMP`).
//!
//! One CPU makes a frame a table; another maps it writable, writes, and unmaps it. The model fails
//! if the table is checked while the writer's TLB still has the translation. The same model with
//! the flush moved before the type, as Xen had it until XSA-401, must fail: if it doesn't, the
//! model is blind.

use crate::frame_table::{Begun, FrameEntry, Kind, owned_pattern};
use crate::ids::{CpuSet, DomId};
use crate::tlb::FlushClock;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;

const DOM: DomId = DomId::new(1);
/// The writer's CPU.
const WRITER: usize = 1;

/// A frame, a clock, one entry that maps the frame, and one CPU's TLB.
struct Scene {
    frame: FrameEntry,
    clock: FlushClock,
    /// The entry: whether it maps the frame writable.
    entry: AtomicBool,
    /// The writer's TLB: whether it has the translation.
    cached: AtomicBool,
    /// Where the domain has run since the last flush.
    dirty: AtomicU64,
}

impl Scene {
    fn new() -> Scene {
        let frame = FrameEntry::new();
        assert!(frame.make_ram() && frame.begin_alloc());
        frame.assign_to(DOM);
        let scene = Scene {
            frame,
            clock: FlushClock::new(),
            entry: AtomicBool::new(false),
            cached: AtomicBool::new(false),
            dirty: AtomicU64::new(0),
        };
        // It was written to before: idle, and stamped.
        assert!(scene.map());
        scene.unmap();
        scene
    }

    /// Takes a writable reference, and maps the frame.
    fn map(&self) -> bool {
        if self.frame.is_owned(owned_pattern(DOM)) && self.frame.get_type_ref(Kind::Writable) {
            self.entry.store(true, Ordering::SeqCst);
            return true;
        }
        self.frame.get(DOM).unwrap();
        let taken = match self.frame.begin_type(Kind::Writable) {
            Ok(Begun::Started(before)) => {
                // It was writable before: nothing to flush.
                self.frame.publish(Kind::Writable, before.stamp());
                true
            }
            Ok(Begun::Shared) => {
                self.frame.put();
                true
            }
            _ => {
                self.frame.put();
                false
            }
        };
        if taken {
            self.entry.store(true, Ordering::SeqCst);
        }
        taken
    }

    /// The writer's CPU translates, if the entry is there. Exchanges, here and in the flush: both
    /// are acts of one CPU, which come one after the other, whatever thread plays them.
    fn touch(&self) {
        if self.entry.load(Ordering::SeqCst) {
            self.cached.swap(true, Ordering::SeqCst);
        }
    }

    /// Unmaps the frame, without flushing, and drops the reference.
    fn unmap(&self) {
        self.entry.swap(false, Ordering::SeqCst);
        if self.frame.put_writable_ref(|| self.clock.now()) {
            self.frame.put();
        }
    }

    /// The writer: enters the domain, writes through a mapping, and unmaps it.
    fn write(&self) {
        self.dirty.fetch_or(1 << WRITER, Ordering::SeqCst);
        if self.map() {
            self.touch();
            self.unmap();
        }
    }

    /// Flushes the writer's CPU, if it has to be.
    fn flush(&self, stamp: Option<u64>) {
        let Some(stamp) = stamp else { return };
        let dirty = CpuSet::from_bits(self.dirty.load(Ordering::SeqCst));
        if self.clock.behind(stamp, dirty).contains(WRITER) {
            self.flush_writer();
        }
    }

    fn flush_writer(&self) {
        let ticket = self.clock.begin();
        self.cached.swap(false, Ordering::SeqCst);
        self.clock.end(WRITER, ticket);
    }

    /// Reads the frame as a table: nobody may be able to write to it.
    fn check(&self) {
        assert!(!self.cached.load(Ordering::SeqCst), "checked while a TLB can write");
    }

    /// Type first, then flush, then check.
    fn promote(&self) {
        self.frame.get(DOM).unwrap();
        match self.frame.begin_type(Kind::L1) {
            Ok(Begun::Started(before)) => {
                self.flush(before.stamp());
                self.check();
                self.frame.publish(Kind::L1, None);
                self.check();
            }
            _ => self.frame.put(),
        }
    }

    /// The same in the wrong order: flush first, then the type.
    fn promote_flushing_first(&self) {
        self.frame.get(DOM).unwrap();
        self.flush(self.frame.type_word().stamp());
        match self.frame.begin_type(Kind::L1) {
            Ok(Begun::Started(_)) => {
                self.check();
                self.frame.publish(Kind::L1, None);
            }
            _ => self.frame.put(),
        }
    }
}

fn race(promote: fn(&Scene)) {
    super::model(move || {
        let scene = Arc::new(Scene::new());
        let writer = {
            let scene = scene.clone();
            thread::spawn(move || scene.write())
        };
        promote(&scene);
        writer.join().unwrap();
    });
}

#[test]
fn loom_type_then_flush_leaves_no_stale_writer() {
    race(Scene::promote);
}

#[test]
#[should_panic(expected = "checked while a TLB can write")]
fn loom_flush_then_type_is_caught() {
    race(Scene::promote_flushing_first);
}

/// Two writers and a CPU that flushes in between: the stamp of the idle frame is never older than
/// the last unmapping (XSA-241).
#[test]
fn loom_stamps_are_never_too_old() {
    super::model(|| {
        let scene = Arc::new(Scene::new());
        scene.dirty.store(1 << WRITER, Ordering::SeqCst);
        // One mapping is there.
        assert!(scene.map());
        let second = {
            let scene = scene.clone();
            thread::spawn(move || {
                // Another one comes and goes while the first goes.
                if scene.map() {
                    scene.touch();
                    scene.unmap();
                }
            })
        };
        let flusher = {
            let scene = scene.clone();
            thread::spawn(move || scene.flush_writer())
        };
        scene.unmap();
        second.join().unwrap();
        flusher.join().unwrap();
        // Both are gone: now it becomes a table.
        scene.promote();
    });
}

/// The wrong way to stamp: the clock is read before the word. Must be caught, or the model above
/// proves nothing.
#[test]
#[should_panic(expected = "checked while a TLB can write")]
fn loom_stamps_read_too_early_are_caught() {
    super::model(|| {
        let scene = Arc::new(Scene::new());
        scene.dirty.store(1 << WRITER, Ordering::SeqCst);
        assert!(scene.map());
        let second = {
            let scene = scene.clone();
            thread::spawn(move || {
                if scene.map() {
                    scene.touch();
                    scene.unmap();
                }
            })
        };
        let flusher = {
            let scene = scene.clone();
            thread::spawn(move || scene.flush_writer())
        };
        let early = scene.clock.now();
        if scene.frame.put_writable_ref(|| early) {
            scene.frame.put();
        }
        second.join().unwrap();
        flusher.join().unwrap();
        scene.promote();
    });
}
