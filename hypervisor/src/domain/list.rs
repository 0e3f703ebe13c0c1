//! The list of domains.

use super::domain_state::DomainRef;
use crate::sync::Mutex;
use alloc::vec::Vec;
use pinfold_validator::DomId;

/// Domains that have frames.
static DOMAINS: Mutex<Vec<DomainRef>> = Mutex::new(Vec::new());

/// All domains that have frames, in the order of their numbers. The list is looked at anew for each:
/// it isn't locked between, and nothing is copied.
pub fn all() -> impl Iterator<Item = DomainRef> {
    core::iter::successors(after(None), |domain| after(Some(domain.id)))
}

/// A domain by its number.
pub fn find(id: DomId) -> Option<DomainRef> {
    DOMAINS.lock().iter().find(|domain| domain.id == id).cloned()
}

/// The next domain by number; the first, if none is given.
pub fn after(id: Option<DomId>) -> Option<DomainRef> {
    let domains = DOMAINS.lock();
    domains.iter().filter(|d| id.is_none_or(|id| d.id > id)).min_by_key(|d| d.id).cloned()
}

/// Lists a domain that is being built.
pub fn list(domain: &DomainRef) {
    DOMAINS.lock().push(domain.clone());
}

/// Takes a domain off the list, when its frames are gone.
pub fn unlist(id: DomId) {
    DOMAINS.lock().retain(|domain| domain.id != id);
}
