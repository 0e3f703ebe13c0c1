//! Which domain has the keyboard, and bringing it what is typed on the serial port.
//!
//! Ctrl-A three times in a row gives the keyboard to the next in turn: the domains by number, then
//! the hypervisor. Fewer than three go to the guest with the next key, so that it never sees those
//! that weren't meant for it.

use crate::console::log::record;
use crate::console::serial;
use crate::diagnostics::frame_dump;
use crate::domain::{self, DomainRef};
use crate::event::ports;
use crate::sync::Mutex;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering, fence};
use pinfold_abi::event::VIRQ_DEBUG;
use pinfold_abi::record::Who;
use pinfold_validator::DomId;

/// Ctrl-A.
const SWITCH: u8 = 0x01;
/// How often in a row.
const TIMES: u8 = 3;
/// What the hypervisor does for which key.
const KEYS: &str =
    "d: domains; f: their frames; v: VIRQ_DEBUG to all vCPUs; Ctrl-A three times: next domain";
/// Bytes taken at a time: what the port's FIFO holds.
const BATCH: usize = 16;

/// Number of the domain that has the keyboard; 0: the hypervisor. The first domain has it first.
static OWNER: AtomicU16 = AtomicU16::new(1);
/// [`SWITCH`]es that are kept back. Who holds it takes what was typed: two CPUs at once would bring
/// it to the guest in another order.
static PRESSED: Mutex<u8> = Mutex::new(0);
/// Somebody saw that something was typed, and has not looked yet, or could not.
static WANTED: AtomicBool = AtomicBool::new(false);

/// Whether the domain has the keyboard.
pub fn has_keyboard(domain: DomId) -> bool {
    OWNER.load(Ordering::Relaxed) == domain.get()
}

/// Takes what was typed and brings it where it belongs; from the timer tick, or when the port
/// interrupts. `kick` tells a guest that its ring has changed: raises its console's port.
pub fn poll(kick: impl Fn(&DomainRef)) {
    // SeqCst: the wish first, then the lock. Who finds it taken leaves the wish to its holder, who
    // looks for one after giving the lock back.
    WANTED.store(true, Ordering::SeqCst);
    while WANTED.load(Ordering::SeqCst) {
        let Some(mut pressed) = PRESSED.try_lock() else { return };
        WANTED.store(false, Ordering::SeqCst);
        take_all(&mut pressed, &kick);
        drop(pressed);
        // The lock is given back by a plain store, which a later load may overtake: who found it
        // taken just now has left a wish that must be seen.
        fence(Ordering::SeqCst);
    }
}

fn take_all(pressed: &mut u8, kick: &impl Fn(&DomainRef)) {
    loop {
        let mut bytes = [0; BATCH];
        let count = serial::receive(&mut bytes);
        if count == 0 {
            return;
        }
        let mut keys = ArrayVec::<u8, { BATCH + TIMES as usize }>::new();
        for &byte in &bytes[..count] {
            if byte != SWITCH {
                keys.extend((0..*pressed).map(|_| SWITCH));
                keys.push(byte);
                *pressed = 0;
            } else if *pressed + 1 < TIMES {
                *pressed += 1;
            } else {
                deliver(&keys, kick);
                keys.clear();
                *pressed = 0;
                give_to(domain::after(owner().map(|domain| domain.id)));
            }
        }
        deliver(&keys, kick);
    }
}

/// Brings bytes to who has the keyboard.
fn deliver(bytes: &[u8], kick: &impl Fn(&DomainRef)) {
    if bytes.is_empty() {
        return;
    }
    let Some(domain) = owner() else {
        bytes.iter().for_each(|&key| handle_debug_key(key));
        return;
    };
    if domain.console.lock().type_in(bytes) {
        kick(&domain);
    }
}

/// The domain that has the keyboard, if it is one that there is.
fn owner() -> Option<DomainRef> {
    match OWNER.load(Ordering::Relaxed) {
        0 => None,
        number => domain::find(DomId::new(number)),
    }
}

/// Gives the keyboard to a domain, or to the hypervisor, and says so.
fn give_to(domain: Option<DomainRef>) {
    let number = domain.as_ref().map_or(0, |domain| domain.id.get());
    OWNER.store(number, Ordering::Relaxed);
    match domain {
        Some(domain) => {
            record!(Who::Hypervisor, INPUT, "to=d{number} name={:?}", domain.name);
            domain.console.lock().show();
        }
        None => record!(Who::Hypervisor, INPUT, "to=hv keys=\"{KEYS}\""),
    }
}

/// Passes the keyboard on if the domain has it: it has ended.
pub fn ended(ended: DomId) {
    if !has_keyboard(ended) {
        return;
    }
    let next = domain::after(Some(ended)).or_else(|| domain::after(None));
    match next.filter(|next| next.id != ended) {
        Some(next) => give_to(Some(next)),
        // Nobody is left to tell.
        None => OWNER.store(0, Ordering::Relaxed),
    }
}

/// A key for the hypervisor.
fn handle_debug_key(key: u8) {
    match key {
        b'd' => each_domain(|domain| {
            record!(Who::Hypervisor, INPUT, "domain=d{} name={:?}", domain.id, domain.name);
        }),
        b'f' => each_domain(|domain| {
            frame_dump::write(domain);
        }),
        b'v' => each_domain(|domain| {
            for slot in &domain.slots {
                ports::raise_virq(domain, VIRQ_DEBUG, slot.id);
            }
        }),
        _ => record!(Who::Hypervisor, INPUT, "keys=\"{KEYS}\""),
    }
}

fn each_domain(mut with: impl FnMut(&DomainRef)) {
    let mut last = None;
    while let Some(domain) = domain::after(last) {
        with(&domain);
        last = Some(domain.id);
    }
}
