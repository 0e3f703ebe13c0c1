//! `console_io`: text out, without any ring or event channel. It serves the first domain of a
//! stock Xen and every domain of Pinfold.

use super::{Errno, address, call, check};
use core::fmt::{self, Write};
use pinfold_abi::{console::CONSOLEIO_WRITE, hypercall::Hypercall};

/// Writes bytes to the console.
pub fn write(text: &[u8]) -> Result<(), Errno> {
    let args = [CONSOLEIO_WRITE, text.len() as u64, address(text), 0, 0];
    // SAFETY: the call only reads `text`.
    check(unsafe { call(Hypercall::ConsoleIo as u64, args) }).map(|_| ())
}

/// Collects formatted text, so that a line is one call and is not mixed with others.
struct Buffered {
    text: arrayvec::ArrayString<240>,
}

impl Buffered {
    fn flush(&mut self) {
        // A console that refuses text leaves no way to report it.
        let _ = write(self.text.as_bytes());
        self.text.clear();
    }
}

impl Write for Buffered {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.text.try_push(character).is_err() {
                self.flush();
                self.text.push(character);
            }
        }
        Ok(())
    }
}

/// Prints formatted text; see [`print!`](crate::print).
pub fn print(args: fmt::Arguments<'_>) {
    let mut buffer = Buffered { text: arrayvec::ArrayString::new() };
    // Errors come from `Display` implementations only; what was formatted until then is printed.
    let _ = buffer.write_fmt(args);
    buffer.flush();
}

/// Prints to the console, as the standard library's macro does.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::hypercall::console::print(format_args!($($arg)*)) };
}

/// Prints a line to the console, as the standard library's macro does.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => { $crate::hypercall::console::print(format_args!("{}\n", format_args!($($arg)*))) };
}
