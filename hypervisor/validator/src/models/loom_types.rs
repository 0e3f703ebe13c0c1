//! Types: taken by one, seen whole by the others (`INV-TYPE`, `INV-COUNT`, `INV-PARTIAL`).

use crate::frame_table::owned_pattern;
use crate::frame_table::{BeginError, Begun, FrameEntry, Kind, Progress, PutOutcome, State};
use crate::ids::DomId;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use std::vec::Vec;

const DOM: DomId = DomId::new(1);

/// A frame of the domain's.
fn frame() -> FrameEntry {
    let frame = FrameEntry::new();
    assert!(frame.make_ram() && frame.begin_alloc());
    frame.assign_to(DOM);
    frame
}

/// Takes a type as the validator does; `check` stands for reading the entries.
fn take(frame: &FrameEntry, kind: Kind, check: impl FnOnce()) -> bool {
    let owned = owned_pattern(DOM);
    if frame.is_owned(owned) && frame.get_type_ref(kind) {
        return true;
    }
    if frame.get(DOM).is_err() {
        return false;
    }
    match frame.begin_type(kind) {
        Ok(Begun::Shared) => {
            frame.put();
            true
        }
        Ok(Begun::Started(_)) => {
            check();
            frame.publish(kind, None);
            true
        }
        Ok(Begun::Resumed(_)) => {
            frame.put();
            check();
            frame.publish(kind, None);
            true
        }
        Ok(Begun::Undoing(_)) => unreachable!("nothing is suspended as another type"),
        Err(BeginError::OtherType(_) | BeginError::Contended) => {
            frame.put();
            false
        }
        Err(BeginError::Overflow(_)) => unreachable!(),
    }
}

fn drop_type(frame: &FrameEntry, kind: Kind) {
    match frame.put_type_ref(kind, None) {
        PutOutcome::StillHeld => {}
        PutOutcome::Idle => frame.put(),
        PutOutcome::LastOfTable => {
            frame.finish(kind, Some(1));
            frame.put();
        }
    }
}

