//! What may not be done, and what went wrong.

use super::StoreError;
use crate::mmu;

/// What the caller may not do. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// There is an object to work on: this one is none, or none any more.
    Exists,
    /// An object or a range has at least one page.
    NotEmpty,
    /// A range ends where the object does at the latest; its end is the page behind its last.
    Within {
        /// Pages of the object.
        pages: u64,
        /// Where the range ends.
        end: u64,
    },
    /// A page that is unpinned, looked up, marked dirty or mapped has a pin.
    Pinned {
        /// The first page that has none.
        page: u64,
    },
    /// An object that is freed has no pins.
    Unpinned {
        /// The first page that has one.
        page: u64,
    },
    /// A page that is mapped keeps its last pin.
    Unmapped {
        /// The first page that is mapped.
        page: u64,
    },
    /// A page has fewer than 2^32 pins.
    Countable {
        /// The page that has too many.
        page: u64,
    },
}

impl core::fmt::Display for Rule {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Rule::Exists => f.write_str("there is no such object"),
            Rule::NotEmpty => f.write_str("there are no pages in it"),
            Rule::Within { pages, end } => write!(f, "page {end} is behind the end of {pages}"),
            Rule::Pinned { page } => write!(f, "page {page} is not pinned"),
            Rule::Unpinned { page } => write!(f, "page {page} is pinned"),
            Rule::Unmapped { page } => write!(f, "page {page} is mapped"),
            Rule::Countable { page } => write!(f, "page {page} has too many pins"),
        }
    }
}

/// Why something could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It breaks this rule.
    Broken(Rule),
    /// So many pages are pinned that no more can be had.
    AllPinned,
    /// The owner of the mappings has no room, or was refused.
    Mmu(mmu::Error),
    /// The store failed.
    Store(StoreError),
}

impl From<Rule> for Error {
    fn from(rule: Rule) -> Error {
        Error::Broken(rule)
    }
}

impl From<mmu::Error> for Error {
    fn from(error: mmu::Error) -> Error {
        Error::Mmu(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        Error::Store(error)
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Error::Broken(rule) => rule.fmt(f),
            Error::AllPinned => f.write_str("all pages are pinned"),
            Error::Mmu(error) => error.fmt(f),
            Error::Store(error) => error.fmt(f),
        }
    }
}
