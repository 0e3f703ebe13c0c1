//! The consoles of guests: output and typed input.
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

/// Whether the serial port could wake a guest: one that waits for input, or for room to print.
pub fn can_wake_guests() -> bool {
    domain::all().any(|domain| {
        let console = domain.console.lock();
        console.takes_input() || console.is_stalled()
    })
}

/// Services the console's ring of a guest that sent an event.
pub fn guest_sent(domain: &Domain) {
    if domain.console.lock().service() {
        ports::raise_console(domain);
    }
}

/// Services the serial port: delivers input, transmits output, and wakes guests that waited for room.
/// Called when the port interrupts, and regularly. `handle_debug_key` gets keys that are typed while
/// the hypervisor has the keyboard.
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
