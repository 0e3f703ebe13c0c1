//! Records on the serial console, in the form of [`pinfold_abi::record`].

use super::serial;
use crate::time::clock;
use core::fmt;
use log::{LevelFilter, Log, Metadata};
use pinfold_abi::record::{Head, Who};

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

/// Directs the `log` macros to the console.
pub fn init() {
    // Fails only when done twice.
    let _ = log::set_logger(&Console);
    log::set_max_level(LevelFilter::Info);
}

/// Lends the head of a record that is written now.
pub fn stamped(who: Who, kind: &str, write: impl FnOnce(&Head<'_>)) {
    write(&Head { micros: clock::now_ns() / 1000, who, kind });
}

/// Writes one record.
pub fn write(who: Who, kind: &str, body: fmt::Arguments<'_>) {
    stamped(who, kind, |head| serial::write(format_args!("{head} {body}\n")));
}

/// Writes one record when nothing can be relied on any more.
pub fn write_at_any_cost(who: Who, kind: &str, body: fmt::Arguments<'_>) {
    stamped(who, kind, |head| serial::write_at_any_cost(format_args!("{head} {body}\n")));
}

/// Writes a record: `record!(who, KIND, "format", arguments)`.
macro_rules! record {
    ($who:expr, $kind:ident, $($body:tt)*) => {
        $crate::console::log::write($who, pinfold_abi::record::kind::$kind, format_args!($($body)*))
    };
}
pub(crate) use record;
