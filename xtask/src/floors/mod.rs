//! `floors`: in what direction the source files of the workspace import from each other.
//!
//! Two rules. A crate with a `floors.toml` beside its `Cargo.toml` is built in floors, and no module
//! may import from a floor above its own. And no more than [`MAX_CIRCLE`] files of any crate may
//! import from each other in a circle.
//!
//! | file | about |
//! |---|---|
//! | `source` | a crate's modules and their files |
//! | `names` | what one module defines, and the paths that stand in its source |
//! | `resolve` | from such a path to the module that defines the name |
//! | `table` | `floors.toml`, and imports that run upward |
//! | `circles` | files that import each other in a loop |

mod circles;
mod names;
mod resolve;
mod source;
mod table;

use crate::cli::FloorsArgs;
use crate::exit::Exit;
use crate::{cargo, paths};
use anyhow::{Context, Result, bail};
use circles::Circle;
use serde::Deserialize;
use source::Crate;
use std::path::PathBuf;
use table::Table;

/// The most files that may import from each other in a circle.
const MAX_CIRCLE: usize = 10;

/// How many arrows of a circle are shown.
const SHOWN_ARROWS: usize = 40;

/// `floors`.
pub(crate) fn verb(args: &FloorsArgs) -> Result<Exit> {
    let crates = crates()?;
    if args.circles {
        crates.iter().for_each(|it| show_largest_circle(&it.source));
        return Ok(Exit::Ok);
    }
    let wrong = check(&crates);
    wrong.iter().for_each(|text| println!("{text}"));
    let files: usize = crates.iter().map(|it| it.source.files.len()).sum();
    println!("{} crates, {files} files: {} errors", crates.len(), wrong.len());
    Ok(if wrong.is_empty() { Exit::Ok } else { Exit::TestsFailed })
}

/// What is wrong in the workspace, for the tests.
pub(crate) fn errors() -> Result<Vec<String>> {
    Ok(check(&crates()?))
}

/// A crate of the workspace and its floors, if it has any.
#[derive(Debug)]
struct Checked {
    source: Crate,
    table: Option<Table>,
}

fn check(crates: &[Checked]) -> Vec<String> {
    let mut wrong = Vec::new();
    for it in crates {
        if let Some(table) = &it.table {
            wrong.extend(table.check(&it.source, &paths::shown));
        }
        for circle in circles::find(&it.source) {
            if circle.files.len() > MAX_CIRCLE {
                wrong.push(too_large(&it.source, &circle));
            }
        }
    }
    wrong
}

fn too_large(source: &Crate, circle: &Circle) -> String {
    format!(
        "{}: {} files import from each other in a circle; at most {MAX_CIRCLE} may. Move what they \
         share into a file that imports none of them:\n{}",
        source.name,
        circle.files.len(),
        arrows(source, circle).join("\n")
    )
}

/// The imports of a circle, a line for each pair of files.
fn arrows(source: &Crate, circle: &Circle) -> Vec<String> {
    let shown = |file: usize| paths::shown(&source.files[file]);
    let line = |(&(from, to), names): (&(usize, usize), &std::collections::BTreeSet<String>)| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        format!("  {} -> {}: {}", shown(from), shown(to), names.join(", "))
    };
    let mut lines: Vec<String> = circle.arrows.iter().take(SHOWN_ARROWS).map(line).collect();
    if circle.arrows.len() > SHOWN_ARROWS {
        lines.push(format!("  ... and {} more", circle.arrows.len() - SHOWN_ARROWS));
    }
    lines
}

fn show_largest_circle(source: &Crate) {
    if let Some(circle) = circles::find(source).first() {
        println!("{}: {} files", source.name, circle.files.len());
        arrows(source, circle).iter().for_each(|line| println!("{line}"));
    }
}

/// What `cargo metadata` says of the workspace.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
}

