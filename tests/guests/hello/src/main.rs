//! The smallest guest kernel: prints where it runs, and powers off. It can't fail, except by not
//! starting.
#![no_std]
#![no_main]

use pinfold_guest::{entry::Boot, guest_main, hypercall::sched::Exit, hypercall::version, println};

guest_main!(main);

fn main(boot: &Boot) -> Exit {
    let (major, minor) = version::version().unwrap_or_default();
    let extra = version::extra().unwrap_or_default();
    let extra = core::str::from_utf8(&extra).unwrap_or("?").trim_end_matches('\0');
    let info = boot.start_info();
    println!("hello from a guest of {major}.{minor}{extra}");
    println!("{} pages, first domain: {}", info.nr_pages, boot.is_first_domain());
    println!("command line: \"{}\"", boot.command_line());
    println!("VERDICT pass guest=hello");
    Exit::PowerOff
}
