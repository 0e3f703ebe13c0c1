//! The ways of dealing with lazy mappings that are compared.

use core::fmt;
use pinfold_guest::vmap::Policy;

/// Size of the table pool's refills.
const POOL: usize = 64;

/// A way of dealing with lazy mappings before a pin.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) policy: Policy,
    /// Size of the table pool's refills; 0: no pool.
    pub(crate) pool: usize,
    /// Nothing is done before a pin; the hypervisor's alias upcall names the mappings in the way.
    pub(crate) upcall: bool,
}

impl Kind {
    const fn of(policy: Policy) -> Kind {
        Kind { policy, pool: 0, upcall: false }
    }
}

/// All that are compared.
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
