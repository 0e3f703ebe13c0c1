//! Which domain has the keyboard, and bringing it what is typed on the serial port.
//!
//! Ctrl-A three times in a row gives the keyboard to the next in turn: the domains by number, then
//! the hypervisor. Fewer than three go to the guest with the next key, so that it never sees those
//! that weren't meant for it.

use super::focus;
use crate::console::log::write_record;
use crate::console::serial;
use crate::domain::{self, DomainRef};
use crate::event::ports;
use crate::sync::Mutex;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, Ordering, fence};
use pinfold_abi::record::{InputTo, Text, Who};
use pinfold_validator::DomId;

/// Ctrl-A.
const SWITCH: u8 = 0x01;
/// How often in a row.
const TIMES: u8 = 3;
/// What the hypervisor does for which key while it has the keyboard.
pub const KEYS: &str =
    "d: domains; f: their frames; v: VIRQ_DEBUG to all vCPUs; Ctrl-A three times: next domain";
/// Bytes taken at a time: what the port's FIFO holds.
const BATCH: usize = 16;

/// [`SWITCH`]es that are kept back. Who holds it takes what was typed: two CPUs at once would bring
/// it to the guest in another order.
static PRESSED: Mutex<u8> = Mutex::new(0);
/// Somebody saw that something was typed, and has not looked yet, or could not.
static WANTED: AtomicBool = AtomicBool::new(false);

/// Takes what was typed and brings it where it belongs; from the timer tick, or when the port
/// interrupts. `handle_debug_key`
/// gets what is typed while the hypervisor has the keyboard.
pub fn poll(handle_debug_key: fn(u8)) {
    // SeqCst: the wish first, then the lock. Who finds it taken leaves the wish to its holder, who
    // looks for one after giving the lock back.
    WANTED.store(true, Ordering::SeqCst);
    while WANTED.load(Ordering::SeqCst) {
        let Some(mut pressed) = PRESSED.try_lock() else { return };
        WANTED.store(false, Ordering::SeqCst);
        take_all(&mut pressed, handle_debug_key);
        drop(pressed);
        // The lock is given back by a plain store, which a later load may overtake: who found it
        // taken just now has left a wish that must be seen.
        fence(Ordering::SeqCst);
    }
}

fn take_all(pressed: &mut u8, handle_debug_key: fn(u8)) {
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
                deliver(&keys, handle_debug_key);
                keys.clear();
                *pressed = 0;
                give_to(domain::after(owner().map(|domain| domain.id)));
            }
        }
        deliver(&keys, handle_debug_key);
    }
}

/// Delivers bytes to the domain that has the keyboard, or to the hypervisor.
fn deliver(bytes: &[u8], handle_debug_key: fn(u8)) {
    if bytes.is_empty() {
        return;
    }
    let Some(domain) = owner() else {
        bytes.iter().for_each(|&key| handle_debug_key(key));
        return;
    };
    if domain.console.lock().type_in(bytes) {
        ports::raise_console(&domain);
    }
}

/// The domain that has the keyboard, if it is one that there is.
fn owner() -> Option<DomainRef> {
    focus::get().and_then(domain::find)
}

/// Gives the keyboard to a domain, or to the hypervisor, and says so.
fn give_to(domain: Option<DomainRef>) {
    focus::set(domain.as_ref().map(|domain| domain.id));
    match domain {
        Some(domain) => {
            let name = Some(Text::Str(&domain.name));
            write_record(Who::Hypervisor, &InputTo { to: domain.who(), name, keys: None });
            domain.console.lock().show();
        }
        None => {
            let keys = Some(Text::Str(KEYS));
            write_record(Who::Hypervisor, &InputTo { to: Who::Hypervisor, name: None, keys });
        }
    }
}

/// Passes the keyboard on if the domain has it: it has ended.
pub fn ended(ended: DomId) {
    if !focus::has_keyboard(ended) {
        return;
    }
    let next = domain::after(Some(ended)).or_else(|| domain::after(None));
    match next.filter(|next| next.id != ended) {
        Some(next) => give_to(Some(next)),
        // Nobody is left to tell.
        None => focus::set(None),
    }
}
