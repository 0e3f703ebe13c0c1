//! Delivers what is typed on the serial port to the domain that has the keyboard.
//!
//! Ctrl-A three times in a row gives the keyboard to the next one: the domains by number, then the
//! hypervisor. Fewer than three are delivered to the guest together with the next key.

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
/// How many in a row switch the keyboard.
const SWITCH_COUNT: u8 = 3;
/// Help text for the debug keys.
pub const KEYS: &str =
    "d: domains; f: their frames; v: VIRQ_DEBUG to all vCPUs; Ctrl-A three times: next domain";
/// Bytes read at a time: the size of the UART's FIFO.
const BATCH: usize = 16;

/// [`SWITCH`]es that are held back. Its lock is held while bytes are delivered: two CPUs at once could
/// reorder them.
static PRESSED: Mutex<u8> = Mutex::new(0);
/// A CPU wants the input to be polled.
static WANTED: AtomicBool = AtomicBool::new(false);

/// Reads what was typed and delivers it; called from the timer interrupt, and from the port's.
/// `handle_debug_key` gets what is typed while the hypervisor has the keyboard.
pub fn poll(handle_debug_key: fn(u8)) {
    // SeqCst: the request first, then the lock. A CPU that finds it taken leaves the request to the
    // holder, which checks for one after it has released the lock.
    WANTED.store(true, Ordering::SeqCst);
    while WANTED.load(Ordering::SeqCst) {
        let Some(mut pressed) = PRESSED.try_lock() else { return };
        WANTED.store(false, Ordering::SeqCst);
        take_all(&mut pressed, handle_debug_key);
        drop(pressed);
        // The lock is released by a plain store, which a later load may overtake: a CPU that found it
        // taken just now has left a request that must be seen.
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
        let mut keys = ArrayVec::<u8, { BATCH + SWITCH_COUNT as usize }>::new();
        for &byte in &bytes[..count] {
            if byte != SWITCH {
                keys.extend((0..*pressed).map(|_| SWITCH));
                keys.push(byte);
                *pressed = 0;
            } else if *pressed + 1 < SWITCH_COUNT {
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

/// The domain that has the keyboard, if it exists.
fn owner() -> Option<DomainRef> {
    focus::get().and_then(domain::find)
}

/// Gives the keyboard to a domain, or to the hypervisor, and logs it.
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

/// Gives the keyboard to the next domain, if this one, which has ended, has it.
pub fn ended(ended: DomId) {
    if !focus::has_keyboard(ended) {
        return;
    }
    let next = domain::after(Some(ended)).or_else(|| domain::after(None));
    match next.filter(|next| next.id != ended) {
        Some(next) => give_to(Some(next)),
        // No domain is left.
        None => focus::set(None),
    }
}
