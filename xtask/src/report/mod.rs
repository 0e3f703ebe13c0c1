//! `report`: a serial log as tables.
//!
//! | file | about |
//! |---|---|
//! | `model` | what is in a log: domains, violations, refusals, crashes, a panic |
//! | `symbols` | names for addresses |
//! | `text`, `html` | two ways to show the model; JSON is the model itself |
//!
//! A log may be cut, garbled or forged by a guest: whatever is not a record is passed over, counted
//! and said.

mod html;
mod model;
mod symbols;
mod text;

use crate::cli::ReportArgs;
use crate::exit::Exit;
use crate::machine::Lines;
use crate::{cargo, guests, image, say};
use anyhow::{Context, Result};
use model::Report;
use symbols::Symbols;

/// `report`.
pub(crate) fn verb(args: &ReportArgs) -> Result<Exit> {
    let bytes =
        std::fs::read(&args.log).with_context(|| format!("cannot read {}", args.log.display()))?;
    let mut report = Report::read(&text_of(&bytes));
    name_addresses(&mut report, args);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else if let Some(file) = &args.html {
        std::fs::write(file, html::page(&report))
            .with_context(|| format!("cannot write {}", file.display()))?;
        say::note(format!("written to {}", file.display()));
    } else {
        print!("{}", text::show(&report));
    }
    Ok(Exit::Ok)
}

/// The lines of a log, which may come from a serial line as it is.
fn text_of(bytes: &[u8]) -> String {
    let (mut lines, mut text) = (Lines::default(), String::new());
    let mut add = |line: String| text.extend([&line, "\n"]);
    lines.push(bytes, &mut add);
    lines.finish().into_iter().for_each(add);
    text
}

/// Puts names to the addresses of the hypervisor's backtraces and of the guests.
fn name_addresses(report: &mut Report, args: &ReportArgs) {
    if !report.panics.is_empty() {
        let file = args.symbols.clone().unwrap_or_else(|| cargo::built(image::HYPERVISOR));
        match Symbols::hypervisor(&file) {
            Ok(symbols) => {
                for frame in report.panics.iter_mut().flat_map(|panic| &mut panic.backtrace) {
                    frame.place = symbols.place(frame.address);
                }
            }
            Err(error) => say::note(format!("no names in backtraces: {error:#}")),
        }
    }
    // A guest's names are at hand when it is one of ours and was built here.
    let known = guests::known();
    for domain in &report.domains.clone() {
        let of_package =
            |name: &&String| domain.name == **name || domain.name.starts_with(&format!("{name}-"));
        let Some(package) = known.iter().find(of_package) else { continue };
        let Ok(symbols) = Symbols::guest(&cargo::built(package)) else { continue };
        report.name_guest(domain.id, |address| symbols.place(address));
    }
}
