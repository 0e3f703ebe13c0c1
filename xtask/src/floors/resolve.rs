//! From a path as written to the module that defines what it names.

use super::names::{Form, Mention};
use super::source::{Crate, Module};

/// How many imports are followed from one name to the next before a loop is assumed.
const MAX_HOPS: usize = 16;

/// A use of one module's names by another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Import<'a> {
    /// The module that imports.
    pub(crate) from: &'a Module,
    /// The module that defines the name. A module that only hands it on is looked through.
    pub(crate) to: &'a Module,
    /// Where it stands, and as what.
    pub(crate) mention: &'a Mention,
    /// It names the module itself, and nothing that the module defines.
    pub(crate) whole_module: bool,
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Module(usize),
    /// Something that this module defines.
    Item(usize),
}

impl Crate {
    /// All imports of the crate's modules from each other.
    ///
    /// `use a::b` where `b` is a module names the module as a whole; what is used of it stands elsewhere,
    /// as `b::c`. A `pub use` of a name from a module further in is no import: it belongs to the module that it is in.
    pub(crate) fn imports(&self) -> impl Iterator<Item = Import<'_>> {
        self.modules.iter().enumerate().flat_map(move |(at, from)| {
            from.mentions.iter().filter_map(move |mention| {
                let target = self.resolve(at, &mention.path, MAX_HOPS)?;
                let (to, whole_module) = match (target, mention.form) {
                    (Target::Item(to), _) | (Target::Module(to), Form::Glob) => (to, false),
                    (Target::Module(to), _) => (to, true),
                };
                let to = &self.modules[to];
                let further_in = to.path.starts_with(&from.path);
                let handed_on = matches!(mention.form, Form::ReExport) && further_in;
                (!handed_on).then_some(Import { from, to, mention, whole_module })
            })
        })
    }

    fn resolve(&self, from: usize, path: &[String], hops: usize) -> Option<Target> {
        let hops = hops.checked_sub(1)?;
        let mut at = from;
        let mut rest = path;
        while let [first, after @ ..] = rest {
            match first.as_str() {
                "crate" => at = 0,
                "self" => {}
                "super" => at = self.modules[at].parent?,
                _ => break,
            }
            rest = after;
        }
        let rooted = rest.len() < path.len();
        match self.resolve_in(at, rest, hops) {
            // A name that a macro makes, or one of another crate that is handed on.
            None if rooted => Some(Target::Item(at)),
            found => found,
        }
    }

    /// Follows a path from a module, without `crate`, `self` or `super`.
    fn resolve_in(&self, at: usize, path: &[String], hops: usize) -> Option<Target> {
        let module = &self.modules[at];
        let [name, rest @ ..] = path else { return Some(Target::Module(at)) };
        let is_item = module.items.contains(name);
        if let Some(&child) = module.children.get(name)
            && !(is_item && rest.is_empty())
        {
            return Some(self.resolve_in(child, rest, hops).unwrap_or(Target::Item(child)));
        }
        if is_item {
            return Some(Target::Item(at));
        }
        if let Some(import) = module.imports.get(name)
            && import.first() != Some(name)
        {
            let whole: Vec<String> = import.iter().chain(rest).cloned().collect();
            return self.resolve(at, &whole, hops);
        }
        let hops = hops.checked_sub(1)?;
        module.globs.iter().find_map(|glob| match self.resolve(at, glob, hops)? {
            Target::Module(from) if from != at => self.resolve_in(from, path, hops),
            _ => None,
        })
    }
}
