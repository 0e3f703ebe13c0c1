//! Names for addresses, from an ELF file's debug information.

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

    /// `function at file:line` for an address, as much of it as is known. Calls that were inlined
    /// into one another are all named, innermost first; libraries and call wrappers are left out.
    pub(super) fn place(&self, address: u64) -> Option<String> {
        let probe = address.checked_sub(self.base)?;
        let calls = self.calls(probe);
        let own: Vec<_> = calls.iter().filter(|(_, file)| own_source(file)).collect();
        let named = if own.is_empty() { calls.iter().take(1).collect() } else { own };
        if named.is_empty() {
            let symbol = self.loader.find_symbol(probe)?;
            return Some(format!("{:#}", rustc_demangle::demangle(symbol)));
        }
        let named = named.iter().take(CALLS).map(|(name, place)| format!("{name} at {place}"));
        Some(named.collect::<Vec<_>>().join(", in "))
    }

    /// The calls at an address, innermost first: function and `file:line`.
    fn calls(&self, probe: u64) -> Vec<(String, String)> {
        let mut calls = Vec::new();
        let Ok(mut frames) = self.loader.find_frames(probe) else { return calls };
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().and_then(|function| {
                let raw = function.raw_name().ok()?;
                Some(format!("{:#}", rustc_demangle::demangle(&raw)))
            });
            let place = frame.location.and_then(|location| {
                let file = shorten(location.file?).to_owned();
                Some(location.line.map_or(file.clone(), |line| format!("{file}:{line}")))
            });
            if let (Some(function), Some(place)) = (function, place) {
                calls.push((function, place));
            }
        }
        calls
    }
}

/// True for sources of the tree that are not the thin wrappers around an instruction.
fn own_source(file: &str) -> bool {
    let ours = ["hypervisor/", "guest-shim/", "tests/", "shared/", "xtask/"];
    ours.iter().any(|start| file.starts_with(start))
        && !file.starts_with("guest-shim/src/hypercall/")
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
        let place = symbols.place(a_name_of_its_own() as u64).unwrap();
        assert!(place.contains("a_name_of_its_own at xtask/src/report/symbols.rs:"), "{place}");
        assert_eq!(symbols.place(base - 1), None);
        assert_eq!(symbols.place(u64::MAX), None);
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
