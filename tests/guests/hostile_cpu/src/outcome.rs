//! How something ended, in a line.

use pinfold_guest::entry::catch::Trap;
use pinfold_guest::fixtures::Check;
use pinfold_guest::println;

/// Prints how something ended; `value` is what it gave if it was not stopped.
pub(crate) fn say(check: &mut Check, what: &str, result: Result<u64, Trap>) {
    match result {
        Ok(value) => println!("CPU {what}: {value:#x}"),
        Err(Trap { vector, error, cs, .. }) => {
            println!("CPU {what}: #{vector} error={error:#x} cs={cs:#x}");
        }
    }
    // That it is said at all is what counts here; the comparison is made outside.
    check.holds(what, true);
}
