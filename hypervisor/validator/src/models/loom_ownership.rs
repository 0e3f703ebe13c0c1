//! Owners: a frame changes hands only when nobody holds it (`INV-OWNER`).

use crate::frame_table::{Begun, FrameEntry, Kind, LastUser, PutOutcome, State, owned_pattern};
use crate::ids::DomId;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use std::vec::Vec;

const OLD: DomId = DomId::new(1);
const NEW: DomId = DomId::new(2);

fn frame() -> FrameEntry {
    let frame = FrameEntry::new();
    assert!(frame.make_ram() && frame.begin_alloc());
    frame.assign_to(OLD);
    frame
}

/// Takes the frame back and gives it to another domain.
fn hand_over(frame: &FrameEntry) -> bool {
    if frame.take_back(OLD).is_err() {
        return false;
    }
    frame.make_free(LastUser::Domain(OLD), 5);
    if !frame.begin_alloc() {
        return false;
    }
    assert_eq!(frame.last_user(), Some((LastUser::Domain(OLD), 5)));
    frame.assign_to(NEW);
    true
}

/// Who has a general reference has a frame of the owner that it asked for.
#[test]
fn loom_a_held_frame_keeps_its_owner() {
    super::model(|| {
        let frame = Arc::new(frame());
        let taker = {
            let frame = frame.clone();
            thread::spawn(move || hand_over(&frame))
        };
        let holders: Vec<_> = (0..2)
            .map(|_| {
                let frame = frame.clone();
                thread::spawn(move || {
                    if frame.get_owned(owned_pattern(OLD)) {
                        assert_eq!(frame.info().owner(), Some(OLD));
                        frame.put();
                    }
                })
            })
            .collect();
        taker.join().unwrap();
        for holder in holders {
            holder.join().unwrap();
        }
        assert_eq!(frame.info().references(), 1);
    });
}

/// A word about a frame that its owner may write, as the machine-to-physical table has one, while the
/// frame is handed over.
fn word_of_a_frame(write: fn(&FrameEntry, &AtomicU64)) {
    const NEWS: u64 = 2;
    super::model(move || {
        let frame = Arc::new(frame());
        let word = Arc::new(AtomicU64::new(0));
        let writer = {
            let (frame, word) = (frame.clone(), word.clone());
            thread::spawn(move || write(&frame, &word))
        };
        let handed_over = hand_over(&frame);
        if handed_over {
            word.store(NEWS, Ordering::Relaxed);
        }
        writer.join().unwrap();
        assert_eq!(word.load(Ordering::Relaxed) == NEWS, handed_over);
    });
}

/// What the old owner writes there: anything but [`word_of_a_frame`]'s.
const OLDS: u64 = 1;

/// What the old owner writes while it holds the frame can't come after the new owner's word.
#[test]
fn loom_an_m2p_entry_is_written_only_by_the_owner() {
    word_of_a_frame(|frame, word| {
        if frame.get_owned(owned_pattern(OLD)) {
            word.store(OLDS, Ordering::Relaxed);
            frame.put();
        }
    });
}

/// The model would notice: a look at the owner isn't enough.
#[test]
#[should_panic(expected = "assertion")]
fn loom_a_word_that_is_written_after_a_look_is_caught() {
    word_of_a_frame(|frame, word| {
        if frame.is_owned(owned_pattern(OLD)) {
            word.store(OLDS, Ordering::Relaxed);
        }
    });
}

/// A type reference that was joined without a general one: the look at the owner afterwards finds
/// a frame that changed hands, even if its type word looks the same.
#[test]
fn loom_a_type_reference_belongs_to_the_expected_owner() {
    super::model(|| {
        let frame = Arc::new(frame());
        // The old owner has it writable.
        frame.get(OLD).unwrap();
        assert!(matches!(frame.begin_type(Kind::Writable), Ok(Begun::Started(_))));
        frame.publish(Kind::Writable, None);
        let taker = {
            let frame = frame.clone();
            thread::spawn(move || {
                if frame.put_type_ref(Kind::Writable, None) == PutOutcome::Idle {
                    frame.put();
                }
                // The new owner has it writable too: the type word is as it was.
                if hand_over(&frame) {
                    frame.get(NEW).unwrap();
                    match frame.begin_type(Kind::Writable) {
                        Ok(Begun::Started(_)) => frame.publish(Kind::Writable, None),
                        other => panic!("{other:?}"),
                    }
                }
            })
        };
        let joiner = {
            let frame = frame.clone();
            thread::spawn(move || {
                let owned = owned_pattern(OLD);
                if frame.is_owned(owned) && frame.get_type_ref(Kind::Writable) {
                    let mine = frame.is_owned(owned);
                    if mine {
                        // Held: nobody can take it away now.
                        assert_eq!(frame.info().owner(), Some(OLD));
                        assert!(frame.take_back(OLD).is_err());
                    }
                    if frame.put_type_ref(Kind::Writable, None) == PutOutcome::Idle {
                        frame.put();
                    }
                }
            })
        };
        taker.join().unwrap();
        joiner.join().unwrap();
        let info = frame.info();
        let engaged = u64::from(info.state() != State::Idle);
        assert_eq!(info.references(), 1 + engaged);
    });
}

/// A free frame goes to one domain only.
#[test]
fn loom_a_free_frame_is_given_once() {
    super::model(|| {
        let frame = Arc::new(FrameEntry::new());
        assert!(frame.make_ram());
        let threads: Vec<_> = [OLD, NEW]
            .into_iter()
            .map(|dom| {
                let frame = frame.clone();
                thread::spawn(move || {
                    let mine = frame.begin_alloc();
                    if mine {
                        frame.assign_to(dom);
                        assert_eq!(frame.info().owner(), Some(dom));
                    }
                    mine
                })
            })
            .collect();
        let given = threads.into_iter().map(|t| t.join().unwrap()).filter(|&mine| mine).count();
        assert_eq!(given, 1);
    });
}

/// A shared frame is taken back only when no mapping is left, and none comes after.
#[test]
fn loom_a_shared_frame_is_taken_back_unmapped() {
    super::model(|| {
        let frame = Arc::new(FrameEntry::new());
        assert!(frame.make_ram() && frame.begin_alloc());
        frame.share_with(OLD);
        let taker = {
            let frame = frame.clone();
            thread::spawn(move || {
                let taken = frame.take_back_shared(OLD).is_ok();
                if taken {
                    frame.make_free(LastUser::Domain(OLD), 1);
                }
                taken
            })
        };
        let mapper = {
            let frame = frame.clone();
            thread::spawn(move || {
                if frame.get(OLD).is_ok() {
                    let joined = frame.get_type_ref(Kind::Writable);
                    frame.put();
                    return joined;
                }
                false
            })
        };
        let (taken, mapped) = (taker.join().unwrap(), mapper.join().unwrap());
        assert!(!(taken && mapped), "taken back while mapped");
        let info = frame.info();
        if taken {
            assert_eq!(info.owner(), None);
        } else {
            assert_eq!(info.type_count(), 1 + u32::from(mapped));
        }
    });
}