/// INV-TYPE: a frame is never writable and a table at once.
#[test]
fn loom_a_frame_has_one_type_at_a_time() {
    super::model(|| {
        let frame = Arc::new(frame());
        // Bit 0: somebody writes; bit 1: it's a table.
        let uses = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = [(Kind::Writable, 1), (Kind::L1, 2)]
            .into_iter()
            .map(|(kind, bit)| {
                let (frame, uses) = (frame.clone(), uses.clone());
                thread::spawn(move || {
                    if take(&frame, kind, || {}) {
                        let others = uses.fetch_or(bit, Ordering::Relaxed);
                        assert_eq!(others & !bit, 0);
                        uses.fetch_and(!bit, Ordering::Relaxed);
                        drop_type(&frame, kind);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(frame.info().references(), 1);
        assert_eq!(frame.info().state(), State::Idle);
    });
}

/// Whoever gets a table reference sees the table checked, whoever checked it.
#[test]
fn loom_a_table_is_checked_before_it_is_used() {
    super::model(|| {
        let frame = Arc::new(frame());
        let checked = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (frame, checked) = (frame.clone(), checked.clone());
                thread::spawn(move || {
                    let check = || checked.store(1, Ordering::Relaxed);
                    if take(&frame, Kind::L2, check) {
                        assert_eq!(checked.load(Ordering::Relaxed), 1);
                        true
                    } else {
                        false
                    }
                })
            })
            .collect();
        let holders = threads.into_iter().map(|t| t.join().unwrap()).filter(|&got| got).count();
        assert!(holders > 0, "contention stops one of two, not both");
        assert_eq!(frame.info().type_count() as usize, holders);
        assert_eq!(frame.info().references(), 2);
    });
}

/// The last put takes the table apart, and no CPU gets a reference meanwhile.
#[test]
fn loom_only_the_last_put_takes_a_table_apart() {
    super::model(|| {
        let frame = Arc::new(frame());
        assert!(take(&frame, Kind::L1, || {}));
        assert!(take(&frame, Kind::L1, || {}));
        let live = Arc::new(AtomicU64::new(1));
        let mut threads: Vec<_> = (0..2)
            .map(|_| {
                let (frame, live) = (frame.clone(), live.clone());
                thread::spawn(move || match frame.put_type_ref(Kind::L1, None) {
                    PutOutcome::LastOfTable => {
                        assert_eq!(live.swap(0, Ordering::Relaxed), 1, "taken apart twice");
                        frame.finish(Kind::L1, Some(1));
                        frame.put();
                    }
                    PutOutcome::StillHeld => {}
                    PutOutcome::Idle => unreachable!(),
                })
            })
            .collect();
        threads.push({
            let (frame, live) = (frame.clone(), live.clone());
            thread::spawn(move || {
                if frame.get_type_ref(Kind::L1) {
                    assert_eq!(live.load(Ordering::Relaxed), 1, "got what is apart");
                    if frame.put_type_ref(Kind::L1, None) == PutOutcome::LastOfTable {
                        assert_eq!(live.swap(0, Ordering::Relaxed), 1);
                        frame.finish(Kind::L1, Some(1));
                        frame.put();
                    }
                }
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(frame.info().references(), 1);
        assert_eq!(live.load(Ordering::Relaxed), 0);
    });
}

/// Of two that meet a half-made table, one goes on (or back), and the other is told to wait; the
/// one that goes on sees all that was done before.
#[test]
fn loom_one_cpu_resumes_a_partial_table() {
    super::model(|| {
        let frame = Arc::new(frame());
        let held = Arc::new(AtomicU64::new(0));
        frame.get(DOM).unwrap();
        assert!(matches!(frame.begin_type(Kind::L1), Ok(Begun::Started(_))));
        let first = {
            let (frame, held) = (frame.clone(), held.clone());
            thread::spawn(move || {
                held.store(7, Ordering::Relaxed);
                frame.suspend(Kind::L1, Progress { resume: 7, ..Progress::START });
            })
        };
        let second = {
            let (frame, held) = (frame.clone(), held.clone());
            thread::spawn(move || {
                frame.get(DOM).unwrap();
                match frame.begin_type(Kind::L1) {
                    Ok(Begun::Resumed(progress)) => {
                        assert_eq!(u64::from(progress.resume), held.load(Ordering::Relaxed));
                        frame.publish(Kind::L1, None);
                        frame.put();
                        true
                    }
                    Err(BeginError::Contended) => {
                        frame.put();
                        false
                    }
                    // It was undone before: from the start again, with nothing held.
                    Ok(Begun::Started(_)) => {
                        frame.finish(Kind::L1, None);
                        frame.put();
                        false
                    }
                    other => panic!("{other:?}"),
                }
            })
        };
        let third = {
            let (frame, held) = (frame.clone(), held.clone());
            thread::spawn(move || match frame.begin_undo() {
                Some((kind, progress)) => {
                    assert_eq!(u64::from(progress.resume), held.load(Ordering::Relaxed));
                    frame.finish(kind, None);
                    frame.put();
                    true
                }
                None => false,
            })
        };
        first.join().unwrap();
        let (resumed, undone) = (second.join().unwrap(), third.join().unwrap());
        assert!(!(resumed && undone));
        let references = frame.info().references();
        assert_eq!(references, if undone { 1 } else { 2 });
    });
}

/// A pin is one reference, whoever tries.
#[test]
fn loom_a_table_is_pinned_once() {
    super::model(|| {
        let frame = Arc::new(frame());
        assert!(take(&frame, Kind::L1, || {}));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let frame = frame.clone();
                thread::spawn(move || {
                    assert!(
                        frame.get_type_ref(Kind::L1)
                            || frame.get_type_ref(Kind::L1)
                            || frame.get_type_ref(Kind::L1)
                    );
                    let pinned = frame.set_pinned();
                    if !pinned {
                        assert_eq!(frame.put_type_ref(Kind::L1, None), PutOutcome::StillHeld);
                    }
                    pinned
                })
            })
            .collect();
        let pins = threads.into_iter().map(|t| t.join().unwrap()).filter(|&pinned| pinned).count();
        assert_eq!(pins, 1);
        assert_eq!(frame.info().type_count(), 2);
        assert!(frame.clear_pinned().is_ok());
        assert!(frame.clear_pinned().is_err());
    });
}
