//! The domain that has the keyboard.

use core::sync::atomic::{AtomicU16, Ordering};
use pinfold_validator::DomId;

/// Number of the domain that has the keyboard; 0: the hypervisor. The first domain has it first.
static OWNER: AtomicU16 = AtomicU16::new(1);
/// Whether the domain has the keyboard.
pub fn has_keyboard(domain: DomId) -> bool {
    OWNER.load(Ordering::Relaxed) == domain.get()
}

/// The domain that has the keyboard; `None`: the hypervisor.
pub fn get() -> Option<DomId> {
    match OWNER.load(Ordering::Relaxed) {
        0 => None,
        number => Some(DomId::new(number)),
    }
}

/// Gives the keyboard to a domain, or to the hypervisor.
pub fn set(domain: Option<DomId>) {
    OWNER.store(domain.map_or(0, DomId::get), Ordering::Relaxed);
}
