//! `report` and `explain`: a serial log, told to a person or a program.
//!
//! | file | about |
//! |---|---|
//! | `model` | what is in a log: domains, violations, refusals, crashes, a panic |
//! | `read` | from lines to the model, whatever state the log is in |
//! | `symbols` | names for addresses |
//! | `diagnosis` | what kind of mapping is in the way, and what cures it |
//! | `summary` | what is alike, put together |
//! | `text`, `html`, `explain` | three ways to show the model; JSON is the model itself |
//!
//! A log may be cut, garbled or forged by a guest: whatever is not a record is passed over, counted
//! and said.

mod diagnosis;
mod explain;
mod html;
mod model;
mod read;
mod summary;
mod symbols;
mod text;

use crate::cli::{ExplainArgs, ReportArgs, SymbolArgs};
use crate::exit::Exit;
use crate::machine::Lines;
use crate::{cargo, guests, image, paths, progress};
use anyhow::{Context, Result, bail};
use model::Report;
use std::path::{Path, PathBuf};
use symbols::Symbols;

/// The letters of frame maps, with their names.
const USAGES: &[(char, &str)] = &[
    ('.', "not the domain's"),
    ('-', "idle"),
    ('w', "writable"),
    ('1', "L1 tables"),
    ('2', "L2 tables"),
    ('3', "L3 tables"),
    ('4', "L4 tables"),
    ('u', "becoming a table, or ceasing to be"),
    ('d', "descriptor tables"),
    ('s', "shared by the hypervisor"),
];

fn usage_name(letter: char) -> &'static str {
    USAGES.iter().find(|(known, _)| *known == letter).map_or("unknown", |(_, name)| name)
}

/// `report`.
pub(crate) fn verb(args: &ReportArgs) -> Result<Exit> {
    if args.schema {
        println!("{}", serde_json::to_string_pretty(&schemars::schema_for!(Report))?);
        return Ok(Exit::Ok);
    }
    let log = args.log.as_deref().context("a log is wanted")?;
    let report = read(log, &args.symbols)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else if let Some(file) = &args.html {
        write(file, &html::page(&report, &paths::shown(log)))?;
    } else if let Some(dir) = &args.pictures {
        paths::create(dir)?;
        for picture in html::pictures(&report) {
            let file = dir.join(&picture.name);
            std::fs::write(&file, picture.svg)
                .with_context(|| format!("cannot write {}", file.display()))?;
            println!("{}", file.display());
        }
    } else {
        print!("{}", text::show(&report, args.full));
    }
    Ok(Exit::Ok)
}

/// `explain`.
pub(crate) fn explain(args: &ExplainArgs) -> Result<Exit> {
    match explain::explain(&read(&args.log, &args.symbols)?, args.id) {
        Ok(text) => print!("{text}"),
        Err(why) => bail!("{}: {why}", args.log.display()),
    }
    Ok(Exit::Ok)
}

/// Writes a report of a log to a file: a page for `.html`, JSON for `.json`, text for others.
pub(crate) fn to_file(log: &Path, kernels: &[(String, PathBuf)], file: &Path) -> Result<()> {
    let guests = kernels.iter().map(|(name, kernel)| format!("{name}={}", kernel.display()));
    let symbols = SymbolArgs { hypervisor: None, guests: guests.collect() };
    let report = read(log, &symbols)?;
    let extension = file.extension().and_then(|extension| extension.to_str());
    let content = match extension {
        Some("html" | "htm") => html::page(&report, &paths::shown(log)),
        Some("json") => serde_json::to_string_pretty(&report)? + "\n",
        _ => text::show(&report, true),
    };
    write(file, &content)
}

fn write(file: &Path, content: &str) -> Result<()> {
    std::fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))?;
    progress::note(format!("report: {}", file.display()));
    Ok(())
}

/// A page of a log without symbols: what the browser's test looks at.
pub(crate) fn page_of(log: &str) -> (String, usize) {
    let mut report = Report::read(log);
    report.summarize();
    (html::page(&report, "test"), report.summary.len())
}

/// A log with everything in it that a report can show; see its own first lines.
pub(crate) const SAMPLE: &str = include_str!("sample.log");

