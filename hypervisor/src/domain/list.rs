//! The list of domains.

use super::domain_state::DomainRef;
use crate::sync::Mutex;
use alloc::vec::Vec;
use pinfold_validator::DomId;

/// Domains that have frames.
static DOMAINS: Mutex<Vec<DomainRef>> = Mutex::new(Vec::new());

/// All domains that have frames, by number. The list is locked for each step only, so domains may
/// come and go meanwhile.
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

/// Adds a domain that is being built.
pub fn list(domain: &DomainRef) {
    DOMAINS.lock().push(domain.clone());
}

/// Removes a domain whose frames are all freed.
pub fn unlist(id: DomId) {
    DOMAINS.lock().retain(|domain| domain.id != id);
}
