//! The buffer: records, one after the other, each charged to its source.

use crate::ring::Ring;
use crate::source::{Quotas, SOURCES, Source};
use arrayvec::ArrayString;
use core::fmt::Write;
use pinfold_abi::record::{Head, kind};

/// Ends a line that is to be taken as not written: CAN, and a line end.
pub const CANCEL: &[u8] = b"\x18\r\n";
/// Longest record, its line end included.
pub const MAX_RECORD: usize = 1024;
/// Bytes before each record in the ring: its source, and its length.
const HEADER: usize = 3;
/// Bytes that a DROPPED record can have.
const NOTICE: usize = 128;
/// What can stand before a record beside its header: a cancelled line, and what was dropped.
pub(crate) const OVERHEAD: usize = HEADER + CANCEL.len() + NOTICE;

/// There is no room for it in its source's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A line of a guest's in the making.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// What every line begins with.
    pub head: &'a [u8],
    /// All of it so far, without line ends.
    pub text: &'a [u8],
    /// Bytes of it that were written before.
    pub shown: usize,
    /// Nothing more comes.
    pub whole: bool,
}

/// A source's account.
#[derive(Clone, Copy, Debug)]
struct Account {
    /// Bytes in the ring, headers included, until the last byte of a record has left.
    held: usize,
    /// Records that were dropped since the log was last told.
    dropped: u64,
    /// It dropped something, and drops everything until half its room is free: a few whole reports
    /// are worth more than a line here and there.
    dropping: bool,
    /// Somebody waits until half its room is free.
    awaited: bool,
}

/// What leaves the ring now.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    source: usize,
    /// Bytes that are still in the ring.
    left: usize,
    /// Bytes that are charged to the source.
    held: usize,
}

/// A buffer of `N` bytes, all of it zeros at first.
#[derive(Debug)]
pub struct LogBuffer<const N: usize> {
    ring: Ring<N>,
    accounts: [Account; SOURCES],
    quotas: Quotas,
    leaving: Leaving,
    /// Number of the domain whose unfinished line is the last that was written; 0: none.
    unfinished: u16,
    /// Somebody who waited may go on.
    awaited: bool,
}

impl<const N: usize> LogBuffer<N> {
    /// An empty buffer in which nobody has room yet.
    pub const fn new() -> LogBuffer<N> {
        const EMPTY: Account = Account { held: 0, dropped: 0, dropping: false, awaited: false };
        LogBuffer {
            ring: Ring::new(),
            accounts: [EMPTY; SOURCES],
            quotas: Quotas::none(),
            leaving: Leaving { source: 0, left: 0, held: 0 },
            unfinished: 0,
            awaited: false,
        }
    }

    /// Divides the room anew. What is held already stays.
    ///
    /// # Panics
    /// If the quotas add up to more than the buffer has.
    pub fn set_quotas(&mut self, quotas: Quotas) {
        assert!(quotas.total() <= N, "the sources have more room than there is");
        self.quotas = quotas;
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes a whole record with its line end, or counts it as dropped.
    ///
    /// # Errors
    /// [`Full`]: it was dropped.
    pub fn append(&mut self, micros: u64, source: Source, record: &[u8]) -> Result<(), Full> {
        let result = self.write(micros, source, None, &[record]);
        if result.is_err() {
            self.count_dropped(source);
        } else {
            self.unfinished = 0;
        }
        result
    }

    /// Writes what is new of a line of a domain's; all of it, if something came in between. A line
    /// that doesn't fit isn't dropped: [`LogBuffer::take_awaited`] tells when to try again.
    ///
    /// # Errors
    /// [`Full`]: nothing was written.
    pub fn append_line(
        &mut self,
        micros: u64,
        source: Source,
        domain: u16,
        line: &Line<'_>,
    ) -> Result<(), Full> {
        let end: &[u8] = if line.whole { b"\r\n" } else { b"" };
        let goes_on = self.unfinished == domain && self.account(source).dropped == 0;
        let result = if goes_on {
            let new = line.text.get(line.shown..).unwrap_or_default();
            self.write(micros, source, Some(domain), &[new, end])
        } else {
            self.write(micros, source, None, &[line.head, line.text, end])
        };
        match result {
            Ok(()) => self.unfinished = if line.whole { 0 } else { domain },
            Err(Full) => self.accounts[source.index()].awaited = true,
        }
        result
    }

    /// Counts a record of a source that was dropped.
    pub fn count_dropped(&mut self, source: Source) {
        let account = &mut self.accounts[source.index()];
        account.dropped = account.dropped.saturating_add(1);
        account.dropping = true;
    }

    /// Tells what was dropped and not told yet: of a domain that has ended, or of all sources. A
    /// count that there is no room for stays.
    pub fn tell_dropped(&mut self, micros: u64, domain: Option<u16>) {
        for index in 0..SOURCES {
            let source = Source::at(index);
            let wanted = domain.is_none_or(|domain| source.teller() == Source::Lifecycle(domain));
            let Some(notice) = self.notice(micros, source).filter(|_| wanted) else { continue };
            let teller = source.teller().index();
            let cancel = self.cancel(None);
            if self.push(teller, &[cancel, notice.as_bytes()]).is_ok() {
                self.unfinished = 0;
                self.accounts[index].dropped = 0;
            }
        }
    }

    /// Takes the oldest bytes out, for the port. Returns how many.
    pub fn take(&mut self, to: &mut [u8]) -> usize {
        let mut done = 0;
        while done < to.len() {
            if self.leaving.left == 0 && !self.begin_to_leave() {
                break;
            }
            let room = to.len() - done;
            let piece = &mut to[done..done + room.min(self.leaving.left)];
            let count = self.ring.take(piece);
            if count == 0 {
                // The rest of the record isn't there: a panic cut its writer short.
                self.leaving.left = 0;
                break;
            }
            done += count;
            self.leaving.left -= count;
            if self.leaving.left == 0 {
                self.release();
            }
        }
        done
    }

    /// Whether somebody whose line was refused may try again; once each time.
    pub fn take_awaited(&mut self) -> bool {
        core::mem::take(&mut self.awaited)
    }

    /// Whether the last line is unfinished; it is taken for cancelled from now on.
    pub fn take_unfinished(&mut self) -> bool {
        core::mem::take(&mut self.unfinished) != 0
    }

    /// Bytes that a source holds.
    #[cfg(test)]
    pub(crate) fn held(&self, source: Source) -> usize {
        self.account(source).held
    }

    fn account(&self, source: Source) -> &Account {
        &self.accounts[source.index()]
    }

    /// What makes sure that the next byte begins a line, unless it goes on with this domain's.
    fn cancel(&self, goes_on: Option<u16>) -> &'static [u8] {
        match self.unfinished {
            0 => b"",
            domain if goes_on == Some(domain) => b"",
            _ => CANCEL,
        }
    }

