//! The serial console: the log, what guests print, and what is typed.
//!
//! | file     | about                                                                   |
//! |----------|-------------------------------------------------------------------------|
//! | `serial` | the port: sending what is buffered, receiving what is typed             |
//! | `buffer` | the log's buffer ([`pinfold_log`]) under its lock                       |
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
//!
//! The wire is slow: 2 KiB take 180 ms at 115,200 baud. So nothing is written to it directly; all
//! goes through a bounded buffer in which each domain has room of its own (`pinfold_log`). A record
//! that finds its source's room full is dropped, and a `DROPPED records=N cause=buffer_full` record
//! stands in its place; what a guest prints is not dropped, the guest waits.

pub mod buffer;
pub mod guest;
pub mod input;
pub mod log;
pub mod ring;
pub mod serial;

use crate::domain::{self, Domain};
use crate::event::ports;

/// So many domains are about to run: they share the log's buffer, and nobody waits for the port any
/// more.
pub fn start(domains: usize) {
    buffer::set_domains(domains);
    serial::stop_waiting();
}

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
/// guests go on that waited for room. When it interrupts, and now and then.
pub fn poll() {
    input::poll(|domain| ports::raise_console(domain));
    serial::transmit(serial::Occasion::Polled);
    if serial::take_awaited() {
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
