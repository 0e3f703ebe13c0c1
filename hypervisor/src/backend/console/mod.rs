//! The consoles of guests: what they print, and what is typed for them.
//!
//! | file       | about                                                                 |
//! |------------|-----------------------------------------------------------------------|
//! | `guest`    | a guest's lines, and its ring                                         |
//! | `ring`     | finding the ring's page                                               |
//! | `focus`    | which domain has the keyboard                                         |
//! | `keyboard` | switching the keyboard, and delivering what is typed                  |

pub mod focus;
pub mod guest;
pub mod keyboard;
pub mod ring;

use crate::console::serial;
use crate::domain::{self, Domain};
use crate::event::ports;

/// Whether the port could wake a guest: something could be typed that it waits for, or it waits to
/// print.
pub fn can_wake_guests() -> bool {
    domain::all().any(|domain| {
        let console = domain.console.lock();
        console.takes_input() || console.is_stalled()
    })
}

/// A guest says that its console's ring has something new: what it printed is shown, as far as
/// there is room, and the room in the ring is its again.
pub fn guest_sent(domain: &Domain) {
    if domain.console.lock().service() {
        ports::raise_console(domain);
    }
}

/// Looks after the port: brings what was typed where it belongs, sends what it can send, and lets
/// guests go on that waited for room. When it interrupts, and now and then. `handle_debug_key` gets keys that are typed
/// for the hypervisor.
pub fn poll(handle_debug_key: fn(u8)) {
    keyboard::poll(handle_debug_key);
    serial::transmit(serial::TransmitReason::Polled);
    if serial::take_space_freed() {
        for domain in domain::all() {
            let mut console = domain.console.lock();
            let changed = console.is_stalled() && console.service();
            drop(console);
            if changed {
                ports::raise_console(&domain);
            }
        }
    }
}
