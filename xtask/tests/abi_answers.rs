//! The tables of `docs/abi-answers.md` are those that the guest `probe` compares its answers with.

/// What the guest's tables take from its `report` module.
mod report {
    /// Which hypervisor answers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[expect(dead_code, reason = "nothing is asked here")]
    pub(crate) enum Hypervisor {
        Xen,
        Pinfold,
    }
}

#[path = "../../tests/guests/probe/src/expected/mod.rs"]
#[expect(dead_code, reason = "the guest checks answers; here the tables are only printed")]
mod expected;

use std::fmt::Write;
use std::{env, fs};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/abi-answers.md");
const HEADER: &str = "| key | Xen 4.17 | Pinfold, where it differs |\n|---|---|---|\n";

/// A table of answers as Markdown.
fn table(answers: &[expected::Expected]) -> String {
    answers.iter().fold(HEADER.to_owned(), |mut text, answer| {
        let [key, xen, pinfold] = answer.columns();
        writeln!(text, "| {key} | `{xen}` | {pinfold} |").unwrap();
        text
    })
}

/// The document with its tables, which begin with [`HEADER`] and end with an empty line, replaced.
fn replace_tables(document: &str) -> String {
    let mut pieces = document.split(HEADER);
    let mut text = pieces.next().unwrap().to_owned();
    let mut tables = expected::TABLES.into_iter();
    for piece in pieces {
        text += &table(tables.next().expect("no more tables in the page than in the guest"));
        text += piece.find("\n\n").map_or("", |end| &piece[end + 1..]);
    }
    assert!(tables.next().is_none(), "the page has a heading for each table of the guest");
    text
}

#[test]
fn page_has_the_answers_that_the_probe_expects() {
    let present = fs::read_to_string(DOCUMENT).unwrap();
    let wanted = replace_tables(&present);
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(DOCUMENT, &wanted).unwrap();
        return;
    }
    for (line, (present, wanted)) in present.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(
            present,
            wanted,
            "line {}: UPDATE_DOCS=1 cargo test -p xtask --test abi_answers",
            line + 1
        );
    }
    assert_eq!(present.len(), wanted.len());
}
