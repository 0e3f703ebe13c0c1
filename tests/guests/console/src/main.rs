//! Tests the console ring: prints more than it holds, asks for each word of the command line to be
//! typed, and writes bad indices to the ring. It fails if a typed word differs, or the ring doesn't
//! work after bad indices. Not for Xen's first domain, which has no ring.
#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "a guest kernel: it does to memory, registers and the hypervisor what its test is about"
)]

mod ring;

use pinfold_abi::event::VIRQ_DEBUG;
use pinfold_guest::entry::{Boot, event};
use pinfold_guest::fixtures::Check;
use pinfold_guest::guest_main;
use pinfold_guest::hypercall::event::bind_virq;
use pinfold_guest::hypercall::sched::Exit;
use ring::Ring;

guest_main!(main);

/// Lines of the long text: several times what the ring holds.
const LINES: u32 = 200;

fn main(boot: &Boot) -> Exit {
    let mut check = Check::new("console", boot);
    check.ok("the shared page", event::init(boot));
    let Some(ring) = Ring::find(boot) else {
        check.holds("there is a ring", false);
        return check.verdict();
    };
    let debug = check.ok("VIRQ_DEBUG", bind_virq(VIRQ_DEBUG, 0));
    for line in 0..LINES {
        ring.line(format_args!("line {line} of {LINES}, which says nothing but that it is there"));
    }
    for word in boot.command_line().split_ascii_whitespace() {
        ring.line(format_args!("ready for {word}"));
        let typed = ring.read_line("what? ");
        check.equal("the typed word", typed.as_str(), word);
        if word == "alpha" {
            // Before this word, the debug key was typed, for which the hypervisor raises the VIRQ.
            let raised = debug.is_some_and(event::clear_pending);
            check.holds("the debug interrupt", raised);
        }
        ring.line(format_args!("heard {typed}"));
    }
    write_bad_indices(&ring, &mut check);
    check.verdict()
}

/// Writes bad indices, and checks that the ring works afterwards.
fn write_bad_indices(ring: &Ring, check: &mut Check) {
    for distance in [2049, 1 << 20, u32::MAX, 1 << 31] {
        let produced = ring.set_output_ahead(distance);
        check.equal("the output ring is reset", ring.output_indices(), (produced, produced));
        ring.line(format_args!("after {distance:#x}"));
        let (consumed, produced) = ring.output_indices();
        check.equal("a line is consumed", consumed, produced);
    }
    for distance in [1025, 1 << 20, u32::MAX] {
        let consumed = ring.set_input_behind(distance);
        check.equal("the input ring is reset", ring.input_indices(), (consumed, consumed));
    }
}
