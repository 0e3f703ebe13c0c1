//! Giving frames to domains and taking them back.

use super::bitmap::FrameBitmap;
use super::{direct_map, m2p, validator};
use crate::sync::Mutex;
use pinfold_validator::{CachePolicy, DomId, Mfn, Platform, Refusal};
use spin::Once;

static FREE: Once<Mutex<FrameBitmap>> = Once::new();

fn bitmap() -> &'static Mutex<FrameBitmap> {
    FREE.get().expect("memory::start fills it")
}

/// Starts with no free frame.
pub fn start(words: &'static mut [u64]) {
    FREE.call_once(|| Mutex::new(FrameBitmap::new(words)));
}

/// Adds a frame of RAM at boot.
pub fn give(mfn: Mfn) {
    bitmap().lock().add(mfn);
}

/// Free frames.
pub fn free_count() -> u64 {
    bitmap().lock().free()
}

/// Takes a zeroed frame for a domain.
pub fn take_for(domain: DomId) -> Option<Mfn> {
    take_run_for(domain, 0)
}

/// Takes `1 << order` zeroed frames in one piece for a domain.
pub fn take_run_for(domain: DomId, order: u32) -> Option<Mfn> {
    let first = take_own_run(order)?;
    assign_run(first, order, domain);
    Some(first)
}

/// Gives a domain what [`take_own_run`] took, zeroed.
pub fn assign_run(first: Mfn, order: u32, domain: DomId) {
    for index in 0..1 << order {
        let mfn = Mfn::new(first.get() + index);
        direct_map::clear(mfn);
        if validator().platform().cache_policy(domain) == CachePolicy::Report {
            // It may see past the caches what it doesn't see through them: the last owner's words.
            validator().platform().flush_cache(mfn);
        }
        validator().assign(mfn, domain).expect("a frame of the bitmap is free in the frame table");
    }
}

/// Takes a zeroed frame that stays the hypervisor's; `guest` may map it writable, but never use it
/// as a table.
pub fn take_shared(guest: DomId) -> Option<Mfn> {
    let mfn = bitmap().lock().take()?;
    direct_map::clear(mfn);
    validator().share(mfn, guest).expect("a frame of the bitmap is free in the frame table");
    Some(mfn)
}

/// Takes a zeroed frame for the hypervisor alone: it stays free in the frame table's eyes, which
/// refuses free frames to guests.
pub fn take_own() -> Option<Mfn> {
    let mfn = bitmap().lock().take()?;
    direct_map::clear(mfn);
    Some(mfn)
}

/// Gives back a frame of the hypervisor's own.
pub fn give_back_own(mfn: Mfn) {
    give_back_own_run(mfn, 0);
}

/// Takes `1 << order` frames in one piece for the hypervisor alone, whatever they hold.
pub fn take_own_run(order: u32) -> Option<Mfn> {
    bitmap().lock().take_aligned(order)
}

/// Gives back what [`take_own_run`] took.
pub fn give_back_own_run(first: Mfn, order: u32) {
    let mut bitmap = bitmap().lock();
    for index in 0..1 << order {
        bitmap.add(Mfn::new(first.get() + index));
    }
}

/// Takes a frame back from its domain, which wants it so.
///
/// # Errors
/// If something still refers to it, or the hypervisor shares it: it stays the domain's.
pub fn release(mfn: Mfn, domain: DomId) -> Result<(), Refusal> {
    validator().release(mfn, domain)?;
    free(mfn);
    Ok(())
}

/// Takes a frame back from its domain, which has ended; one that the hypervisor shared, too.
///
/// # Errors
/// If something still refers to it: it stays the domain's.
pub fn reclaim(mfn: Mfn, domain: DomId) -> Result<(), Refusal> {
    validator().reclaim(mfn, domain)?;
    free(mfn);
    Ok(())
}

fn free(mfn: Mfn) {
    m2p::set(mfn, None);
    bitmap().lock().add(mfn);
}