/// All crates of the workspace.
fn crates() -> Result<Vec<Checked>> {
    let output = cargo::command()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("cargo metadata makes no sense")?;
    let mut crates = Vec::new();
    for package in metadata.packages {
        let folder = package.manifest_path.parent().context("a manifest lies in a folder")?;
        for target in &package.targets {
            let is = |kind: &str| target.kind.iter().any(|it| it == kind);
            if is("custom-build") {
                continue;
            }
            let main = is("lib") || is("bin");
            let name = if main { &package.name } else { &target.name };
            let source = Crate::read(name, &target.src_path)?;
            let table = folder.join("floors.toml");
            let table = (main && table.exists()).then(|| Table::read(&table)).transpose()?;
            crates.push(Checked { source, table });
        }
    }
    Ok(crates)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOORS: &str = r#"
        [[floor]]
        name = "top"
        modules = ["crate", "upper"]
        [[floor]]
        name = "bottom"
        modules = ["lower"]
    "#;
    const MAIN: &str = "#[macro_use] mod macros { macro_rules! run { ($($it:tt)*) => {} } }\n\
                        mod lower; mod upper;";

    /// What the rules say of a crate with these files. The folder's name is the test's.
    fn errors_in(name: &str, floors: Option<&str>, files: &[(&str, &str)]) -> Vec<String> {
        let folder =
            std::env::temp_dir().join(format!("pinfold-floors-{name}-{}", std::process::id()));
        for (path, text) in files.iter().copied().chain(floors.map(|text| ("floors.toml", text))) {
            let file = folder.join(path);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder is made");
            std::fs::write(file, text).expect("a file is written");
        }
        let source = Crate::read("tree", &folder.join("main.rs")).expect("the tree is read");
        let table = floors.map(|_| Table::read(&folder.join("floors.toml")).expect("a table"));
        let _ = std::fs::remove_dir_all(&folder);
        let errors = check(&[Checked { source, table }]);
        let folder = format!("{}/", folder.display());
        errors.into_iter().map(|error| error.replace(&folder, "")).collect()
    }

    /// The errors when `lower.rs` is this and `upper` defines a function and a type.
    fn errors_of_lower(name: &str, lower: &str) -> Vec<String> {
        let floors = FLOORS.replace("\"upper\"", "\"upper\", \"macros\"");
        let files = [
            ("main.rs", MAIN),
            ("lower.rs", lower),
            ("upper/mod.rs", "mod inner; pub use inner::Deep; pub fn call() {} pub struct Thing;"),
            ("upper/inner.rs", "pub struct Deep; use super::Thing; use crate::lower::low;"),
        ];
        errors_in(name, Some(&floors), &files)
    }

    #[test]
    fn imports_that_run_down_or_stay_on_a_floor_are_allowed() {
        assert_eq!(errors_of_lower("down", "pub fn low() {} use self::low as other;"), [""; 0]);
    }

    #[test]
    fn an_upward_import_is_found_in_any_form() {
        for (at, lower) in [
            "\nuse crate::upper::call;",
            "\nuse {crate::upper::{self, Thing as Other}};",
            "\nuse super::upper::*;",
            "\nuse crate::upper;",
            "use crate::upper;\nfn low() { upper::call() }",
            "fn low() {\nuse crate::upper as up; up::call() }",
            "\nfn low(_: &crate::upper::Thing) {}",
            "\nfn low() { run!(nested (crate::upper::call())); }",
            "\nmacro_rules! low { () => { $crate::upper::call() } }",
            "mod inline {\nuse super::super::upper::Thing; }",
            "\npub use crate::upper::Deep;",
        ]
        .iter()
        .enumerate()
        {
            let errors = errors_of_lower(&format!("up-{at}"), lower);
            assert!(
                errors.iter().any(|error| error.starts_with("lower.rs:2: `")
                    && error.contains("on floor `bottom`")
                    && error.contains("on floor `top`")),
                "{lower}: {errors:?}"
            );
        }
    }

    #[test]
    fn a_name_handed_on_counts_where_it_is_defined() {
        let errors = errors_of_lower("handed-on", "use crate::upper::Deep;");
        assert!(errors[0].contains("crate::upper::inner is on floor"), "{errors:?}");
    }

    #[test]
    fn what_is_compiled_into_tests_only_may_import_from_anywhere() {
        let lower = "#[cfg(test)] mod tests { use crate::upper::call; }\n\
                     #[cfg(test)] use crate::upper::Thing;\n\
                     #[test] fn works() { crate::upper::call() }";
        assert_eq!(errors_of_lower("tests", lower), [""; 0]);
    }

    #[test]
    fn the_table_and_the_modules_must_match() {
        let files = [("main.rs", MAIN), ("lower.rs", ""), ("upper.rs", "")];
        let errors = errors_in("unlisted", Some(FLOORS), &files);
        assert!(errors[0].contains("crate::macros is on no floor"), "{errors:?}");
        let floors = FLOORS.replace("\"lower\"", "\"lower\", \"macros\", \"gone\"");
        let errors = errors_in("gone", Some(&floors), &files);
        assert!(errors.iter().any(|error| error.contains("lists `gone`")), "{errors:?}");
    }

    #[test]
    fn a_listed_module_is_taken_out_of_its_parent() {
        let floors = FLOORS.replace("\"upper\"", "\"upper\", \"macros\", \"lower::high\"");
        let files = [
            ("main.rs", MAIN),
            ("lower/mod.rs", "mod high; pub use high::run; pub fn low() {}"),
            ("lower/high.rs", "pub fn run() { super::low(); crate::upper::call() }"),
            ("upper.rs", "pub fn call() {}"),
        ];
        assert_eq!(errors_in("split", Some(&floors), &files), [""; 0]);
    }

    /// A crate in which each of the files imports from the next, and the last from the first.
    fn circle_of(count: usize) -> Vec<String> {
        let main: String = (0..count).map(|at| format!("mod m{at};")).collect();
        let mut files = vec![("main.rs".to_owned(), main)];
        files.extend((0..count).map(|at| {
            let next = (at + 1) % count;
            (format!("m{at}.rs"), format!("pub struct S{at}; use crate::m{next}::S{next};"))
        }));
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        errors_in(&format!("circle-{count}"), None, &files)
    }

    #[test]
    fn a_circle_of_more_than_ten_files_is_an_error() {
        assert_eq!(circle_of(MAX_CIRCLE), [""; 0]);
        let errors = circle_of(MAX_CIRCLE + 1);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with("tree: 11 files import from each other"), "{errors:?}");
        assert!(errors[0].contains("m10.rs -> m0.rs: S0"), "{errors:?}");
    }
}