/// A log with its addresses named.
fn read(log: &Path, symbols: &SymbolArgs) -> Result<Report> {
    let bytes = std::fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let mut report = Report::read(&text_of(&bytes));
    name_addresses(&mut report, symbols);
    report.summarize();
    Ok(report)
}

/// The lines of a log, which may come from a serial line as it is. A last line without an end
/// stays without.
fn text_of(bytes: &[u8]) -> String {
    let (mut lines, mut text) = (Lines::default(), String::new());
    lines.push(bytes, |line: String| text.extend([&line, "\n"]));
    text.extend(lines.finish());
    text
}

/// Puts names to the addresses of the hypervisor's backtraces and of the guests.
fn name_addresses(report: &mut Report, args: &SymbolArgs) {
    if !report.panics.is_empty() {
        let file = args.hypervisor.clone().unwrap_or_else(|| cargo::built(image::HYPERVISOR));
        match Symbols::hypervisor(&file) {
            Ok(symbols) => {
                for frame in report.panics.iter_mut().flat_map(|panic| &mut panic.backtrace) {
                    frame.calls = symbols.calls(frame.address);
                }
            }
            Err(error) => progress::note(format!("no names in backtraces: {error:#}")),
        }
    }
    // A guest's names are at hand when it is one of ours and was built here, or when they are given.
    let known = guests::known();
    for domain in &report.domains.clone() {
        let given = args.guests.iter().find_map(|words| {
            let (name, file) = words.split_once('=')?;
            (name == domain.name).then(|| PathBuf::from(file))
        });
        let of_package =
            |name: &&String| domain.name == **name || domain.name.starts_with(&format!("{name}-"));
        let built = || known.iter().find(of_package).map(|package| cargo::built(package));
        let Some(file) = given.clone().or_else(built) else { continue };
        match Symbols::guest(&file) {
            Ok(symbols) => report.name_guest(domain.id, |rip, callers| symbols.stack(rip, callers)),
            // Kernels that are packed have none.
            Err(error) if given.is_some() && domain.violations > 0 => {
                progress::note(format!("no names for d{}: {error:#}", domain.id));
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> serde_json::Value {
        let file = paths::root().join("docs/report-schema.json");
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    }

    fn output(log: &str) -> serde_json::Value {
        let mut report = Report::read(log);
        report.summarize();
        serde_json::to_value(&report).unwrap()
    }

    #[test]
    fn the_schema_in_docs_is_the_one_that_is_printed() {
        let made = serde_json::to_value(schemars::schema_for!(Report)).unwrap();
        assert_eq!(made, schema(), "cargo xtask report --schema >docs/report-schema.json");
    }

    #[test]
    fn what_is_written_is_what_the_schema_says() {
        let schema = jsonschema::validator_for(&schema()).unwrap();
        let crash = "[   0.100000] d2 CRASH reason=\"x\" rip=0x1\n[   0.200000] d2 DUMP rax=0\n\
                     [   0.300000] hv PANIC at a.rs\n[   0.400000] hv DUMP frame=0 rip=0x1\n";
        for log in [SAMPLE, "", crash, "garbage\n[", &SAMPLE[..3000]] {
            let output = output(log);
            let errors: Vec<String> =
                schema.iter_errors(&output).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{errors:?}");
        }
    }

    /// The schema is of use only if it knows what is wrong.
    #[test]
    fn the_schema_refuses_what_is_not_a_report() {
        let schema = jsonschema::validator_for(&schema()).unwrap();
        let good = output(SAMPLE);
        for (path, wrong) in [
            ("/version", serde_json::json!("one")),
            ("/violations/0/id", serde_json::json!("7")),
            ("/violations/0/diagnosis", serde_json::json!("bad_luck")),
            ("/violations/0/mappings/0/state", serde_json::json!("undead")),
            ("/violations/0/fields/op", serde_json::json!(7)),
            ("/summary/0", serde_json::json!({})),
            ("/skipped", serde_json::json!({ "garbled": -1 })),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = wrong;
            assert!(!schema.is_valid(&bad), "{path}");
        }
        let mut bad = good;
        bad.as_object_mut().unwrap().remove("violations");
        assert!(!schema.is_valid(&bad));
    }
}
