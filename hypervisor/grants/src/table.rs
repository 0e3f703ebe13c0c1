//! What a domain grants, and who uses it.
//!
//! Beside each entry, where the guest can't write, two words say how it is used:
//!
//! | word | bits   | meaning                                            |
//! |------|--------|----------------------------------------------------|
//! | 0    | 0..40  | the frame, as read when the first use began        |
//! | 0    | 48..64 | the domain that uses it                            |
//! | 1    | 0..32  | uses that read only                                |
//! | 1    | 32..64 | uses that may write                                |
//!
//! While the second word is zero the first means nothing.

use crate::entry::Entry;
use crate::words::Words;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::grant::{EntryFlags, Status};

/// Words about each entry.
pub const WORDS_PER_ENTRY: usize = 2;

/// How often an entry is looked at again when the guest keeps changing it.
const TRIES: usize = 8;

const FRAME: u64 = (1 << 40) - 1;
const DOMAIN_SHIFT: u32 = 48;
const ONE_READER: u64 = 1;
const ONE_WRITER: u64 = 1 << 32;
const READERS: u64 = u32::MAX as u64;

/// A domain's grants: entries that it writes, and what is known of their use.
#[derive(Debug)]
pub struct Table<E, U> {
    entries: E,
    uses: U,
    closed: bool,
}

impl<E: Words, U: Words> Table<E, U> {
    /// A table over entries and [`WORDS_PER_ENTRY`] words for each. Words about an entry must be
    /// zero when it comes into being.
    pub const fn new(entries: E, uses: U) -> Table<E, U> {
        Table { entries, uses, closed: false }
    }

    /// The entries.
    pub fn entries(&self) -> &E {
        &self.entries
    }

    /// The entries and what is about them, so that they can grow; nothing may shrink.
    pub fn parts(&mut self) -> (&mut E, &mut U) {
        (&mut self.entries, &mut self.uses)
    }

