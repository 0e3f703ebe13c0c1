//! A guest's words without the head that the log gives each of its lines: with one guest, a person
//! at its shell wants to see the shell and nothing else.

/// Takes `[   1.234567] d1 | ` from the beginning of lines, wherever the stream is cut. Lines of
/// the hypervisor keep their heads.
#[derive(Debug, Default)]
pub(super) struct Bare {
    /// What may become a head, or not.
    head: Vec<u8>,
    position: Position,
}

/// Where in a line the stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    /// Before the bracket: where a line begins.
    #[default]
    Start,
    /// In the time.
    Time,
    /// Behind the time's bracket.
    Gap,
    /// Before the domain's letter.
    Domain,
    /// In the domain's number.
    Number,
    /// Behind the number, before the bar.
    Bar,
    /// Behind the bar: one space belongs to the head.
    Space,
    /// In the text.
    Text,
}

impl Bare {
    /// Takes a byte; gives what is to be shown now.
    pub(super) fn take(&mut self, byte: u8) -> Vec<u8> {
        self.head.push(byte);
        let next = match (self.position, byte) {
            (Position::Start, b'[') => Position::Time,
            (Position::Time, b' ' | b'.' | b'0'..=b'9') => Position::Time,
            (Position::Time, b']') => Position::Gap,
            (Position::Gap, b' ') => Position::Domain,
            (Position::Domain, b'd') => Position::Number,
            (Position::Number, b'0'..=b'9') => Position::Number,
            (Position::Number, b' ') => Position::Bar,
            (Position::Bar, b'|') => Position::Space,
            // The head is complete. Of an empty line, its end is left.
            (Position::Space, b' ') => {
                self.head.clear();
                Position::Text
            }
            (Position::Space, _) => {
                self.head = vec![byte];
                Position::Text
            }
            _ => Position::Text,
        };
        self.position = if byte == b'\n' { Position::Start } else { next };
        match self.position {
            Position::Start | Position::Text => std::mem::take(&mut self.head),
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
        // The guest's own text may look like a head; only the first is one.
        assert_eq!(shown("[ 1.0] d1 | [ 1.0] d1 | x\n"), "[ 1.0] d1 | x\n");
    }
}
