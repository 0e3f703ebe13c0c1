//! Names for addresses, from an ELF file's debug information.

use super::model::Call;
use crate::image::HYPERVISOR_BASE;
use anyhow::{Result, anyhow};
use std::path::Path;

/// Inlined calls named for one address.
const CALLS: usize = 4;

/// The names of one program.
pub(super) struct Symbols {
    loader: addr2line::Loader,
    base: u64,
}

impl Symbols {
    /// The hypervisor's.
    pub(super) fn hypervisor(file: &Path) -> Result<Symbols> {
        Symbols::load(file, HYPERVISOR_BASE)
    }

    /// A guest's, which runs where it was linked.
    pub(super) fn guest(file: &Path) -> Result<Symbols> {
        Symbols::load(file, 0)
    }

    fn load(file: &Path, base: u64) -> Result<Symbols> {
        let loader =
            addr2line::Loader::new(file).map_err(|error| anyhow!("{}: {error}", file.display()))?;
        Ok(Symbols { loader, base })
    }

    /// The calls at an address, as much of them as is known: those that were inlined into one
    /// another are all named, innermost first; libraries and call wrappers are left out where
    /// something of the tree is there.
    pub(super) fn calls(&self, address: u64) -> Vec<Call> {
        let Some(probe) = address.checked_sub(self.base) else { return Vec::new() };
        let mut calls = self.all_calls(probe);
        if calls.iter().any(|call| own_source(&call.file)) {
            calls.retain(|call| own_source(&call.file));
            calls.truncate(CALLS);
        } else {
            calls.truncate(1);
        }
        if calls.is_empty()
            && let Some(symbol) = self.loader.find_symbol(probe)
        {
            let function = format!("{:#}", rustc_demangle::demangle(symbol));
            calls.push(Call { function, file: String::new(), line: None });
        }
        calls
    }

    fn all_calls(&self, probe: u64) -> Vec<Call> {
        let mut calls = Vec::new();
        let Ok(mut frames) = self.loader.find_frames(probe) else { return calls };
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().and_then(|function| {
                let raw = function.raw_name().ok()?;
                Some(plain(&format!("{:#}", rustc_demangle::demangle(&raw))))
            });
            let place = frame
                .location
                .and_then(|location| Some((shorten(location.file?).to_owned(), location.line)));
            if let (Some(function), Some((file, line))) = (function, place) {
                calls.push(Call { function, file, line });
            }
        }
        calls
    }
}

/// A function's name without the types that it was made for.
fn plain(name: &str) -> String {
    let (mut out, mut depth) = (String::new(), 0_u32);
    let mut last = ' ';
    for c in name.chars() {
        match c {
            // `<T as Trait>::function` and `impl<..>` begin with the bracket: they stay.
            '<' if depth > 0 || last.is_alphanumeric() || last == '_' => depth += 1,
            '>' if depth > 0 && last != '-' => depth -= 1,
            _ if depth > 0 => {}
            c => out.push(c),
        }
        last = c;
    }
    out
}

/// Sources that only pass a call on.
const WRAPPERS: &[&str] = &["guest-shim/src/hypercall/", "guest-shim/src/entry/native.rs"];

/// True for sources of the tree that are not the thin wrappers around an instruction.
fn own_source(file: &str) -> bool {
    let ours = ["hypervisor/", "guest-shim/", "tests/", "shared/", "xtask/"];
    ours.iter().any(|start| file.starts_with(start))
        && !WRAPPERS.iter().any(|start| file.starts_with(start))
}

/// A source path without what is before the tree or the crate.
fn shorten(path: &str) -> &str {
    let root = crate::paths::root();
    let path = path.strip_prefix(&*root.to_string_lossy()).unwrap_or(path);
    for mark in ["/registry/src/", "/lib/rustlib/src/rust/"] {
        if let Some((_, rest)) = path.split_once(mark) {
            return rest;
        }
    }
    path.trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn a_name_of_its_own() -> usize {
        a_name_of_its_own as fn() -> usize as usize
    }

    #[test]
    fn this_program_knows_its_own_names() {
        // This program is position-independent too: where it was put is its first mapping.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let base = u64::from_str_radix(maps.split('-').next().unwrap(), 16).unwrap();
        let symbols = Symbols::load(&std::env::current_exe().unwrap(), base).unwrap();
        let calls = symbols.calls(a_name_of_its_own() as u64);
        assert!(calls[0].function.ends_with("a_name_of_its_own"), "{calls:?}");
        assert_eq!(calls[0].file, "xtask/src/report/symbols.rs");
        assert!(calls[0].line.is_some());
        assert!(symbols.calls(base - 1).is_empty() && symbols.calls(u64::MAX).is_empty());
    }

    #[test]
    fn types_are_left_out_of_names() {
        assert_eq!(plain("pin_now<a::Native, [u8; 2]>"), "pin_now");
        assert_eq!(plain("map<fn(u8) -> Vec<u8>>::go<_>"), "map::go");
        assert_eq!(plain("<A as B>::c"), "<A as B>::c");
    }

    #[test]
    fn paths_are_short() {
        assert_eq!(
            shorten("/home/u/.cargo/registry/src/x-1/acpi-5/src/lib.rs"),
            "x-1/acpi-5/src/lib.rs"
        );
        let own = crate::paths::root().join("hypervisor/src/main.rs");
        assert_eq!(shorten(own.to_str().unwrap()), "hypervisor/src/main.rs");
    }
}
