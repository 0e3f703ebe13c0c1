//! Rules that a caller can break, and other errors.

use super::StoreError;
use crate::mmu;

/// A rule that the caller broke. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The object exists.
    Exists,
    /// An object or a range has at least one page.
    NotEmpty,
    /// A range ends where the object does at the latest.
    Within {
        /// Pages of the object.
        pages: u64,
        /// The (exclusive) end of the range.
        end: u64,
    },
    /// A page that is unpinned, looked up, marked dirty or mapped is pinned.
    Pinned {
        /// The first page that is not.
        page: u64,
    },
    /// No page of an object that is freed is pinned.
    Unpinned {
        /// The first page that is.
        page: u64,
    },
    /// A mapped page keeps its last pin.
    Unmapped {
        /// The first page that is mapped.
        page: u64,
    },
    /// A page has less than 2^32 pins.
    Countable {
        /// The page that would have more.
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

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It would break this rule.
    Broken(Rule),
    /// As many pages are pinned as may have a frame.
    AllPinned,
    /// The mappings' owner has no room, or the hypervisor refused.
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
