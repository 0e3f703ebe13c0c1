//! One crate as a tree of modules: where each one's source lies, what it defines and what it names.

use super::names::{self, Mention};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::{Attribute, Item, ItemMod, Meta};

/// A library, a program or an integration test: everything under one root file.
#[derive(Debug)]
pub(crate) struct Crate {
    /// What `cargo` calls it.
    pub(crate) name: String,
    /// Its source files. Tests (`#[cfg(test)]`) are left out: they may import from anywhere.
    pub(crate) files: Vec<PathBuf>,
    /// Its modules; the first one is the root.
    pub(crate) modules: Vec<Module>,
}

/// A module, in a file of its own or inline.
#[derive(Debug, Default)]
pub(crate) struct Module {
    /// Its path below the crate, empty for the root.
    pub(crate) path: Vec<String>,
    /// Its file, as an index into [`Crate::files`].
    pub(crate) file: usize,
    pub(super) parent: Option<usize>,
    pub(super) children: BTreeMap<String, usize>,
    /// The names that it defines, other than modules.
    pub(super) items: BTreeSet<String>,
    /// The names that it imports, with the paths as written.
    pub(super) imports: BTreeMap<String, Vec<String>>,
    /// The paths that it imports all names from.
    pub(super) globs: Vec<Vec<String>>,
    /// The paths that stand in its source.
    pub(super) mentions: Vec<Mention>,
}

impl Module {
    /// Its path as it is written in Rust: `crate::a::b`.
    pub(crate) fn shown(&self) -> String {
        std::iter::once("crate")
            .chain(self.path.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join("::")
    }
}

impl Crate {
    /// Reads the crate with this root file.
    pub(crate) fn read(name: &str, root: &Path) -> Result<Crate> {
        let mut tree = Crate { name: name.into(), files: Vec::new(), modules: Vec::new() };
        let folder = root.parent().context("a source file lies in a folder")?;
        tree.read_file(root, folder, Vec::new(), None)?;
        Ok(tree)
    }

    /// Reads a module that has a file of its own; its children's files lie in `folder`.
    fn read_file(
        &mut self,
        file: &Path,
        folder: &Path,
        path: Vec<String>,
        parent: Option<usize>,
    ) -> Result<usize> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let source = syn::parse_file(&text).map_err(|error| {
            anyhow::anyhow!("{}:{}: {error}", file.display(), error.span().start().line)
        })?;
        self.files.push(file.to_path_buf());
        let at = self.files.len() - 1;
        self.add(&source.items, at, folder, path, parent)
    }

    /// Adds a module with these items, and the modules in it.
    fn add(
        &mut self,
        items: &[Item],
        file: usize,
        folder: &Path,
        path: Vec<String>,
        parent: Option<usize>,
    ) -> Result<usize> {
        let this = self.modules.len();
        self.modules.push(Module { path, file, parent, ..Module::default() });
        let names = names::collect(items);
        for name in names.exported_macros {
            self.modules[0].items.insert(name);
        }
        let module = &mut self.modules[this];
        module.items.extend(names.items);
        module.imports = names.imports;
        module.globs = names.globs;
        module.mentions = names.mentions;
        for item in items {
            if let Item::Mod(child) = item
                && !is_test(&child.attrs)
            {
                let index = self.add_child(child, file, folder, this)?;
                self.modules[this].children.insert(child.ident.to_string(), index);
            }
        }
        Ok(this)
    }

    fn add_child(
        &mut self,
        child: &ItemMod,
        file: usize,
        folder: &Path,
        parent: usize,
    ) -> Result<usize> {
        let name = child.ident.to_string();
        let mut path = self.modules[parent].path.clone();
        path.push(name.clone());
        let own_folder = folder.join(&name);
        if let Some((_, items)) = &child.content {
            return self.add(items, file, &own_folder, path, Some(parent));
        }
        if let Some(given) = path_attribute(&child.attrs) {
            let beside = self.files[file].parent().context("a source file lies in a folder")?;
            let file = beside.join(given);
            let folder = file.parent().context("a source file lies in a folder")?.to_path_buf();
            return self.read_file(&file, &folder, path, Some(parent));
        }
        let flat = folder.join(format!("{name}.rs"));
        let nested = own_folder.join("mod.rs");
        match [flat, nested].into_iter().find(|file| file.exists()) {
            Some(file) => self.read_file(&file, &own_folder, path, Some(parent)),
            None => bail!("{}: no file for `mod {name};`", self.files[file].display()),
        }
    }
}

/// True for what is compiled into tests only.
pub(super) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute.path().is_ident("test") {
            return true;
        }
        let Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string();
        let mut words = condition.split(|c: char| !c.is_alphanumeric() && c != '_');
        list.path.is_ident("cfg")
            && !condition.starts_with("not")
            && words.any(|word| word == "test")
    })
}

/// The file that `#[path = "..."]` names.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}
