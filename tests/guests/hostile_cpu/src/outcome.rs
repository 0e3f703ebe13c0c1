//! Prints how an action ended, in one line.

use pinfold_guest::entry::catch::Trap;
use pinfold_guest::fixtures::Check;
use pinfold_guest::println;
/// Prints how an action ended; `value` is its result if it was not stopped by a trap.
/// Prints how something ended; `value` is what it gave if it was not stopped.
pub(crate) fn print_outcome(check: &mut Check, what: &str, result: Result<u64, Trap>) {
    match result {
        Ok(value) => println!("CPU {what}: {value:#x}"),
        Err(Trap { vector, error, cs, .. }) => {
            println!("CPU {what}: #{vector} error={error:#x} cs={cs:#x}");
        }
    }
    // That it is said at all is what counts here; the comparison is made outside.
    check.holds(what, true);
}
// It only has to end in some way; the lines are compared by the test.
