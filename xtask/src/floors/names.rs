//! What one module's source defines, imports and names, before anything is resolved.
//!
//! Paths are found in `use` declarations, expressions, types, patterns and bounds, and in the
//! tokens that macros are given. What an attribute or a string names is not seen.

use super::source::is_test;
use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ImplItem, Item, Stmt, TraitItem, UseTree, Visibility};

/// A path that stands in a module's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    /// Its segments, as written.
    pub(crate) path: Vec<String>,
    /// Its line in the file.
    pub(crate) line: usize,
    /// How it is used.
    pub(crate) form: Form,
}

/// How a path is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A `use` for this module.
    Import,
    /// A `pub use`, which hands a name on.
    ReExport,
    /// A `use` of all names in a module.
    Glob,
    /// Anywhere else.
    Path,
}

/// What [`collect`] finds.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) items: BTreeSet<String>,
    /// Names of macros that `#[macro_export]` puts at the root of the crate.
    pub(super) exported_macros: Vec<String>,
    pub(super) imports: BTreeMap<String, Vec<String>>,
    pub(super) globs: Vec<Vec<String>>,
    pub(super) mentions: Vec<Mention>,
}

/// Collects the names of one module. Modules in it are left to the caller.
pub(super) fn collect(items: &[Item]) -> Names {
    let mut collector = Collector::default();
    for item in items {
        collector.define(item);
    }
    for item in items.iter().filter(|item| !matches!(item, Item::Mod(_))) {
        collector.visit_item(item);
    }
    collector.names
}

#[derive(Default)]
struct Collector {
    names: Names,
    /// What the `use` declarations inside functions import, innermost last.
    scopes: Vec<BTreeMap<String, Vec<String>>>,
}

impl Collector {
    /// Notes the name that an item defines.
    fn define(&mut self, item: &Item) {
        let name = match item {
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::TraitAlias(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Union(item) => &item.ident,
            Item::Macro(item) => match &item.ident {
                Some(name) => {
                    if item.attrs.iter().any(|it| it.path().is_ident("macro_export")) {
                        self.names.exported_macros.push(name.to_string());
                    }
                    name
                }
                None => return,
            },
            Item::ForeignMod(block) => {
                for item in &block.items {
                    match item {
                        syn::ForeignItem::Fn(item) => {
                            self.names.items.insert(item.sig.ident.to_string())
                        }
                        syn::ForeignItem::Static(item) => {
                            self.names.items.insert(item.ident.to_string())
                        }
                        _ => continue,
                    };
                }
                return;
            }
            _ => return,
        };
        self.names.items.insert(name.to_string());
    }

    fn mention(&mut self, path: Vec<String>, line: usize, form: Form) {
        self.names.mentions.push(Mention { path, line, form });
    }

    /// A path with its first segment replaced by what a `use` in the function says it is.
    fn expanded(&self, path: Vec<String>) -> Vec<String> {
        match self.scopes.iter().rev().find_map(|scope| scope.get(&path[0])) {
            Some(import) => import.iter().chain(&path[1..]).cloned().collect(),
            None => path,
        }
    }

    /// Takes a `use` declaration apart.
    fn import(&mut self, tree: &UseTree, before: &[String], form: Form) {
        let with = |name: &syn::Ident| {
            let mut path = before.to_vec();
            if name != "self" || path.is_empty() {
                path.push(name.to_string());
            }
            path
        };
        match tree {
            UseTree::Path(tree) => self.import(&tree.tree, &with(&tree.ident), form),
            UseTree::Group(tree) => {
                tree.items.iter().for_each(|tree| self.import(tree, before, form));
            }
            UseTree::Name(tree) => {
                let path = self.expanded(with(&tree.ident));
                let name = path.last().cloned().unwrap_or_default();
                self.bind(name, path, &tree.ident, form);
            }
            UseTree::Rename(tree) => {
                let path = self.expanded(with(&tree.ident));
                self.bind(tree.rename.to_string(), path, &tree.ident, form);
            }
            UseTree::Glob(tree) => {
                let path = self.expanded(before.to_vec());
                self.mention(path.clone(), tree.star_token.spans[0].start().line, Form::Glob);
                self.names.globs.push(path);
            }
        }
    }

    fn bind(&mut self, name: String, path: Vec<String>, at: &syn::Ident, form: Form) {
        self.mention(path.clone(), at.span().start().line, form);
        match self.scopes.last_mut() {
            Some(scope) => scope.insert(name, path),
            None => self.names.imports.insert(name, path),
        };
    }

    /// Looks for `a::b` in the tokens that a macro is given.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(name) => {
                    // Behind `::` it goes on; behind a path or a single `:` another one begins.
                    if colons != 2 || path.is_empty() {
                        self.end_of_path(&mut path, line);
                        line = name.span().start().line;
                    }
                    path.push(if colons == 2 && path.is_empty() {
                        String::new()
                    } else {
                        name.to_string()
                    });
                    colons = 0;
                }
                other => {
                    self.end_of_path(&mut path, line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.end_of_path(&mut path, line);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>, line: usize) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            let path = self.expanded(path);
            self.mention(path, line, Form::Path);
        }
    }
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let test = match item {
            ImplItem::Const(item) => is_test(&item.attrs),
            ImplItem::Fn(item) => is_test(&item.attrs),
            ImplItem::Type(item) => is_test(&item.attrs),
            _ => false,
        };
        if !test {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !matches!(item, TraitItem::Fn(item) if is_test(&item.attrs)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let form = match item.vis {
            Visibility::Inherited => Form::Import,
            _ => Form::ReExport,
        };
        if item.leading_colon.is_none() {
            self.import(&item.tree, &[], form);
        }
    }

    fn visit_block(&mut self, block: &'ast Block) {
        self.scopes.push(BTreeMap::new());
        for statement in &block.stmts {
            if let Stmt::Item(Item::Use(item)) = statement {
                self.visit_item_use(item);
            }
        }
        for statement in &block.stmts {
            if !matches!(statement, Stmt::Item(Item::Use(_))) {
                self.visit_stmt(statement);
            }
        }
        self.scopes.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // A name alone was imported by a `use`, which counts already.
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let line = path.segments[0].ident.span().start().line;
            let segments = path.segments.iter().map(|it| it.ident.to_string()).collect();
            let segments = self.expanded(segments);
            self.mention(segments, line, Form::Path);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.visit_path(&mac.path);
        self.tokens(mac.tokens.clone());
    }

    // `pub(in a::b)` imports nothing, and attributes are not looked at.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
