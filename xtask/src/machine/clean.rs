//! From bytes on a serial line to lines of text: firmware draws with escape sequences, and the
//! hypervisor cancels lines that a guest hasn't finished when it has something to say itself; the
//! guest's line comes again, whole (`hypervisor/src/console`).

/// Splits a stream of bytes into clean lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    escape: Escape,
    cancelled: bool,
}

/// Cancels the line that it stands in (ASCII: CAN). A terminal also breaks off an escape sequence
/// at it.
const CANCEL: u8 = 0x18;

/// Where in an escape sequence the stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Control,
}

/// A line longer than this is cut in two, so that a mad guest cannot fill the memory.
const LONGEST: usize = 16 << 10;

impl Lines {
    /// Takes more bytes; gives each line that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(String)) {
        for &byte in bytes {
            match (self.escape, byte) {
                (_, 0x1b) => self.escape = Escape::Begun,
                (_, CANCEL) => {
                    self.escape = Escape::None;
                    self.line.clear();
                    self.cancelled = true;
                }
                (Escape::Begun, b'[') => self.escape = Escape::Control,
                // Nothing that isn't printed belongs to a sequence, line ends least of all: a
                // guest must not hide what comes behind its own line.
                (Escape::Begun, 0x20..=0x7e) => self.escape = Escape::None,
                // Parameters and intermediates go on; a byte from @ to ~ ends the sequence.
                (Escape::Control, 0x40..=0x7e) => self.escape = Escape::None,
                (Escape::Control, 0x20..=0x3f) => {}
                (Escape::Begun | Escape::Control | Escape::None, _) => {
                    self.escape = Escape::None;
                    self.take(byte, &mut each);
                }
            }
        }
    }

    fn take(&mut self, byte: u8, each: &mut impl FnMut(String)) {
        match byte {
            b'\n' if core::mem::take(&mut self.cancelled) => self.line.clear(),
            b'\n' => each(self.line_so_far()),
            b'\t' | 0x20..=0x7e | 0x80.. => self.line.push(byte),
            _ => {}
        }
        if self.line.len() >= LONGEST {
            each(self.line_so_far());
        }
    }

    /// The line that was not ended, if there is one.
    pub(crate) fn finish(&mut self) -> Option<String> {
        (!self.line.is_empty()).then(|| self.line_so_far())
    }

    fn line_so_far(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for piece in pieces {
            lines.push(piece, |line| out.push(line));
        }
        out.extend(lines.finish());
        out
    }

    #[test]
    fn escapes_and_returns_vanish_wherever_the_stream_is_cut() {
        let stream = b"\x1b[2J\x1b[01;01H[   0.000001] hv END ok=1\r\nrest\x1b";
        let expected = ["[   0.000001] hv END ok=1", "rest"];
        for cut in 0..stream.len() {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(lines(&[head, tail]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_cancelled_line_comes_once() {
        let stream =
            b"[   0.1] d1 | half a \x1b[3\x18\r\n[   0.2] hv NEWS\r\n[   0.3] d1 | half a line\r\n";
        let expected = ["[   0.2] hv NEWS", "[   0.3] d1 | half a line"];
        for cut in 0..stream.len() {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(lines(&[head, tail]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn no_escape_swallows_a_line_end() {
        for escape in ["\x1b", "\x1b[", "\x1b[1", "\x1b[1\x1b", "\x1b]0;title"] {
            let stream = format!("a{escape}\r\nnews\r\n");
            let found = lines(&[stream.as_bytes()]);
            assert_eq!(found.len(), 2, "{escape:?}");
            assert_eq!(found[1], "news", "{escape:?}");
        }
    }

    #[test]
    fn endless_lines_are_cut() {
        assert_eq!(lines(&[&vec![b'x'; LONGEST + 1]]).len(), 2);
    }
}
