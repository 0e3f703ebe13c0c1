//! The buffer: records in a ring, each charged to its source.

use crate::ring::Ring;
use crate::sizes::{CANCEL, HEADER, MAX_DROPPED_RECORD};
use crate::source::{Quotas, SOURCES, Source};
use arrayvec::ArrayString;
use core::fmt::Write;
use pinfold_abi::record::{Dropped, Head, kind};

/// The record doesn't fit into what is left of its source's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A line that a guest prints, as far as it has printed it.
#[derive(Clone, Copy, Debug)]
pub struct ConsoleLine<'a> {
    /// The beginning of the line: time, domain, kind.
    pub prefix: &'a [u8],
    /// The text so far, without line ends.
    pub text: &'a [u8],
    /// Bytes of the text that earlier calls have written.
    pub written: usize,
    /// The text is complete: end the line.
    pub complete: bool,
}

/// What a source holds and has lost.
#[derive(Clone, Copy, Debug)]
struct Account {
    /// Bytes in the ring, headers included, until the last byte of a record has been read.
    used: usize,
    /// Records dropped since the last DROPPED record.
    dropped: u64,
    /// The source dropped a record. It drops everything until half of its quota is free: a few
    /// complete reports are worth more than single lines of many.
    dropping: bool,
    /// A writer waits until half of the quota is free.
    has_waiter: bool,
}

/// The record that is being read.
#[derive(Clone, Copy, Debug)]
struct Outgoing {
    source: usize,
    /// Bytes that are still in the ring.
    left: usize,
    /// Bytes that are charged to the source.
    charged: usize,
}

/// A log buffer of `N` bytes. A new one is all zeros, so a static one takes no room in the image.
#[derive(Debug)]
pub struct LogBuffer<const N: usize> {
    ring: Ring<N>,
    accounts: [Account; SOURCES],
    quotas: Quotas,
    outgoing: Outgoing,
    /// The domain whose incomplete line was written last; 0: the last line is complete.
    incomplete: u16,
    /// A writer that waited may try again.
    wakeup: bool,
}

impl<const N: usize> LogBuffer<N> {
    /// An empty buffer; all quotas are zero.
    pub const fn new() -> LogBuffer<N> {
        const EMPTY: Account = Account { used: 0, dropped: 0, dropping: false, has_waiter: false };
        LogBuffer {
            ring: Ring::new(),
            accounts: [EMPTY; SOURCES],
            quotas: Quotas::none(),
            outgoing: Outgoing { source: 0, left: 0, charged: 0 },
            incomplete: 0,
            wakeup: false,
        }
    }

    /// Sets the quotas. Records in the buffer stay, also beyond a smaller quota.
    ///
    /// # Panics
    /// If the quotas add up to more than the buffer has.
    pub fn set_quotas(&mut self, quotas: Quotas) {
        assert!(quotas.total() <= N, "the quotas exceed the buffer");
        self.quotas = quotas;
    }

    /// Bytes in the buffer, record headers included.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether the buffer is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a record, which includes its line end, or counts it as dropped. `micros`: time since
    /// boot, for the DROPPED record that may have to be written before it.
    ///
    /// # Errors
    /// [`Full`]: the record was dropped.
    pub fn append(&mut self, micros: u64, source: Source, record: &[u8]) -> Result<(), Full> {
        let result = self.write(micros, source, None, &[record]);
        if result.is_err() {
            self.count_dropped(source);
        } else {
            self.incomplete = 0;
        }
        result
    }

    /// Appends the part of a domain's line that is not written yet; the whole line if another record
    /// came in between. A line that doesn't fit isn't dropped: its writer waits, and
    /// [`LogBuffer::take_wakeup`] says when to try again.
    ///
    /// # Errors
    /// [`Full`]: nothing was written.
    pub fn append_line(
        &mut self,
        micros: u64,
        source: Source,
        domain: u16,
        line: &ConsoleLine<'_>,
    ) -> Result<(), Full> {
        let end: &[u8] = if line.complete { b"\r\n" } else { b"" };
        let continues = self.incomplete == domain && self.account(source).dropped == 0;
        let result = if continues {
            let new = line.text.get(line.written..).unwrap_or_default();
            self.write(micros, source, Some(domain), &[new, end])
        } else {
            self.write(micros, source, None, &[line.prefix, line.text, end])
        };
        match result {
            Ok(()) => self.incomplete = if line.complete { 0 } else { domain },
            Err(Full) => self.accounts[source.index()].has_waiter = true,
        }
        result
    }

    /// Counts a record of a source as dropped.
    pub fn count_dropped(&mut self, source: Source) {
        let account = &mut self.accounts[source.index()];
        account.dropped = account.dropped.saturating_add(1);
        account.dropping = true;
    }

    /// Appends the DROPPED records that sources owe: those of one domain, or of all sources. For the
    /// end of a domain or of a run, when no record follows that would bring them along. A source
    /// whose DROPPED record doesn't fit keeps its count.
    pub fn append_dropped(&mut self, micros: u64, domain: Option<u16>) {
        for index in 0..SOURCES {
            let source = Source::from_index(index);
            let charged = source.charged_for_dropped();
            let wanted = domain.is_none_or(|domain| charged == Source::Lifecycle(domain));
            let record = self.dropped_record(micros, source).filter(|_| wanted);
            let Some(record) = record else { continue };
            let cancel = self.cancel(None);
            if self.push(charged, &[cancel, record.as_bytes()]).is_ok() {
                self.incomplete = 0;
                self.accounts[index].dropped = 0;
            }
        }
    }

