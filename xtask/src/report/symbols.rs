//! Names for addresses, from an ELF file's debug information.

use super::model::Call;
use crate::image::HYPERVISOR_BASE;
use anyhow::{Context, Result, anyhow};
use object::{Object, ObjectSection, SectionKind};
use std::path::Path;

/// Inlined calls named for one address.
const CALLS: usize = 4;

/// The names of one program.
pub(super) struct Symbols {
    loader: addr2line::Loader,
    base: u64,
    /// The code, by its first address.
    code: Vec<(u64, Vec<u8>)>,
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
        let bytes = std::fs::read(file).with_context(|| format!("{}", file.display()))?;
        let object = object::File::parse(&*bytes)?;
        let text = object.sections().filter(|section| section.kind() == SectionKind::Text);
        let code =
            text.filter_map(|one| Some((one.address(), one.data().ok()?.to_vec()))).collect();
        Ok(Symbols { loader, base, code })
    }

    /// The calls that led to an address: those at the address itself, and those at each of the
    /// return addresses that were found on the stack, as far as they make a chain. One that
    /// follows a call of something else is left over from earlier.
    pub(super) fn stack(&self, rip: u64, callers: &[u64]) -> Vec<Call> {
        let mut calls = self.calls(rip);
        let mut inner = rip;
        for &address in callers {
            let function = |at: u64| self.loader.find_symbol(at.checked_sub(self.base)?);
            let called = self.called_before(address).and_then(function);
            if called.is_none() || called != function(inner) {
                continue;
            }
            // The call itself, not what comes behind it.
            calls.extend(self.calls(address - 1));
            inner = address;
        }
        calls
    }

    /// What a direct call before a return address calls.
    fn called_before(&self, address: u64) -> Option<u64> {
        let begin = address.checked_sub(self.base)?.checked_sub(5)?;
        let bytes = self.code.iter().find_map(|(first, bytes)| {
            let at = usize::try_from(begin.checked_sub(*first)?).ok()?;
            bytes.get(at..at.checked_add(5)?)
        })?;
        let [0xe8, distance @ ..] = bytes else { return None };
        let distance = i32::from_le_bytes(distance.try_into().ok()?);
        Some(address.wrapping_add_signed(distance.into()))
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
            '<' if depth > 0 || last.is_alphanumeric() || "_}".contains(last) => depth += 1,
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
        // Not known to the compiler, so that it can't do without the call.
        std::hint::black_box(a_name_of_its_own as fn() -> usize as usize)
    }

    /// Return addresses of all direct calls of a function.
    fn addresses_before_which_is_called(symbols: &Symbols, function: u64) -> Vec<u64> {
        let mut found = Vec::new();
        for (first, bytes) in &symbols.code {
            for at in 5..bytes.len() as u64 {
                let address = symbols.base + first + at;
                if symbols.called_before(address) == Some(function) {
                    found.push(address);
                }
            }
        }
        found
    }

    #[test]
    fn this_program_knows_its_own_names() {
        // This program is position-independent too: where it was put is its first mapping.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let base = u64::from_str_radix(maps.split('-').next().unwrap(), 16).unwrap();
        let symbols = Symbols::load(&std::env::current_exe().unwrap(), base).unwrap();
        let own = a_name_of_its_own() as u64;
        let calls = symbols.calls(own);
        assert!(calls[0].function.ends_with("a_name_of_its_own"), "{calls:?}");
        assert_eq!(calls[0].file, "xtask/src/report/symbols.rs");
        assert!(calls[0].line.is_some());
        // The way here, found as the hypervisor finds it: return addresses that make a chain.
        let callers: Vec<u64> = addresses_before_which_is_called(&symbols, own);
        assert!(!callers.is_empty());
        for caller in callers {
            let inner = own + 1;
            let stack = symbols.stack(inner, &[base, caller + 1, caller]);
            assert!(stack.len() > 1, "{stack:?}");
            assert_eq!(
                symbols.stack(inner + (1 << 20), &[caller]).len(),
                symbols.calls(inner + (1 << 20)).len()
            );
        }
        assert!(symbols.calls(base - 1).is_empty() && symbols.calls(u64::MAX).is_empty());
    }

    #[test]
    fn types_are_left_out_of_names() {
        assert_eq!(plain("pin_now<a::Native, [u8; 2]>"), "pin_now");
        assert_eq!(plain("map<fn(u8) -> Vec<u8>>::go<_>"), "map::go");
        assert_eq!(plain("{closure#0}<a::b>"), "{closure#0}");
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
