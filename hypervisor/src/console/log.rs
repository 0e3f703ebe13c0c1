//! Records on the serial console, in the form of [`pinfold_abi::record`].

use super::{buffer, serial};
use core::fmt;
use log::{LevelFilter, Log, Metadata};
use pinfold_abi::record::{Head, LogRecord, Who};
use pinfold_log::{MAX_DOMAINS, Source};

struct Console;

impl Log for Console {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        write(Who::Hypervisor, record.level().as_str(), *record.args());
    }

    fn flush(&self) {}
}

/// Makes the console the target of the `log` macros.
pub fn init() {
    buffer::set_domains(MAX_DOMAINS);
    // Fails only if a logger was set before.
    let _ = log::set_logger(&Console);
    log::set_max_level(LevelFilter::Info);
}

/// Head of a record that is written now.
pub fn head(who: Who, kind: &str) -> Head<'_> {
    Head { micros: buffer::micros(), who, kind }
}

/// Writes one record; `false` if it had to be dropped.
pub fn write(who: Who, kind: &str, body: fmt::Arguments<'_>) -> bool {
    write_as(Source::of(who, kind), who, kind, body)
}

/// Writes one record of a known type; `false` if it had to be dropped.
pub fn write_record<'a, R: LogRecord<'a>>(who: Who, record: &R) -> bool {
    write(who, R::KIND, format_args!("{record}"))
}

/// Writes one record that is charged to another source than its kind says.
pub fn write_as(source: Source, who: Who, kind: &str, body: fmt::Arguments<'_>) -> bool {
    buffer::append(source, format_args!("{} {body}", head(who, kind)))
}

/// Writes one record in the panic handler, without relying on locks.
pub fn write_in_panic(who: Who, kind: &str, body: fmt::Arguments<'_>) {
    serial::write_in_panic(format_args!("{} {body}\n", head(who, kind)));
}
