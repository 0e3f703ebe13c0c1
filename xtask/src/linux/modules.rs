//! Linux's modules: which files a module needs, and in which order they are to be loaded.
//!
//! Debian makes the list of dependencies when it installs a kernel. Nothing is installed here, so
//! they are read where that list comes from, the section `.modinfo` of each file: `depends=` must
//! be loaded before, and so should what `softdep=pre:` asks for.

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The modules of one kernel.
#[derive(Debug)]
pub(crate) struct Modules {
    files: BTreeMap<String, PathBuf>,
}

/// A module to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Its name, with underscores.
    pub(crate) name: String,
    /// Its file's bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Modules {
    /// Finds all modules below a folder such as `lib/modules/6.1.0`.
    pub(crate) fn below(folder: &Path) -> Result<Modules> {
        let mut modules = Modules { files: BTreeMap::new() };
        modules.collect(folder)?;
        Ok(modules)
    }

    fn collect(&mut self, folder: &Path) -> Result<()> {
        let entries = std::fs::read_dir(folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                self.collect(&path)?;
            } else if path.extension().is_some_and(|extension| extension == "ko")
                && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
            {
                self.files.insert(plain(name), path);
            }
        }
        Ok(())
    }

    /// These modules and all they need, each after what it needs.
    pub(crate) fn with_needs(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut loaded = Vec::new();
        for name in names {
            self.load(&plain(name), &mut loaded, &mut Vec::new())?;
        }
        Ok(loaded)
    }

    fn load(&self, name: &str, loaded: &mut Vec<Module>, path: &mut Vec<String>) -> Result<()> {
        if loaded.iter().any(|module| module.name == name) {
            return Ok(());
        }
        if path.iter().any(|before| before == name) {
            bail!("the modules {} need each other", path.join(", "));
        }
        let file = self.files.get(name).with_context(|| format!("no module `{name}`"))?;
        let bytes = std::fs::read(file)?;
        let info = info(&bytes).with_context(|| format!("module {}", file.display()))?;
        path.push(name.into());
        for need in needs(&info) {
            self.load(&need, loaded, path)?;
        }
        // What is only wished for may be built into the kernel, or go by an alias.
        for wish in wishes(&info).filter(|wish| self.files.contains_key(wish)) {
            self.load(&wish, loaded, path)?;
        }
        path.pop();
        loaded.push(Module { name: name.into(), bytes });
        Ok(())
    }
}

/// Names are written with dashes or with underscores; they mean the same.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// The words of the section `.modinfo`: texts that end with a NUL.
fn info(module: &[u8]) -> Result<String> {
    let file = object::File::parse(module)?;
    let section = file.section_by_name(".modinfo").context("it has no section .modinfo")?;
    Ok(String::from_utf8_lossy(section.data()?).into_owned())
}

fn needs(info: &str) -> impl Iterator<Item = String> {
    values(info, "depends=").flat_map(|list| list.split(',')).filter(|n| !n.is_empty()).map(plain)
}

fn wishes(info: &str) -> impl Iterator<Item = String> {
    values(info, "softdep=pre: ").flat_map(str::split_whitespace).map(plain)
}

fn values<'a>(info: &'a str, key: &'static str) -> impl Iterator<Item = &'a str> {
    info.split('\0').filter_map(move |text| text.strip_prefix(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_and_wishes_are_read() {
        let info =
            "license=GPL\0depends=libcrc32c,xfs-a\0softdep=pre: crc32c other-one\0depends=\0";
        assert_eq!(needs(info).collect::<Vec<_>>(), ["libcrc32c", "xfs_a"]);
        assert_eq!(wishes(info).collect::<Vec<_>>(), ["crc32c", "other_one"]);
        assert_eq!(needs("name=brd\0depends=\0").count(), 0);
    }
}
