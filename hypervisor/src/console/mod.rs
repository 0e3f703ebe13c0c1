//! The serial console: the log, and what guests print and are typed.
//!
//! | file     | about                                                                   |
//! |----------|-------------------------------------------------------------------------|
//! | `serial` | the port: sends what is buffered, receives what is typed                |
//! | `buffer` | the log's buffer ([`pinfold_log`]) under its lock                       |
//! | `log`    | records                                                                 |
//! | `rate_limit` | how many records a domain may cause                                 |
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
pub mod log;
pub mod rate_limit;
pub mod serial;

/// So many domains are about to run: they share the log's buffer, and nobody waits for the port any
/// more.
pub fn start(domains: usize) {
    buffer::set_domains(domains);
    serial::set_asynchronous();
}
