//! Reading the outer machine's console: how the inner QEMU ended, and how often Pinfold left to KVM.

use crate::machine::Ended;
use std::collections::BTreeMap;
use std::fmt;

/// What each line of the init script begins with.
const HEAD: &str = "nested-kvm: ";

fn told<'a>(console: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    console.lines().filter_map(move |line| {
        let line = line.trim_end().strip_prefix(HEAD)?.strip_prefix(word)?;
        line.strip_prefix(' ')
    })
}

/// How the inner QEMU ended, if the script says so.
pub(super) fn inner_end(console: &str) -> Option<Ended> {
    if let Some(why) = told(console, "failed").next() {
        return Some(Ended::Exited(Some(1), format!("the outer machine failed: {why}")));
    }
    let status: i32 = told(console, "status").last()?.parse().ok()?;
    let errors: Vec<&str> = told(console, "error").collect();
    // A shell's word for a signal.
    Some(Ended::Exited((status < 128).then_some(status), errors.join("\n")))
}

/// How often the inner machine left to KVM, by reason and by what it was after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exits {
    /// By tracepoint and key.
    counts: BTreeMap<String, BTreeMap<u64, u64>>,
}

impl Exits {
    /// Reads the counts; `None` if there are none.
    pub(super) fn read(console: &str) -> Option<Exits> {
        let mut exits = Exits::default();
        for line in told(console, "count") {
            let mut words = line.split_whitespace();
            let event = words.next()?;
            let key = u64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok()?;
            let count: u64 = words.next()?.parse().ok()?;
            *exits.counts.entry(event.into()).or_default().entry(key).or_default() += count;
        }
        exits.counts.contains_key("kvm_exit").then_some(exits)
    }

    /// The counts of an event, the largest first.
    fn of(&self, event: &str) -> Vec<(u64, u64)> {
        let counts = self.counts.get(event).into_iter().flatten();
        let mut counts: Vec<_> = counts.map(|(key, count)| (*key, *count)).collect();
        counts.sort_by_key(|(key, count)| (u64::MAX - count, *key));
        counts
    }

    /// All exits, and the largest reasons, in a line.
    pub(crate) fn in_short(&self) -> String {
        let reasons = self.of("kvm_exit");
        let sum: u64 = reasons.iter().map(|(_, count)| count).sum();
        let largest = reasons.iter().take(4).map(|(code, n)| format!("{} {n}", reason(*code)));
        format!("{sum} exits to KVM: {}", largest.collect::<Vec<_>>().join(", "))
    }
}

/// The table, for people.
impl fmt::Display for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Rows of each part.
        const ROWS: usize = 16;
        let parts = [
            ("kvm_exit", "exits by reason"),
            ("kvm_pio", "port I/O by port"),
            ("kvm_mmio", "memory-mapped I/O by address"),
            ("kvm_msr", "MSRs by number"),
        ];
        for (event, title) in parts {
            let counts = self.of(event);
            let sum: u64 = counts.iter().map(|(_, count)| count).sum();
            writeln!(f, "{sum:>10}  {title}")?;
            for (key, count) in counts.iter().take(ROWS) {
                let name = if event == "kvm_exit" { reason(*key) } else { format!("{key:#x}") };
                writeln!(f, "{count:>10}    {name}")?;
            }
            let rest: u64 = counts.iter().skip(ROWS).map(|(_, count)| count).sum();
            if rest > 0 {
                writeln!(f, "{rest:>10}    others")?;
            }
        }
        Ok(())
    }
}

/// The name of an exit code (AMD64 Architecture Programmer's Manual vol. 2, appendix C).
fn reason(code: u64) -> String {
    let name = match code {
        0x00..=0x0f => return format!("CR{code} read"),
        0x10..=0x1f => return format!("CR{} write", code - 0x10),
        0x20..=0x2f => return format!("DR{} read", code - 0x20),
        0x30..=0x3f => return format!("DR{} write", code - 0x30),
        0x40..=0x5f => return format!("exception {}", code - 0x40),
        0x60 => "interrupt",
        0x61 => "NMI",
        0x64 => "interrupt window",
        0x65 => "selective CR0 write",
        0x72 => "CPUID",
        0x76 => "INVD",
        0x77 => "PAUSE",
        0x78 => "HLT",
        0x79 => "INVLPG",
        0x7b => "port I/O",
        0x7c => "MSR",
        0x7f => "shutdown",
        0x80 => "VMRUN",
        0x81 => "VMMCALL",
        0x82 => "VMLOAD",
        0x83 => "VMSAVE",
        0x84 => "STGI",
        0x85 => "CLGI",
        0x87 => "RDTSCP",
        0x89 => "WBINVD",
        0x8d => "XSETBV",
        0x400 => "nested page fault",
        _ => return format!("exit code {code:#x}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "[    1.0] kernel\r\nnested-kvm: ready 3.5\r\n\
        nested-kvm: count kvm_exit 0x7b 300\r\nnested-kvm: count kvm_exit 400 20\r\n\
        nested-kvm: count kvm_pio 0x3f8 280\r\nnested-kvm: error a warning\r\n\
        nested-kvm: status 33\r\n";

    #[test]
    fn the_inner_end_is_what_the_script_says() {
        let ended = inner_end(CONSOLE);
        assert_eq!(ended, Some(Ended::Exited(Some(33), "a warning".into())));
        let killed = inner_end("nested-kvm: status 134\n");
        assert_eq!(killed, Some(Ended::Exited(None, String::new())));
        assert_eq!(inner_end("nested-kvm: ready 3.5\nstatus 33\n"), None);
        assert!(matches!(inner_end("nested-kvm: failed x\n"), Some(Ended::Exited(Some(1), _))));
    }

    #[test]
    fn exits_are_counted_and_named() {
        let exits = Exits::read(CONSOLE).unwrap();
        assert_eq!(exits.in_short(), "320 exits to KVM: port I/O 300, nested page fault 20");
        let table = exits.to_string();
        assert!(table.contains("       280    0x3f8\n"), "{table}");
        assert_eq!(Exits::read("nested-kvm: status 33\n"), None);
    }
}
