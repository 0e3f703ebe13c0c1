//! A granter's table: entries that the guest writes, and use counts that it can't.
//!
//! Two words of use counts for each entry:
//!
//! | word | bits   | meaning                                                 |
//! |------|--------|---------------------------------------------------------|
//! | 0    | 0..40  | machine frame, as read when the first current use began |
//! | 0    | 48..64 | the domain that uses it                                 |
//! | 1    | 0..32  | current read-only uses                                  |
//! | 1    | 32..64 | current writable uses                                   |
//!
//! Word 0 is meaningless while word 1 is zero.

use crate::entry::{flags, from_word, to_word, type_of, with_flags};
use crate::word_array::WordArray;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_abi::address::Mfn;
use pinfold_abi::grant::{EntryFlags, EntryV1, Status};

/// Words of use counts for each entry.
pub const WORDS_PER_ENTRY: usize = 2;

/// Attempts to change an entry that the guest keeps changing.
const MAX_ATTEMPTS: usize = 8;

const FRAME: u64 = (1 << 40) - 1;
const DOMAIN_SHIFT: u32 = 48;
const ONE_READER: u64 = 1;
const WRITERS_SHIFT: u32 = 32;
const ONE_WRITER: u64 = 1 << WRITERS_SHIFT;
const READERS: u64 = u32::MAX as u64;

/// A domain's grant table: its entries and how they are used.
#[derive(Debug)]
pub struct GrantTable<E, U> {
    entries: E,
    use_counts: U,
    closed: bool,
}

/// The words of one entry.
struct EntryWords<'a> {
    entry: &'a AtomicU64,
    user: &'a AtomicU64,
    counts: &'a AtomicU64,
}

impl<E: WordArray, U: WordArray> GrantTable<E, U> {
    /// A table over entries and [`WORDS_PER_ENTRY`] words of use counts for each. The counts of an
    /// entry must be zero when the entry is added.
    pub const fn new(entries: E, use_counts: U) -> GrantTable<E, U> {
        GrantTable { entries, use_counts, closed: false }
    }

    /// The storage of the entries.
    pub fn entries(&self) -> &E {
        &self.entries
    }

    /// The storage of entries and use counts, so that the caller can make them grow. They must not
    /// shrink before [`GrantTable::close`].
    pub fn storage_mut(&mut self) -> (&mut E, &mut U) {
        (&mut self.entries, &mut self.use_counts)
    }

