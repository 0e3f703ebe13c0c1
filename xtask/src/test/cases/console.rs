//! The keyboard, and a serial port as slow as a real one.

use super::misbehave;
use crate::test::case::Case;
use crate::test::spec::Spec;
use std::num::NonZeroU32;

/// Two guests behind one keyboard, each with a prompt that has no line end.
pub(super) fn keyboard() -> Case {
    let guest = |name: &str, words: &str| Spec::new("console").named(name).with_cmdline(words);
    // Ctrl-A three times: the next guest's turn.
    let types = vec![
        // Past the other guest to the hypervisor, which has keys of its own, and round again.
        ("ready for alpha", "\x01\x01\x01\x01\x01\x01fv\x01\x01\x01alpha\r"),
        ("heard alpha", "\x01\x01\x01beta\r"),
        // It has ended, and the keyboard goes on by itself.
        ("INPUT to=d1", "gax\x7fmma\r"),
    ];
    Case {
        types,
        log_has: vec![
            "hv INPUT to=hv keys=",
            "d1 FRAMES first=0x",
            "d1 | what? alpha",
            "hv INPUT to=d2 name=\"second\"",
            "d2 | what? beta",
            "hv INPUT to=d1 name=\"first\"",
            "d1 | what? gax mma",
            "d1 wrote over its ring",
            "d2 wrote over its ring",
            "d1 | line 199 of 200",
        ],
        order: Some(("second", "first")),
        ..Case::new(
            "keyboard",
            "two guests share the keyboard: Ctrl-A N switches, debug keys reach the hypervisor",
            vec![guest("first", "alpha gamma"), guest("second", "beta")],
        )
    }
}

/// A serial port as slow as a real one at 115,200 baud, and a guest that has far more written than
/// that takes: its neighbour must not wait for the port, and must not lose its own report; what is
/// left out is counted.
pub(super) fn slow_port() -> Vec<Case> {
    let case = |smp: u16| Case {
        smp,
        serial_rate: NonZeroU32::new(11_520),
        limit: 240,
        log_has: vec![
            " cause=buffer_full of=reports",
            "d2v0 ALIAS id=",
            "d2 | misbehave: in the middle",
            "d1v0 MAPPING id=1 end=yes found=64",
        ],
        ..Case::new(
            &format!("slow-port-{smp}"),
            "a guest that floods the log doesn't stop its neighbour, and what is dropped is counted",
            vec![misbehave("flood"), misbehave("measure")],
        )
    };
    // Guests that print wait for room and lose nothing, by hypercall or through their ring.
    let print = |name: &str| misbehave("print").named(name);
    let console = Case {
        serial_rate: NonZeroU32::new(11_520),
        limit: 240,
        types: vec![("ready for alpha", "\x01\x01\x01\x01\x01\x01v\x01\x01\x01alpha\r")],
        log_has: vec![
            "d1 | line 0 of 200",
            "d1 | line 100 of 200",
            "d1 | line 199 of 200",
            "d2 | misbehave: line 1,",
            "d2 | misbehave: line 200,",
            "d2 | misbehave: line 400,",
        ],
        log_lacks: vec!["DROPPED"],
        ..Case::new(
            "slow-console",
            "guests that print faster than the serial line wait, and lose nothing",
            vec![Spec::new("console").with_cmdline("alpha"), print("print")],
        )
    };
    vec![case(1), case(2), console]
}

/// The log by a virtio console: typed to by the serial line, and as slow as one.
pub(super) fn virtio() -> Vec<Case> {
    // Not `slow-console`: a virtio queue takes the lines of its second guest at once, so that the guest
    // may be gone before the keys come that are to pass it by.
    let slow = slow_port().into_iter().filter(|case| case.name == "slow-port-1");
    core::iter::once(keyboard())
        .chain(slow)
        .map(|mut case| {
            case.log_has.push("hv INFO console virtio");
            let name = format!("{}-virtio", case.name);
            Case { name, virtio_console: true, ..case }
        })
        .collect()
}
