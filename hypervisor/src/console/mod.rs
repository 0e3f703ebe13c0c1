//! The serial console: the log, what guests print, and what is typed.
//!
//! | file     | about                                                                   |
//! |----------|-------------------------------------------------------------------------|
//! | `serial` | the port; whose unfinished line stands on it                            |
//! | `log`    | records                                                                 |
//! | `guest`  | a guest's lines, and its ring                                           |
//! | `ring`   | finding the ring's page                                                 |
//! | `input`  | which domain has the keyboard, and bringing it what is typed            |
//!
//! Lines and records share one wire, and a program reads it as well as a person. So everything
//! that begins a line is a record's head, also before a guest's text; a guest can't begin a line.
//! The domain that has the keyboard is shown at once what it prints (a prompt has no line end);
//! when a record comes in between, the unfinished line is cancelled (byte 0x18, CAN, which ASCII
//! has for that) and written again, whole, when the guest goes on. Whoever reads the log drops
//! cancelled lines and sees each line once.

pub mod guest;
pub mod input;
pub mod log;
pub mod ring;
pub mod serial;

use crate::domain::{self, Domain};
use crate::event::ports;

/// Whether something could be typed that a guest waits for.
pub fn takes_input() -> bool {
    domain::all().iter().any(|domain| domain.console.lock().takes_input())
}

/// A guest says that its console's ring has something new: what it printed is shown, and the room
/// in the ring is its again.
pub fn guest_sent(domain: &Domain) {
    if domain.console.lock().service() {
        ports::raise_console(domain);
    }
}

/// Brings what was typed where it belongs, if the port has something.
pub fn bring_input() {
    input::poll(|domain| ports::raise_console(domain));
}
