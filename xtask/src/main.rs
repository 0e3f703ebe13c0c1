//! `cargo xtask`: the one tool a person needs to build, run, test and understand Pinfold.
//!
//! Everything it fetches or writes lies under `target/` or `ovmf/`, both ignored by git. What it
//! decides (did the run end well?) comes from the serial log, never from QEMU's mood: see
//! [`verdict`].

mod accel;
mod bench;
mod browser;
mod cargo;
mod cli;
mod doctor;
mod exit;
mod fetch;
mod floors;
mod guests;
mod image;
mod linux;
mod machine;
mod nested_kvm;
mod paths;
mod progress;
mod ramdisk;
mod report;
mod run;
mod test;
mod verdict;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let ended = match cli.verb {
        cli::Verb::Run(args) => run::verb(&args),
        cli::Verb::Test(args) => test::verb(&args),
        cli::Verb::Image(args) => image::verb(&args),
        cli::Verb::Report(args) => report::verb(&args),
        cli::Verb::Explain(args) => report::explain(&args),
        cli::Verb::Bench(args) => bench::verb(&args),
        cli::Verb::Floors(args) => floors::verb(&args),
        cli::Verb::Doctor => doctor::verb(),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            exit::Exit::Host.into()
        }
    }
}
