//! Run-length encoding of a domain's frames by use, as in the log record `FRAMES`.
//!
//! `d1 FRAMES first=0x400 frames=515 map="w*512 1 4 -"`: from machine frame 0x400, 512 frames that
//! are mapped writable, one L1 table, one L4 table and one unused frame. Each word is a run: the
//! letter of a [`Use`], followed by `*` and the number of frames if it is more than one.

use core::fmt;

/// Use of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// Not owned by the domain.
    Foreign,
    /// Owned by the domain, neither mapped writable nor a table.
    Idle,
    /// Mapped writable, or referenced by the hypervisor as writable.
    Writable,
    /// A page table of level 1 to 4.
    Table(u8),
    /// Partly validated or devalidated as a page table.
    Unfinished,
    /// A page of a GDT or LDT.
    Descriptors,
    /// Owned by the hypervisor and shared with the domain.
    Shared,
}

impl Use {
    /// All uses.
    pub const ALL: [Use; 10] = [
        Use::Foreign,
        Use::Idle,
        Use::Writable,
        Use::Table(1),
        Use::Table(2),
        Use::Table(3),
        Use::Table(4),
        Use::Unfinished,
        Use::Descriptors,
        Use::Shared,
    ];

    /// Letter in the log.
    pub const fn letter(self) -> char {
        match self {
            Use::Foreign => '.',
            Use::Idle => '-',
            Use::Writable => 'w',
            Use::Table(level) => (b'0' + level % 10) as char,
            Use::Unfinished => 'u',
            Use::Descriptors => 'd',
            Use::Shared => 's',
        }
    }

    /// The use with this letter, or `None` if there is none.
    pub fn from_letter(letter: char) -> Option<Use> {
        Use::ALL.into_iter().find(|one| one.letter() == letter)
    }
}

/// Consecutive frames with the same use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Use of the frames.
    pub usage: Use,
    /// Number of frames, at least 1.
    pub frames: u64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = self.usage.letter();
        match self.frames {
            1 => write!(f, "{letter}"),
            frames => write!(f, "{letter}*{frames}"),
        }
    }
}

/// Parses the runs of a map. Stops at the first malformed word.
pub fn runs(map: &str) -> impl Iterator<Item = Run> + '_ {
    map.split_ascii_whitespace().map_while(|word| {
        let (letter, frames) = word.split_once('*').unwrap_or((word, "1"));
        let mut letters = letter.chars();
        let usage = Use::from_letter(letters.next()?)?;
        let frames = frames.parse().ok().filter(|&frames| frames > 0)?;
        letters.next().is_none().then_some(Run { usage, frames })
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn what_is_written_is_read() {
        let all: Vec<Run> =
            (1..).zip(Use::ALL).map(|(frames, usage)| Run { usage, frames }).collect();
        let words: Vec<_> = all.iter().map(std::string::ToString::to_string).collect();
        let map = words.join(" ");
        assert_eq!(map, ". -*2 w*3 1*4 2*5 3*6 4*7 u*8 d*9 s*10");
        assert_eq!(runs(&map).collect::<Vec<_>>(), all);
    }

    #[test]
    fn what_is_garbled_ends_the_map() {
        for bad in ["w* -", "x*3 -", "w*0 -", "ww*2 -", "* -", "w*-1 -"] {
            assert_eq!(runs(&std::format!("1*2 {bad}")).count(), 1, "{bad}");
        }
        assert_eq!(runs("").count(), 0);
    }
}
