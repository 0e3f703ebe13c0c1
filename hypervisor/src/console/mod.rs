//! The serial console: the log, and what guests print and are typed.
//!
//! | file         | contents                                          |
//! |--------------|---------------------------------------------------|
//! | `serial`     | the serial port: transmission and reception       |
//! | `buffer`     | the log buffer ([`pinfold_log`]) and its lock     |
//! | `log`        | records                                           |
//! | `rate_limit` | the rate limit of records that a domain can cause |
//!
//! Records and guest output share the port, and both people and programs read it. So every line
//! begins with the head of a record, also a line of guest output; a guest can't begin a line itself.
//! Output of the domain that has the keyboard is shown immediately, also if the line isn't complete
//! (a prompt). If a record comes in between, the incomplete line is cancelled with the byte 0x18
//! (ASCII CAN), and repeated as a whole when the guest continues it. A reader drops cancelled lines
//! and so sees each line once.
//!
//! The port is slow: 2 KiB take 180 ms at 115,200 baud. So all output goes through a bounded buffer,
//! in which each domain has a quota (`pinfold_log`). If the quota of its source is used up, a record is
//! dropped, and a `DROPPED records=N cause=buffer_full` record takes its place. Guest output is never
//! dropped for that reason: the guest waits.

pub mod buffer;
pub mod log;
pub mod rate_limit;
pub mod serial;

/// Divides the log buffer among so many domains, and makes output asynchronous. To be called before the
/// domains run.
pub fn start(domains: usize) {
    buffer::set_domains(domains);
    serial::set_asynchronous();
}