    /// Writes pieces as one record, after a word about those that were dropped before it.
    fn write(
        &mut self,
        micros: u64,
        source: Source,
        goes_on: Option<u16>,
        pieces: &[&[u8]],
    ) -> Result<(), Full> {
        let account = self.account(source);
        if account.dropping && account.held > self.quotas.of(source) / 2 {
            return Err(Full);
        }
        let notice = self.notice(micros, source).unwrap_or_default();
        let [first, second, third] = match *pieces {
            [one] => [one, b"", b""],
            [one, two] => [one, two, b""],
            [one, two, three, ..] => [one, two, three],
            [] => return Ok(()),
        };
        let all = [self.cancel(goes_on), notice.as_bytes(), first, second, third];
        self.push(source.index(), &all)?;
        let account = &mut self.accounts[source.index()];
        (account.dropped, account.dropping) = (0, false);
        Ok(())
    }

    /// Puts pieces in as one record, if its source has room for it.
    fn push(&mut self, source: usize, pieces: &[&[u8]]) -> Result<(), Full> {
        let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if length == 0 {
            return Ok(());
        }
        let quota = self.quotas.of(Source::at(source));
        let charge = length + HEADER;
        let Ok(short) = u16::try_from(length) else { return Err(Full) };
        if self.accounts[source].held + charge > quota {
            return Err(Full);
        }
        let [low, high] = short.to_le_bytes();
        let header = [source as u8, low, high];
        let mut all: [&[u8]; 6] = [&header, b"", b"", b"", b"", b""];
        for (place, piece) in all[1..].iter_mut().zip(pieces) {
            *place = piece;
        }
        // There is room: the quotas add up to no more than the ring has.
        if !self.ring.put(&all) {
            return Err(Full);
        }
        self.accounts[source].held += charge;
        Ok(())
    }

    /// The DROPPED record that a source owes.
    fn notice(&self, micros: u64, source: Source) -> Option<ArrayString<NOTICE>> {
        let dropped = self.account(source).dropped;
        let head = Head { micros, who: source.who(), kind: kind::DROPPED };
        (dropped != 0).then(|| {
            let mut notice = ArrayString::new();
            // Shorter than the room in any case: 20 digits each at most.
            let _ = write!(
                notice,
                "{head} records={dropped} cause=buffer_full of={}\r\n",
                source.name()
            );
            notice
        })
    }

    /// Reads the header of the next record.
    fn begin_to_leave(&mut self) -> bool {
        let mut header = [0; HEADER];
        if self.ring.take(&mut header) < HEADER {
            return false;
        }
        let [source, low, high] = header;
        let left = usize::from(u16::from_le_bytes([low, high]));
        self.leaving = Leaving { source: source.into(), left, held: left + HEADER };
        true
    }

    /// A record has left.
    fn release(&mut self) {
        let Leaving { source, held, .. } = self.leaving;
        let quota = self.quotas.of(Source::at(source));
        // It can't be missing, unless a panic broke the lock.
        let Some(account) = self.accounts.get_mut(source) else { return };
        account.held = account.held.saturating_sub(held);
        if account.awaited && account.held <= quota / 2 {
            account.awaited = false;
            self.awaited = true;
        }
    }
}

impl<const N: usize> Default for LogBuffer<N> {
    fn default() -> LogBuffer<N> {
        LogBuffer::new()
    }
}
