//! What guests print: collected until a line is whole, then one record.

use super::log::record;
use arrayvec::ArrayVec;
use pinfold_abi::record::Who;
use pinfold_validator::DomId;

/// Longest line; a longer one is broken.
const MAX_LINE: usize = 240;

/// The line in the making of one domain.
#[derive(Debug, Default)]
pub struct LineBuffer(ArrayVec<u8, MAX_LINE>);

impl LineBuffer {
    /// Adds bytes; every line end writes a record.
    pub fn print(&mut self, domain: DomId, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(domain),
                b'\r' => {}
                _ => {
                    if self.0.is_full() {
                        self.end_line(domain);
                    }
                    // What isn't printable could pass itself off as a record or upset a terminal.
                    let shown =
                        if (b' '..=b'~').contains(&byte) || byte == b'\t' { byte } else { b'?' };
                    self.0.push(shown);
                }
            }
        }
    }

    /// Writes what is left of a line.
    pub fn flush(&mut self, domain: DomId) {
        if !self.0.is_empty() {
            self.end_line(domain);
        }
    }

    fn end_line(&mut self, domain: DomId) {
        let text = core::str::from_utf8(&self.0).expect("only ASCII was pushed");
        record!(Who::Domain(domain.get()), CONSOLE, "{text}");
        self.0.clear();
    }
}
