//! Talks through its console ring: prints a lot, asks for each word of its command line to be typed,
//! and writes nonsense to the ring. Only for a hypervisor that gives it one.
#![no_std]
#![no_main]

mod ring;

use pinfold_abi::event::VIRQ_DEBUG;
use pinfold_guest::entry::{Boot, event};
use pinfold_guest::fixtures::Check;
use pinfold_guest::guest_main;
use pinfold_guest::hypercall::event::bind_virq;
use pinfold_guest::hypercall::sched::Exit;
use ring::Ring;

guest_main!(main);

/// Lines of the long text: more than the ring can hold several times over.
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
        let heard = ring.ask("what? ");
        check.equal("what was typed", heard.as_str(), word);
        if word == "alpha" {
            // Before this word, who types had the hypervisor raise it.
            let raised = debug.is_some_and(event::clear_pending);
            check.holds("the debug interrupt", raised);
        }
        ring.line(format_args!("heard {heard}"));
    }
    nonsense(&ring, &mut check);
    check.verdict()
}

/// Indices that can't be: the ring works again afterwards.
fn nonsense(ring: &Ring, check: &mut Check) {
    for distance in [2049, 1 << 20, u32::MAX, 1 << 31] {
        let produced = ring.lie_about_output(distance);
        check.equal("the output is empty", ring.output_indices(), (produced, produced));
        ring.line(format_args!("after {distance:#x}"));
        let (consumed, produced) = ring.output_indices();
        check.equal("a line is taken", consumed, produced);
    }
    for distance in [1025, 1 << 20, u32::MAX] {
        let consumed = ring.lie_about_input(distance);
        check.equal("the input is empty", ring.input_indices(), (consumed, consumed));
    }
}
