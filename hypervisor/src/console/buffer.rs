//! The log buffer and its lock. Writing to it takes no longer than a copy.

use super::serial;
use crate::sync::FairMutex;
use crate::time::clock;
use arrayvec::ArrayVec;
use core::fmt;
use pinfold_log::{ConsoleLine, Full, LogBuffer, MAX_DOMAINS, MAX_RECORD, Quotas, Source};

/// Size of the buffer in bytes: a port at 115,200 baud sends it in 45 seconds.
const CAPACITY: usize = 512 * 1024;

/// The type of the log buffer.
pub type Buffer = LogBuffer<CAPACITY>;

/// The log buffer. It is all zeros initially, so that it takes no space in the image.
pub static BUFFER: FairMutex<Buffer> = FairMutex::new(LogBuffer::new());

const _: () = assert!(MAX_DOMAINS == pinfold_image::manifest::MAX_DOMAINS);

/// Divides the buffer among so many domains.
pub fn set_domains(domains: usize) {
    let quotas = Quotas::divide(CAPACITY, domains);
    assert!(quotas.fit_longest_record(), "every quota is enough for the longest record");
    BUFFER.lock().set_quotas(quotas);
}

/// Microseconds since boot.
pub fn micros() -> u64 {
    clock::now_ns() / 1000
}

/// Appends a record. Returns `false` if it was dropped, because the quota of its source is used up. The
/// text is formatted before the lock is taken.
pub fn append(source: Source, text: fmt::Arguments<'_>) -> bool {
    if !serial::is_present() || serial::is_panicking() {
        return true;
    }
    let mut record = Text(ArrayVec::new());
    // A record that is too long is cut off.
    let _ = fmt::write(&mut record, text);
    record.0.extend(*b"\r\n");
    let result = BUFFER.lock().append(micros(), source, &record.0);
    serial::on_append();
    result.is_ok()
}

/// Appends the new part of a guest's line. Returns `false` if the quota is used up: the guest must wait.
pub fn append_line(source: Source, domain: u16, line: &ConsoleLine<'_>) -> bool {
    if !serial::is_present() || serial::is_panicking() {
        return true;
    }
    let result = BUFFER.lock().append_line(micros(), source, domain, line);
    serial::on_append();
    match result {
        Err(Full) if serial::is_stuck() => {
            // The port doesn't accept bytes: guests must not wait for that.
            BUFFER.lock().count_dropped(source);
            true
        }
        result => result.is_ok(),
    }
}

/// Counts a record that was dropped.
pub fn count_dropped(source: Source) {
    BUFFER.lock().count_dropped(source);
}

/// Appends a DROPPED record for records of a domain that were dropped and not yet reported; with `None`,
/// for those of all domains and of the hypervisor.
pub fn append_dropped(domain: Option<u16>) {
    BUFFER.lock().append_dropped(micros(), domain);
    serial::on_append();
}

/// Text of a record, with space left for the line end.
struct Text(ArrayVec<u8, MAX_RECORD>);

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            let bytes: &[u8] = if byte == b'\n' { b"\r\n" } else { &[byte] };
            if self.0.remaining_capacity() < bytes.len() + 2 {
                return Err(fmt::Error);
            }
            self.0.extend(bytes.iter().copied());
        }
        Ok(())
    }
}
