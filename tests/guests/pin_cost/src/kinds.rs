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
    /// Nothing is done before a pin: the hypervisor tells of what is in the way.
    pub(crate) upcall: bool,
}

impl Kind {
    const fn of(policy: Policy) -> Kind {
        Kind { policy, pool: 0, upcall: false }
    }
}

/// All of them.
pub(crate) const KINDS: [Kind; 8] = [
    Kind::of(Policy::Eager),
    Kind::of(Policy::Batch(64)),
    Kind::of(Policy::Lazy),
    Kind::of(Policy::HoldRefs),
    Kind::of(Policy::Hinted),
    Kind::of(Policy::Targeted),
    Kind { pool: POOL, ..Kind::of(Policy::Targeted) },
    Kind { upcall: true, ..Kind::of(Policy::Lazy) },
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.upcall {
            return f.write_str("upcall");
        }
        self.policy.fmt(f)?;
        if self.pool != 0 { f.write_str("+pool") } else { Ok(()) }
    }
}
