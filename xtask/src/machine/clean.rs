//! From bytes on a serial line to lines of text: firmware draws with escape sequences.

/// Splits a stream of bytes into clean lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    escape: Escape,
}

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
                (Escape::Begun, b'[') => self.escape = Escape::Control,
                (Escape::Begun, _) => self.escape = Escape::None,
                // Parameters and intermediates go on; a byte from @ to ~ ends the sequence.
                (Escape::Control, 0x40..=0x7e) => self.escape = Escape::None,
                (Escape::Control, 0x20..=0x3f) => {}
                (Escape::Control, _) | (Escape::None, _) => {
                    self.escape = Escape::None;
                    self.take(byte, &mut each);
                }
            }
        }
    }

    fn take(&mut self, byte: u8, each: &mut impl FnMut(String)) {
        match byte {
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
    fn endless_lines_are_cut() {
        assert_eq!(lines(&[&vec![b'x'; LONGEST + 1]]).len(), 2);
    }
}
