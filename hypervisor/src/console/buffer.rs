//! The log's buffer under its lock: what everybody writes to, in the time of a copy.

use super::serial;
use crate::sync::FairMutex;
use crate::time::clock;
use arrayvec::ArrayVec;
use core::fmt;
use pinfold_log::{ConsoleLine, Full, LogBuffer, MAX_DOMAINS, MAX_RECORD, Quotas, Source};

/// Bytes of the buffer: what a port at 115,200 baud sends in 45 seconds.
const CAPACITY: usize = 512 * 1024;

/// What the port takes its bytes from.
pub type Buffer = LogBuffer<CAPACITY>;

/// All of it zeros, so that it takes no room in the image.
pub static BUFFER: FairMutex<Buffer> = FairMutex::new(LogBuffer::new());

const _: () = assert!(MAX_DOMAINS == pinfold_image::manifest::MAX_DOMAINS);

/// Divides the room among so many domains. Any number, until it is known.
pub fn set_domains(domains: usize) {
    let quotas = Quotas::divide(CAPACITY, domains);
    assert!(quotas.fit_longest_record(), "every source has room for a record");
    BUFFER.lock().set_quotas(quotas);
}

/// Microseconds since boot.
pub fn micros() -> u64 {
    clock::now_ns() / 1000
}

/// Writes one record: `false` if it had to be dropped. It is formatted first, outside the lock.
pub fn append(source: Source, text: fmt::Arguments<'_>) -> bool {
    if !serial::is_present() || serial::is_panicking() {
        return true;
    }
    let mut record = Text(ArrayVec::new());
    // What is too long is cut.
    let _ = fmt::write(&mut record, text);
    record.0.extend(*b"\r\n");
    let result = BUFFER.lock().append(micros(), source, &record.0);
    serial::on_append();
    result.is_ok()
}

/// Writes what is new of a guest's line: `false` if there is no room, and the guest must wait.
pub fn append_line(source: Source, domain: u16, line: &ConsoleLine<'_>) -> bool {
    if !serial::is_present() || serial::is_panicking() {
        return true;
    }
    let result = BUFFER.lock().append_line(micros(), source, domain, line);
    serial::on_append();
    match result {
        Err(Full) if serial::is_stuck() => {
            // Nobody reads at the other end: no guest must hang for that.
            BUFFER.lock().count_dropped(source);
            true
        }
        result => result.is_ok(),
    }
}

/// Counts a record that could not be written.
pub fn count_dropped(source: Source) {
    BUFFER.lock().count_dropped(source);
}

/// Writes how many records a domain, or all and the hypervisor, had dropped and not told.
pub fn append_dropped(domain: Option<u16>) {
    BUFFER.lock().append_dropped(micros(), domain);
    serial::on_append();
}

/// A record's text, with room left for its line end.
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
