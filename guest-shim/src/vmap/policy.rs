//! When dead mappings are cleared.

use core::fmt;

/// When the mappings of freed areas are cleared. The [module](crate::vmap) compares the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// At once.
    Eager,
    /// In batches of so many areas; all before a pin.
    Batch(usize),
    /// When too many pages are dead; all before a pin.
    Lazy,
    /// As `Lazy`, and a frame is not reused before its dead mappings are cleared.
    HoldRefs,
    /// As `Lazy`, but a pin clears them only if one of its frames has some.
    Hinted,
    /// As `Lazy`, but a pin clears only those of its own frames.
    Targeted,
}

impl Policy {
    /// Whether dead mappings are indexed by frame.
    pub(super) fn has_index(self) -> bool {
        matches!(self, Policy::HoldRefs | Policy::Targeted)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::Eager => f.write_str("eager"),
            Policy::Batch(size) => write!(f, "batch{size}"),
            Policy::Lazy => f.write_str("lazy"),
            Policy::HoldRefs => f.write_str("holdrefs"),
            Policy::Hinted => f.write_str("hinted"),
            Policy::Targeted => f.write_str("targeted"),
        }
    }
}