    /// Closes the table because its domain is being destroyed: no grant can be acquired from now
    /// on, and no entry is written again.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether [`GrantTable::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn words_of(&self, reference: u32) -> Option<EntryWords<'_>> {
        let index = usize::try_from(reference).ok()?;
        let first = index.checked_mul(WORDS_PER_ENTRY)?;
        Some(EntryWords {
            entry: self.entries.word(index)?,
            user: self.use_counts.word(first)?,
            counts: self.use_counts.word(first.checked_add(1)?)?,
        })
    }

    /// Begins a use of a grant by `domain`. Returns the machine frame; if the grant is in
    /// use already, the same one that those uses got.
    ///
    /// # Errors
    /// * [`Status::BadReference`]: no such entry.
    /// * [`Status::GeneralError`]: the entry doesn't grant this, there are 2^32 - 1 uses of the same
    ///   kind already, or the guest keeps changing the entry.
    /// * [`Status::BadDomain`]: the table is closed.
    pub fn acquire(&mut self, reference: u32, domain: u16, write: bool) -> Result<Mfn, Status> {
        if self.closed {
            return Err(Status::BadDomain);
        }
        let words = self.words_of(reference).ok_or(Status::BadReference)?;
        let user = words.user.load(Ordering::Relaxed);
        let counts = words.counts.load(Ordering::Relaxed);
        if counts != 0 && user >> DOMAIN_SHIFT != u64::from(domain) {
            return Err(Status::GeneralError);
        }
        // Guests can make these counts grow; they must not overflow.
        let (readers, writers) = (counts & READERS, counts >> WRITERS_SHIFT);
        if (if write { writers } else { readers }) == READERS {
            return Err(Status::GeneralError);
        }
        // A current use of the same kind has checked the entry and set its flags.
        let already_set = if write { writers != 0 } else { counts != 0 };
        let frame = if already_set {
            user & FRAME
        } else {
            let seen = set_in_use(words.entry, domain, write)?;
            if counts == 0 { seen.frame.into() } else { user & FRAME }
        };
        words.user.store(u64::from(domain) << DOMAIN_SHIFT | frame, Ordering::Relaxed);
        words.counts.store(counts + if write { ONE_WRITER } else { ONE_READER }, Ordering::Relaxed);
        Ok(Mfn::new(frame))
    }

    /// Ends a use that [`GrantTable::acquire`] began with the same reference and `write`, and
    /// clears the flags of the entry that no use needs any more. The domain that used the frame
    /// must not be able to access it any more, stale TLB entries included.
    ///
    /// Does nothing once the table is closed.
    pub fn release(&mut self, reference: u32, write: bool) {
        if self.closed {
            return;
        }
        let Some(words) = self.words_of(reference) else {
            debug_assert!(false, "released a reference that doesn't exist");
            return;
        };
        let one = if write { ONE_WRITER } else { ONE_READER };
        let field = if write { READERS << WRITERS_SHIFT } else { READERS };
        let counts = words.counts.load(Ordering::Relaxed);
        if counts & field == 0 {
            debug_assert!(false, "released a reference that isn't in use");
            return;
        }
        let left = counts - one;
        words.counts.store(left, Ordering::Relaxed);
        let mut unneeded = EntryFlags::empty();
        unneeded.set(EntryFlags::WRITING, left >> WRITERS_SHIFT == 0);
        unneeded.set(EntryFlags::READING, left == 0);
        // Release: a guest that sees the flag cleared also sees all stores to the frame.
        words.entry.fetch_and(!u64::from(unneeded.bits()), Ordering::Release);
    }

    /// Exchanges two entries, neither of which may be in use (`GNTTABOP_swap_grant_ref`).
    ///
    /// # Errors
    /// [`Status::BadReference`]: no such entry. [`Status::Again`]: one of them is in use.
    pub fn swap(&mut self, first: u32, second: u32) -> Result<(), Status> {
        let a = self.words_of(first).ok_or(Status::BadReference)?;
        let b = self.words_of(second).ok_or(Status::BadReference)?;
        if a.counts.load(Ordering::Relaxed) != 0 || b.counts.load(Ordering::Relaxed) != 0 {
            return Err(Status::Again);
        }
        if first != second {
            // Not atomic as a whole: a guest that writes to the entries meanwhile loses what it wrote.
            let entry = a.entry.load(Ordering::Acquire);
            let entry = b.entry.swap(entry, Ordering::AcqRel);
            a.entry.store(entry, Ordering::Release);
        }
        Ok(())
    }

    /// Commits an entry that accepts a transfer from domain `from`: sets `GTF_transfer_committed`.
    /// The caller then moves the frame, and calls [`GrantTable::complete_transfer`] or
    /// [`GrantTable::abort_transfer`].
    ///
    /// # Errors
    /// * [`Status::BadReference`]: no such entry.
    /// * [`Status::GeneralError`]: the entry doesn't accept a transfer from this domain, or has
    ///   accepted one already.
    /// * [`Status::BadDomain`]: the table is closed.
    pub fn commit_transfer(&mut self, reference: u32, from: u16) -> Result<(), Status> {
        if self.closed {
            return Err(Status::BadDomain);
        }
        let entry = self.words_of(reference).ok_or(Status::BadReference)?.entry;
        update(entry, |seen| {
            // No other flag may be set: neither committed nor completed already.
            let accepts = flags(seen) == EntryFlags::ACCEPT_TRANSFER && seen.domid == from;
            accepts.then(|| with_flags(seen, EntryFlags::TRANSFER_COMMITTED))
        })
        .map(|_| ())
    }

    /// Reverts [`GrantTable::commit_transfer`]: no frame was transferred.
    pub fn abort_transfer(&mut self, reference: u32) {
        if let Some(words) = self.words_of(reference) {
            let committed = u64::from(EntryFlags::TRANSFER_COMMITTED.bits());
            words.entry.fetch_and(!committed, Ordering::Release);
        }
    }

    /// Completes a transfer after [`GrantTable::commit_transfer`]: `frame` belongs to the domain
    /// now. Writes its number, of which version 1 of the table holds 32 bits, into the entry and
    /// sets `GTF_transfer_completed`.
    pub fn complete_transfer(&mut self, reference: u32, frame: Mfn) {
        let Some(words) = self.words_of(reference) else { return };
        // Release: a guest that sees the flag also sees the frame number, and the frame's contents.
        let _ = words.entry.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
            let entry = with_flags(from_word(word), EntryFlags::TRANSFER_COMPLETED);
            #[expect(clippy::cast_possible_truncation, reason = "version 1 holds 32 bits")]
            let frame = frame.get() as u32;
            Some(to_word(EntryV1 { frame, ..entry }))
        });
    }
}

/// Sets the in-use flags of an entry if it grants this access. Returns the entry as it was.
fn set_in_use(entry: &AtomicU64, domain: u16, write: bool) -> Result<EntryV1, Status> {
    let mut in_use = EntryFlags::READING;
    in_use.set(EntryFlags::WRITING, write);
    update(entry, |seen| {
        let granted = type_of(seen) == EntryFlags::PERMIT_ACCESS
            && seen.domid == domain
            && !(write && flags(seen).contains(EntryFlags::READ_ONLY));
        granted.then(|| with_flags(seen, in_use))
    })
}

/// Replaces an entry by what `change` makes of it. Returns the entry as it was.
///
/// Acquire: the user of a grant sees what the guest wrote to the frame before it granted it.
/// Release: a guest that revokes a grant with a compare-exchange, and finds it not in use, knows
/// that it can't be acquired any more.
///
/// # Errors
/// [`Status::GeneralError`]: `change` refuses the entry, or the guest changed it too often.
fn update(
    entry: &AtomicU64,
    change: impl Fn(EntryV1) -> Option<EntryV1>,
) -> Result<EntryV1, Status> {
    let mut seen = entry.load(Ordering::Acquire);
    for _ in 0..MAX_ATTEMPTS {
        let new = to_word(change(from_word(seen)).ok_or(Status::GeneralError)?);
        match entry.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Ok(from_word(seen)),
            Err(now) => seen = now,
        }
    }
    Err(Status::GeneralError)
}
