//! Strips the log's prefix from console lines of a guest, so that its shell can be used on a
//! terminal.

/// Removes `[   1.234567] d1 | ` from the start of lines, byte by byte. Lines of the hypervisor keep
/// their prefix.
#[derive(Debug, Default)]
pub(super) struct Bare {
    /// Bytes that may be the start of a prefix.
    prefix: Vec<u8>,
    position: Position,
}

/// Position in a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    /// At the start of the line, before the bracket.
    #[default]
    Start,
    /// In the time.
    Time,
    /// After the closing bracket of the time.
    Gap,
    /// Before the domain's letter.
    Domain,
    /// In the domain's number.
    Number,
    /// After the number, before the bar.
    Bar,
    /// After the bar, before the space that ends the prefix.
    Space,
    /// In the text.
    Text,
}

impl Bare {
    /// Processes a byte. Returns the bytes to print now.
    pub(super) fn take(&mut self, byte: u8) -> Vec<u8> {
        self.prefix.push(byte);
        let next = match (self.position, byte) {
            (Position::Start, b'[') => Position::Time,
            (Position::Time, b' ' | b'.' | b'0'..=b'9') => Position::Time,
            (Position::Time, b']') => Position::Gap,
            (Position::Gap, b' ') => Position::Domain,
            (Position::Domain, b'd') => Position::Number,
            (Position::Number, b'0'..=b'9') => Position::Number,
            (Position::Number, b' ') => Position::Bar,
            (Position::Bar, b'|') => Position::Space,
            // The prefix is complete. An empty line keeps its end of line.
            (Position::Space, b' ') => {
                self.prefix.clear();
                Position::Text
            }
            (Position::Space, _) => {
                self.prefix = vec![byte];
                Position::Text
            }
            _ => Position::Text,
        };
        self.position = if byte == b'\n' { Position::Start } else { next };
        match self.position {
            Position::Start | Position::Text => std::mem::take(&mut self.prefix),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stream: &str) -> String {
        let mut bare = Bare::default();
        let bytes: Vec<u8> = stream.bytes().flat_map(|byte| bare.take(byte)).collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn only_a_guests_heads_go() {
        assert_eq!(shown("[   4.113932] d1 | /root # ls\r\n"), "/root # ls\r\n");
        assert_eq!(shown("[   4.1] d1 |\r\n[   4.1] d12 | \r\nx"), "\r\n\r\nx");
        for kept in [
            "[   5.000000] d1 SHUTDOWN name=\"linux\"\n",
            "[   5.000000] hv END guests=1\n",
            "[    0.123456] Linux version\n",
            "a [   4.1] d1 | b\n",
            "[ 1] x\n[",
        ] {
            assert!(kept.starts_with(&shown(kept)), "{kept}");
            assert!(shown(kept).len() + 1 >= kept.len(), "{kept}");
        }
        // The guest's own text may look like a prefix; only the first is one.
        assert_eq!(shown("[ 1.0] d1 | [ 1.0] d1 | x\n"), "[ 1.0] d1 | x\n");
    }
}
