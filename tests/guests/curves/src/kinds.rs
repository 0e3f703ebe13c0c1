//! What is compared.

use core::fmt;
use pinfold_guest::vmap::Policy;

/// Frames that the table pool takes at a time.
const POOL: usize = 64;

/// A way to deal with lazy mappings before a pin.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) policy: Policy,
    /// Frames that the table pool takes at a time; 0: none.
    pub(crate) pool: usize,
}

/// All of them.
pub(crate) const KINDS: [Kind; 7] = [
    Kind { policy: Policy::Eager, pool: 0 },
    Kind { policy: Policy::Batch(64), pool: 0 },
    Kind { policy: Policy::Lazy, pool: 0 },
    Kind { policy: Policy::HoldRefs, pool: 0 },
    Kind { policy: Policy::Hinted, pool: 0 },
    Kind { policy: Policy::Targeted, pool: 0 },
    Kind { policy: Policy::Targeted, pool: POOL },
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.policy.fmt(f)?;
        if self.pool != 0 { f.write_str("+pool") } else { Ok(()) }
    }
}
