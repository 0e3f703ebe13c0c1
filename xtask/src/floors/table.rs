//! The table of floors, `floors.toml` beside a crate's `Cargo.toml`, and what it forbids.

use super::source::{Crate, Module};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::Path;

/// The floors of a crate, from top to bottom.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    floor: Vec<Floor>,
}

/// Modules that may import from each other and from the floors below.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Floor {
    name: String,
    /// Paths of modules (`a::b`; `crate` is the root file). Each one counts for the modules in it
    /// that are not listed themselves.
    modules: Vec<String>,
}

impl Table {
    /// Reads the table in a file.
    pub(crate) fn read(file: &Path) -> Result<Table> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is no table of floors", file.display()))
    }

    /// The floor of a module, 0 for the top.
    fn floor_of(&self, module: &Module) -> Option<usize> {
        let length = |listed: &str| {
            if listed == "crate" {
                return module.path.is_empty().then_some(0);
            }
            let listed: Vec<&str> = listed.split("::").collect();
            let inside = module.path.len() >= listed.len()
                && module.path.iter().zip(&listed).all(|(name, listed)| name == listed);
            inside.then_some(listed.len())
        };
        let floors = self.floor.iter().enumerate();
        floors
            .flat_map(|(at, floor)| {
                floor.modules.iter().filter_map(move |it| Some((length(it)?, at)))
            })
            .max_by_key(|(length, _)| *length)
            .map(|(_, at)| at)
    }

    /// What is wrong with a crate: one text for each import that runs upward, and for each module that
    /// the table does not know or that the crate has not.
    pub(crate) fn check(&self, source: &Crate, shown: &dyn Fn(&Path) -> String) -> Vec<String> {
        let mut wrong = Vec::new();
        for module in &source.modules {
            if self.floor_of(module).is_none() {
                let file = shown(&source.files[module.file]);
                wrong.push(format!(
                    "{file}: {} is on no floor: add it to floors.toml",
                    module.shown()
                ));
            }
        }
        for floor in &self.floor {
            for listed in &floor.modules {
                let known =
                    |module: &Module| module.path.join("::") == *listed || listed == "crate";
                if !source.modules.iter().any(known) {
                    wrong.push(format!(
                        "floors.toml: floor `{}` lists `{listed}`, and there is no such module",
                        floor.name
                    ));
                }
            }
        }
        for import in source.imports() {
            let (Some(from), Some(to)) = (self.floor_of(import.from), self.floor_of(import.to))
            else {
                continue;
            };
            if to < from {
                wrong.push(format!(
                    "{file}:{line}: `{path}` runs upward: {user} is on floor `{lower}`, and {definer} \
                     is on floor `{upper}` above it. Move the name down, pass the value in, or let \
                     the lower floor declare a trait or hook that the upper one provides",
                    file = shown(&source.files[import.from.file]),
                    line = import.mention.line,
                    path = import.mention.path.join("::"),
                    user = import.from.shown(),
                    lower = self.floor[from].name,
                    definer = import.to.shown(),
                    upper = self.floor[to].name,
                ));
            }
        }
        wrong.sort();
        wrong.dedup();
        wrong
    }
}