    /// Reads and removes the oldest bytes, for the serial port. Returns how many.
    pub fn read(&mut self, to: &mut [u8]) -> usize {
        let mut done = 0;
        while done < to.len() {
            if self.outgoing.left == 0 && !self.read_header() {
                break;
            }
            let room = to.len() - done;
            let piece = &mut to[done..done + room.min(self.outgoing.left)];
            let count = self.ring.read(piece);
            if count == 0 {
                // The rest of the record is missing: a panic interrupted its writer.
                self.outgoing.left = 0;
                break;
            }
            done += count;
            self.outgoing.left -= count;
            if self.outgoing.left == 0 {
                self.release();
            }
        }
        done
    }

    /// Whether a writer that [`LogBuffer::append_line`] refused should try again. Says so once.
    pub fn take_wakeup(&mut self) -> bool {
        core::mem::take(&mut self.wakeup)
    }

    /// Whether the last line is incomplete. From now on it counts as cancelled, so that a panic can
    /// write [`CANCEL`] behind it.
    pub fn take_incomplete(&mut self) -> bool {
        core::mem::take(&mut self.incomplete) != 0
    }

    /// Bytes that are charged to a source.
    #[cfg(test)]
    pub(crate) fn used(&self, source: Source) -> usize {
        self.account(source).used
    }

    fn account(&self, source: Source) -> &Account {
        &self.accounts[source.index()]
    }

    /// What to write before the next byte so that it begins a line, unless it continues the line of
    /// domain `continues`.
    fn cancel(&self, continues: Option<u16>) -> &'static [u8] {
        match self.incomplete {
            0 => b"",
            domain if continues == Some(domain) => b"",
            _ => CANCEL,
        }
    }

    /// Writes `parts` as one record, after the DROPPED record that the source owes.
    fn write(
        &mut self,
        micros: u64,
        source: Source,
        continues: Option<u16>,
        parts: &[&[u8]],
    ) -> Result<(), Full> {
        let account = self.account(source);
        if account.dropping && account.used > self.quotas.of(source) / 2 {
            return Err(Full);
        }
        let dropped = self.dropped_record(micros, source).unwrap_or_default();
        let [first, second, third] = match *parts {
            [one] => [one, b"", b""],
            [one, two] => [one, two, b""],
            [one, two, three, ..] => [one, two, three],
            [] => return Ok(()),
        };
        let all = [self.cancel(continues), dropped.as_bytes(), first, second, third];
        self.push(source, &all)?;
        let account = &mut self.accounts[source.index()];
        (account.dropped, account.dropping) = (0, false);
        Ok(())
    }

    /// Writes `parts` as one record and charges it to `source`.
    fn push(&mut self, source: Source, parts: &[&[u8]]) -> Result<(), Full> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if length == 0 {
            return Ok(());
        }
        let quota = self.quotas.of(source);
        let charge = length + HEADER;
        let Ok(short) = u16::try_from(length) else { return Err(Full) };
        let index = source.index();
        if self.accounts[index].used + charge > quota {
            return Err(Full);
        }
        let [low, high] = short.to_le_bytes();
        #[expect(clippy::cast_possible_truncation, reason = "`SOURCES` is below 256")]
        let header = [index as u8, low, high];
        let mut all: [&[u8]; 6] = [&header, b"", b"", b"", b"", b""];
        for (slot, part) in all[1..].iter_mut().zip(parts) {
            *slot = part;
        }
        // Can't fail: the quotas add up to no more than the ring has.
        if !self.ring.write(&all) {
            return Err(Full);
        }
        self.accounts[index].used += charge;
        Ok(())
    }

    /// The DROPPED record that a source owes.
    fn dropped_record(
        &self,
        micros: u64,
        source: Source,
    ) -> Option<ArrayString<MAX_DROPPED_RECORD>> {
        let dropped = self.account(source).dropped;
        let head = Head { micros, who: source.subject(), kind: kind::DROPPED };
        (dropped != 0).then(|| {
            let mut record = ArrayString::new();
            let body =
                Dropped { records: dropped, cause: "buffer_full", source: Some(source.name()) };
            // Always fits: the numbers have at most 20 digits each.
            let _ = write!(record, "{head} {body}\r\n");
            record
        })
    }

    /// Reads the header of the next record.
    fn read_header(&mut self) -> bool {
        let mut header = [0; HEADER];
        if self.ring.read(&mut header) < HEADER {
            return false;
        }
        let [source, low, high] = header;
        let left = usize::from(u16::from_le_bytes([low, high]));
        self.outgoing = Outgoing { source: source.into(), left, charged: left + HEADER };
        true
    }

    /// Takes the record that was read completely off its source's account.
    fn release(&mut self) {
        let Outgoing { source, charged, .. } = self.outgoing;
        let quota = self.quotas.of(Source::from_index(source));
        // There is always an account, unless a panic reads without the lock.
        let Some(account) = self.accounts.get_mut(source) else { return };
        account.used = account.used.saturating_sub(charged);
        if account.has_waiter && account.used <= quota / 2 {
            account.has_waiter = false;
            self.wakeup = true;
        }
    }
}

impl<const N: usize> Default for LogBuffer<N> {
    fn default() -> LogBuffer<N> {
        LogBuffer::new()
    }
}