    /// The domain ends: nothing is granted from now on, and no entry is written again.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether the domain has ended.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn parts_of(&self, reference: u32) -> Option<(&AtomicU64, &AtomicU64, &AtomicU64)> {
        let index = usize::try_from(reference).ok()?;
        let first = index.checked_mul(WORDS_PER_ENTRY)?;
        Some((
            self.entries.word(index)?,
            self.uses.word(first)?,
            self.uses.word(first.checked_add(1)?)?,
        ))
    }

    /// Begins a use of a grant by a domain. Returns the frame, which is what it was when the first
    /// of the uses that go on began.
    ///
    /// # Errors
    /// [`Status::BadReference`]: there is no such entry. [`Status::GeneralError`]: it doesn't grant
    /// this, or the guest keeps changing it. [`Status::BadDomain`]: the domain has ended.
    pub fn begin(&mut self, reference: u32, domain: u16, write: bool) -> Result<u64, Status> {
        if self.closed {
            return Err(Status::BadDomain);
        }
        let (entry, who, uses) = self.parts_of(reference).ok_or(Status::BadReference)?;
        let (known, count) = (who.load(Ordering::Relaxed), uses.load(Ordering::Relaxed));
        if count != 0 && known >> DOMAIN_SHIFT != u64::from(domain) {
            return Err(Status::GeneralError);
        }
        // One more must fit; guests drive this count.
        let (readers, writers) = (count & READERS, count >> 32);
        if (if write { writers } else { readers }) == READERS {
            return Err(Status::GeneralError);
        }
        // What is marked already needs no look: the entry allowed it once.
        let marked = if write { writers != 0 } else { count != 0 };
        let frame = if marked {
            known & FRAME
        } else {
            let seen = mark(entry, domain, write)?;
            if count == 0 { seen.frame() } else { known & FRAME }
        };
        who.store(u64::from(domain) << DOMAIN_SHIFT | frame, Ordering::Relaxed);
        uses.store(count + if write { ONE_WRITER } else { ONE_READER }, Ordering::Relaxed);
        Ok(frame)
    }

    /// Ends a use that [`Table::begin`] began with the same arguments; marks that nothing stands
    /// for any more are taken off the entry. The domain must be unable to use the frame by now.
    ///
    /// Does nothing for a domain that has ended.
    pub fn end(&mut self, reference: u32, write: bool) {
        if self.closed {
            return;
        }
        let Some((entry, _, uses)) = self.parts_of(reference) else {
            debug_assert!(false, "a use of no entry ends");
            return;
        };
        let one = if write { ONE_WRITER } else { ONE_READER };
        let field = if write { READERS << 32 } else { READERS };
        let count = uses.load(Ordering::Relaxed);
        if count & field == 0 {
            debug_assert!(false, "a use ends that never began");
            return;
        }
        let left = count - one;
        uses.store(left, Ordering::Relaxed);
        let mut over = EntryFlags::empty();
        over.set(EntryFlags::WRITING, left >> 32 == 0);
        over.set(EntryFlags::READING, left == 0);
        // Release: what the user did with the frame is done when the guest sees the mark gone.
        entry.fetch_and(!u64::from(over.bits()), Ordering::Release);
    }

    /// Changes the places of two entries, neither of which may be in use.
    ///
    /// # Errors
    /// [`Status::BadReference`], [`Status::Again`] if one is in use.
    pub fn swap(&mut self, first: u32, second: u32) -> Result<(), Status> {
        let (a, _, uses_a) = self.parts_of(first).ok_or(Status::BadReference)?;
        let (b, _, uses_b) = self.parts_of(second).ok_or(Status::BadReference)?;
        if uses_a.load(Ordering::Relaxed) != 0 || uses_b.load(Ordering::Relaxed) != 0 {
            return Err(Status::Again);
        }
        if first != second {
            // The guest that writes to them meanwhile loses what it wrote.
            let entry = a.load(Ordering::Acquire);
            let entry = b.swap(entry, Ordering::AcqRel);
            a.store(entry, Ordering::Release);
        }
        Ok(())
    }

    /// Commits an entry that accepts a frame from a domain to the one that is about to come.
    ///
    /// # Errors
    /// [`Status::BadReference`]; [`Status::GeneralError`]: it doesn't accept that;
    /// [`Status::BadDomain`]: the domain has ended.
    pub fn begin_transfer(&mut self, reference: u32, from: u16) -> Result<(), Status> {
        if self.closed {
            return Err(Status::BadDomain);
        }
        let (entry, ..) = self.parts_of(reference).ok_or(Status::BadReference)?;
        let mut seen = Entry(entry.load(Ordering::Acquire));
        for _ in 0..TRIES {
            // Exactly the type: neither committed nor completed already.
            if seen.flags() != EntryFlags::ACCEPT_TRANSFER || seen.domain() != from {
                return Err(Status::GeneralError);
            }
            let next = seen.with(EntryFlags::TRANSFER_COMMITTED);
            match entry.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(now) => seen = Entry(now),
            }
        }
        Err(Status::GeneralError)
    }

    /// Takes [`Table::begin_transfer`] back: no frame comes.
    pub fn abort_transfer(&mut self, reference: u32) {
        if let Some((entry, ..)) = self.parts_of(reference) {
            let committed = u64::from(EntryFlags::TRANSFER_COMMITTED.bits());
            entry.fetch_and(!committed, Ordering::Release);
        }
    }

    /// Ends [`Table::begin_transfer`]: the frame is the domain's.
    pub fn end_transfer(&mut self, reference: u32, frame: u64) {
        if let Some((entry, ..)) = self.parts_of(reference) {
            let mut seen = entry.load(Ordering::Relaxed);
            loop {
                let flags = Entry(seen).with(EntryFlags::TRANSFER_COMPLETED).0 & 0xffff_ffff;
                let next = flags | frame << 32;
                // Release: who sees it completed sees the frame's number, and the frame.
                match entry.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => return,
                    Err(now) => seen = now,
                }
            }
        }
    }
}

/// Marks an entry as in use, if it grants that. Returns it as it was when it was marked.
///
/// Acquire and release: what the guest wrote to the frame before it granted it is seen by who uses
/// it; and who takes a grant back, and finds it unmarked, has taken it back.
fn mark(entry: &AtomicU64, domain: u16, write: bool) -> Result<Entry, Status> {
    let mut seen = Entry(entry.load(Ordering::Acquire));
    for _ in 0..TRIES {
        let granted = seen.kind() == EntryFlags::PERMIT_ACCESS
            && seen.domain() == domain
            && !(write && seen.flags().contains(EntryFlags::READ_ONLY));
        if !granted {
            return Err(Status::GeneralError);
        }
        let mut marks = EntryFlags::READING;
        marks.set(EntryFlags::WRITING, write);
        let next = seen.with(marks);
        match entry.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Ok(seen),
            Err(now) => seen = Entry(now),
        }
    }
    Err(Status::GeneralError)
}
