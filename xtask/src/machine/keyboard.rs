//! What a person types goes to the machine's serial line.
//!
//! On a terminal every key goes there at once, Ctrl-C too, so some sequences are kept back, those
//! that QEMU itself uses: Ctrl-A X ends the run, Ctrl-A Ctrl-A is one Ctrl-A for the guest. And
//! Ctrl-A N gives the keyboard to the next guest. From a pipe or a file, all bytes go there as they
//! are.

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp,
    tcsetattr,
};
use std::io::{IsTerminal, Read, Write};

/// Ctrl-A.
const ESCAPE: u8 = 1;
/// What makes the hypervisor give the keyboard to the next domain: Ctrl-A three times.
const NEXT_DOMAIN: [u8; 3] = [1; 3];

/// The terminal in the state that gives every key at once. Dropping it gives the old one back.
pub(super) struct Terminal {
    before: Termios,
}

/// True if a person may type here: standard input is a terminal, and this process may read it
/// (one in the background would be stopped).
pub(crate) fn is_here() -> bool {
    let stdin = std::io::stdin();
    stdin.is_terminal() && tcgetpgrp(&stdin).is_ok_and(|front| front == rustix::process::getpgrp())
}

impl Terminal {
    /// Takes the terminal, if there is one.
    pub(super) fn take() -> Option<Terminal> {
        if !is_here() {
            return None;
        }
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut keys = before.clone();
        keys.local_modes -=
            LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        keys.input_modes -= InputModes::IXON | InputModes::ICRNL | InputModes::INLCR;
        keys.special_codes[SpecialCodeIndex::VMIN] = 1;
        keys.special_codes[SpecialCodeIndex::VTIME] = 0;
        // Output stays as it was: lines of this tool must still begin at the left.
        tcsetattr(std::io::stdin(), OptionalActions::Now, &keys).ok()?;
        Some(Terminal { before })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Copies standard input to the machine until either end closes; true if the person asked for
/// the end of the run.
pub(super) fn forward(line: &mut impl Write, terminal: bool) -> bool {
    let mut keys = Keys::default();
    let mut buffer = [0; 256];
    let mut stdin = std::io::stdin();
    while let Ok(count) = stdin.read(&mut buffer) {
        let bytes = &buffer[..count];
        if count == 0 {
            break;
        }
        let (bytes, quit) = if terminal { keys.take(bytes) } else { (bytes.to_vec(), false) };
        if line.write_all(&bytes).and_then(|()| line.flush()).is_err() {
            break;
        }
        if quit {
            return true;
        }
    }
    false
}

/// Finds the sequences that are for this tool.
#[derive(Debug, Default)]
struct Keys {
    escaped: bool,
}

impl Keys {
    /// What of these bytes is for the guest, and whether the run is to end.
    fn take(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        for &byte in bytes {
            match (self.escaped, byte) {
                (false, ESCAPE) => self.escaped = true,
                (false, byte) => out.push(byte),
                (true, b'x' | b'X') => return (out, true),
                (true, ESCAPE) => {
                    self.escaped = false;
                    out.push(ESCAPE);
                }
                (true, b'n' | b'N') => {
                    self.escaped = false;
                    out.extend(NEXT_DOMAIN);
                }
                (true, byte) => {
                    self.escaped = false;
                    out.extend([ESCAPE, byte]);
                }
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sequence_is_kept_back_wherever_the_stream_is_cut() {
        for (typed, sent, quits) in [
            (&b"ls\r\x03"[..], &b"ls\r\x03"[..], false),
            (b"a\x01\x01b", b"a\x01b", false),
            (b"a\x01b", b"a\x01b", false),
            (b"a\x01nb", b"a\x01\x01\x01b", false),
            (b"a\x01Xb", b"a", true),
            (b"\x01\x01x", b"\x01x", false),
        ] {
            for cut in 0..=typed.len() {
                let mut keys = Keys::default();
                let (mut out, mut quit) = keys.take(&typed[..cut]);
                if !quit {
                    let (more, last) = keys.take(&typed[cut..]);
                    out.extend(more);
                    quit = last;
                }
                assert_eq!((&*out, quit), (sent, quits), "{typed:?} cut at {cut}");
            }
        }
    }
}
