//! The command line. Help texts are the doc comments; every verb shows an example.

use crate::exit;
use clap::{Args, Parser, Subcommand, ValueEnum};
use libtest_mimic::{ColorSetting, FormatSetting};
use pinfold_image::manifest::LogLevel;
use pinfold_image::size::Size;
use pinfold_image::{CachePolicy, Container, Isolation};
use std::num::NonZeroU32;
use std::path::PathBuf;

/// Builds Pinfold and its guests, runs them in QEMU, tests them and reads their logs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = exit::TABLE)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Builds everything, boots it in QEMU and streams the serial log.
    #[command(after_help = RUN_HELP)]
    Run(RunArgs),
    /// Runs all tests: host tests, loom models, the report in a browser, whole machines.
    #[command(after_help = TEST_HELP)]
    Test(TestArgs),
    /// Writes a raw GPT disk image that boots on UEFI machines.
    #[command(after_help = IMAGE_HELP)]
    Image(ImageArgs),
    /// Turns a serial log into a report: violations and their cures, refusals, how each domain ended.
    #[command(after_help = REPORT_HELP)]
    Report(ReportArgs),
    /// Walks through one violation of a log in prose.
    #[command(after_help = EXPLAIN_HELP)]
    Explain(ExplainArgs),
    /// Counts the instructions of each operation on Pinfold and on Xen.
    #[command(after_help = BENCH_HELP)]
    Bench(BenchArgs),
    /// Checks that no import runs upward, and that no large circle of files import each other.
    #[command(after_help = FLOORS_HELP)]
    Floors(FloorsArgs),
    /// Says what is missing on this machine and how to get it.
    #[command(after_help = "Example:\n  cargo xtask doctor")]
    Doctor,
}

const RUN_HELP: &str = "\
Examples:
  cargo xtask run                          the stress guest on Pinfold
  cargo xtask run hello stress             two domains at once
  cargo xtask run stress --cmdline \"rounds=200 seed=7\" --timeout 600
  cargo xtask run stress --report r.html   and a page about what was found
  cargo xtask run stress --on xen          the same image on Debian's Xen
  cargo xtask run stress --cache report --cmdline \"phases=m cache=report\"
                                           mixed memory types, told of and not refused
  cargo xtask run stress --container svm   its kernel in ring 0 of an AMD SVM guest
  cargo xtask run smp --vcpus 2 --isolate-page-tables on
                                           as on a processor with Meltdown
  cargo xtask run ./vmlinux --initrd ./initrd.img --guest-mem 256M
  cargo xtask run stress --accel nested-kvm
                                           under KVM that runs in QEMU's translator, with the exits
  cargo xtask run linux                    Debian's Linux, to a shell; Ctrl-A X ends it
  cargo xtask run linux --vcpus 2 --cmdline pinfold.test

With several guests, --cmdline, --initrd, --vcpus and --guest-mem are given once for all, or once
for each guest in their order. The log is also kept in target/runs/.

What is typed, or comes from a pipe, goes to the machine's serial line. On a terminal Ctrl-A X ends
the run, Ctrl-A N gives the keyboard to the next guest, and Ctrl-A Ctrl-A is one Ctrl-A for it.";

const TEST_HELP: &str = "\
Examples:
  cargo xtask test                    everything
  cargo xtask test bad-image          the tests with `bad-image` in their name
  cargo xtask test hello --exact      the test `hello` alone
  cargo xtask test host               one part: the host tests
  cargo xtask test machine --skip xen the whole machines, but not those on Xen
  cargo xtask test kvm                Pinfold under KVM; half an hour where KVM must be emulated
  cargo xtask test --list             all names, with a line about each

Parts: floors (directions of imports), host (cargo test), doc (examples in the documentation), loom
(models of concurrent code), miri (where a nightly toolchain has it), page (the report in headless
Chromium), machine (whole machines), kvm (whole machines under KVM: this one's, or nested in QEMU's
translator). Without a filter, only the short ones of kvm run.

Each machine runs under its own time limit; the log of one that failed stays in
target/runs/test-NAME/. The last line reads `N passed, N failed, N skipped`; in it each test that
cargo ran counts. Progress, and how long each test took, goes to standard error.";

const IMAGE_HELP: &str = "\
Examples:
  cargo xtask image                             stress, to target/pinfold.img
  cargo xtask image hello stress -o usb.img

Write it to a USB stick with dd and start a UEFI machine (Secure Boot off) from it. The log goes to
the first serial port (COM1, 115200 baud).";

const REPORT_HELP: &str = "\
Examples:
  cargo xtask report target/runs/stress-pinfold/serial.log
  cargo xtask report serial.log --full     every violation in full
  cargo xtask report serial.log --json     for programs; docs/report-schema.json says what is in it
  cargo xtask report serial.log --html report.html
  cargo xtask report linux.log --guest-symbols linux=vmlinux";

const EXPLAIN_HELP: &str = "\
Examples:
  cargo xtask explain 7 target/runs/stress-pinfold/serial.log";

const BENCH_HELP: &str = "\
Examples:
  cargo xtask bench            on both, with the ratio
  cargo xtask bench --no-xen   on Pinfold only
  cargo xtask bench --no-xen --isolate-page-tables on
                               as on a processor with Meltdown
  cargo xtask bench --container svm
                               and in the hardware container
  cargo xtask bench --linux    and how long Linux's test takes, as a ratio to Xen
  cargo xtask bench --policies what a pin costs, the more lazy mappings there are";

const FLOORS_HELP: &str = "\
Examples:
  cargo xtask floors             lists each import that is not allowed, with its line
  cargo xtask floors --circles   the largest circle of each crate, with its imports

The floors of a crate stand in floors.toml beside its Cargo.toml, from top to bottom.";

/// Where guests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Host {
    /// Pinfold, started by UEFI firmware.
    Pinfold,
    /// Debian's Xen 4.17, the guest as its first domain.
    Xen,
}

/// How QEMU runs the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccelChoice {
    /// KVM where it can work, else TCG.
    Auto,
    /// KVM, or fail.
    Kvm,
    /// QEMU's own translator.
    Tcg,
    /// KVM in a machine of QEMU's translator, started directly: slow, but KVM where there is none.
    NestedKvm,
}

/// What mixing memory types leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CachePolicyArg {
    /// The mapping is refused, and the log names the others.
    Strict,
    /// The log names the others, and the mapping is made.
    Report,
}

impl From<CachePolicyArg> for CachePolicy {
    fn from(choice: CachePolicyArg) -> CachePolicy {
        match choice {
            CachePolicyArg::Strict => CachePolicy::Strict,
            CachePolicyArg::Report => CachePolicy::Report,
        }
    }
}

/// What a guest's kernel runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ContainerArg {
    /// In ring 3.
    None,
    /// In ring 0 of an AMD SVM guest.
    Svm,
}

impl From<ContainerArg> for Container {
    fn from(choice: ContainerArg) -> Container {
        match choice {
            ContainerArg::None => Container::None,
            ContainerArg::Svm => Container::Svm,
        }
    }
}

/// Whether guests run on page tables without the hypervisor's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IsolationChoice {
    /// If the processor has Meltdown.
    Auto,
    /// On any processor.
    On,
    /// On none: on a processor with Meltdown guests can read all of memory.
    Off,
}

impl From<IsolationChoice> for Isolation {
    fn from(choice: IsolationChoice) -> Isolation {
        match choice {
            IsolationChoice::Auto => Isolation::Auto,
            IsolationChoice::On => Isolation::On,
            IsolationChoice::Off => Isolation::Off,
        }
    }
}

/// A log level by its name.
fn log_level(name: &str) -> Result<LogLevel, String> {
    let known = LogLevel::ALL.iter().copied().find(|level| level.name() == name);
    known.ok_or_else(|| {
        let names: Vec<_> = LogLevel::ALL.iter().map(|level| level.name()).collect();
        names.join(", ") + " are the levels"
    })
}

/// What the guests are and get.
#[derive(Args, Clone, Debug)]
pub(crate) struct GuestArgs {
    /// Names of guests in tests/guests, `linux` for Debian's kernel, `grub` for its GRUB, or paths of PV64 kernels
    /// (ELF or bzImage).
    #[arg(value_name = "GUEST", default_value = "stress")]
    pub(crate) guests: Vec<String>,
    /// A file that the guest gets as its initial ramdisk.
    #[arg(long, value_name = "FILE")]
    pub(crate) initrd: Vec<PathBuf>,
    /// The guest's command line (for `linux`, added to its own).
    #[arg(long, value_name = "STR", allow_hyphen_values = true)]
    pub(crate) cmdline: Vec<String>,
    /// Virtual processors of the guest.
    #[arg(long, value_name = "N")]
    pub(crate) vcpus: Vec<u32>,
    /// What mixing memory types (write-back here, uncached there) leads to on Pinfold: `strict`,
    /// if not given.
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) cache: Vec<CachePolicyArg>,
    /// The hardware container that the guest's kernel runs in on Pinfold: `none`, if not given. The
    /// kernel must declare `supervisor_mode_kernel`, as all that use the shim do.
    #[arg(long, value_enum, value_name = "KIND")]
    pub(crate) container: Vec<ContainerArg>,
    /// Memory of the guest (64M if not given, 512M for `linux`).
    #[arg(long, value_name = "SIZE", value_parser = Size::parse)]
    pub(crate) guest_mem: Vec<Size>,
}

impl GuestArgs {
    /// One guest, with what it gets if nothing is said.
    pub(crate) fn one(guest: &str) -> GuestArgs {
        GuestArgs {
            guests: vec![guest.into()],
            initrd: Vec::new(),
            cmdline: Vec::new(),
            vcpus: Vec::new(),
            cache: Vec::new(),
            container: Vec::new(),
            guest_mem: Vec::new(),
        }
    }
}

/// `run`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// The guests.
    #[command(flatten)]
    pub(crate) guest: GuestArgs,
    /// Processors of the machine (as many as the guest with the most, if not given).
    #[arg(long, value_name = "N")]
    pub(crate) smp: Option<u16>,
    /// Memory of the machine (512M, or what the guests need, if not given).
    #[arg(long, value_name = "SIZE", value_parser = Size::parse)]
    pub(crate) mem: Option<Size>,
    /// How QEMU runs the processor.
    #[arg(long, value_enum, default_value_t = AccelChoice::Auto)]
    pub(crate) accel: AccelChoice,
    /// The processor that QEMU is to show: a model with features, as its -cpu takes them.
    #[arg(long, value_name = "MODEL")]
    pub(crate) cpu: Option<String>,
    /// What the guest runs on.
    #[arg(long, value_enum, default_value_t = Host::Pinfold)]
    pub(crate) on: Host,
    /// Time limit in seconds (300 if not given; none for Linux's shell on a terminal).
    #[arg(long, value_name = "SECS")]
    pub(crate) timeout: Option<u64>,
    /// Where the serial log goes as well.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Writes a report of the run: a page for .html, JSON for .json, text for other names.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// How much the hypervisor logs of what it does itself: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = log_level)]
    pub(crate) log_level: LogLevel,
    /// Whether Pinfold's guests run on page tables without the hypervisor's memory, as processors
    /// with Meltdown need it.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = IsolationChoice::Auto)]
    pub(crate) isolate_page_tables: IsolationChoice,
    /// One nanosecond an instruction: the guest's clock counts instructions exactly.
    #[arg(long)]
    pub(crate) icount: bool,
    /// Waits for gdb before the first instruction and says how to attach it; no time limit.
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) gdb: bool,
    /// Any alias that is met makes the run fail with a code of its own.
    #[arg(long)]
    pub(crate) deny_aliases: bool,
    /// Bytes a second that the serial line takes (11520 is a port at 115,200 baud); if not given,
    /// as many as come, as no real port can.
    #[arg(long, value_name = "BYTES")]
    pub(crate) serial_rate: Option<NonZeroU32>,
    /// Pinfold takes some of the frames that guests give back, fills them with a pattern, and says
    /// in its audits if somebody wrote to one.
    #[arg(long)]
    pub(crate) canaries: bool,
    /// Starts Pinfold without UEFI firmware, by QEMU's -kernel and a loader of its own: four seconds
    /// faster.
    #[arg(long, conflicts_with = "boot_log")]
    pub(crate) direct: bool,
    /// Shows what the firmware and the bootloader say, too.
    #[arg(long)]
    pub(crate) boot_log: bool,
}

/// `test`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TestArgs {
    /// Only the tests with this in their name, or one part: `floors`, `host`, `doc`, `loom`, `miri`,
    /// `page`, `machine` or `kvm`.
    pub(crate) filter: Option<String>,
    /// Lists the tests with a line about each, and runs nothing (with `--format terse`: names only).
    #[arg(long)]
    pub(crate) list: bool,
    /// Only the test with exactly this name.
    #[arg(long)]
    pub(crate) exact: bool,
    /// Leaves out the tests with this in their name; can be given several times.
    #[arg(long, value_name = "FILTER")]
    pub(crate) skip: Vec<String>,
    /// Only the tests that run when they are named and not otherwise.
    #[arg(long)]
    pub(crate) ignored: bool,
    /// Runs those tests, too.
    #[arg(long)]
    pub(crate) include_ignored: bool,
    /// Machines that run at the same time (as many as this one has processors, if not given).
    #[arg(long, value_name = "N")]
    pub(crate) test_threads: Option<usize>,
    /// How results are printed: `pretty`, `terse` or `json`.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<FormatSetting>,
    /// One character for each test: `--format terse`.
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) quiet: bool,
    /// When results are in colour.
    #[arg(long, value_name = "WHEN")]
    pub(crate) color: Option<ColorSetting>,
}

/// `image`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageArgs {
    /// The guests.
    #[command(flatten)]
    pub(crate) guest: GuestArgs,
    /// The file to write (target/pinfold.img if not given).
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `report`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReportArgs {
    /// The serial log of a run.
    #[arg(required_unless_present = "schema")]
    pub(crate) log: Option<PathBuf>,
    /// Shows every violation in full, not only the first ones of each kind.
    #[arg(long)]
    pub(crate) full: bool,
    /// Prints JSON (docs/report-schema.json says what is in it).
    #[arg(long, conflicts_with_all = ["full", "html", "pictures"])]
    pub(crate) json: bool,
    /// Writes one self-contained HTML page.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["full", "pictures"])]
    pub(crate) html: Option<PathBuf>,
    /// Writes the page's pictures as SVG files into a folder.
    #[arg(long, value_name = "DIR", conflicts_with = "full")]
    pub(crate) pictures: Option<PathBuf>,
    /// Prints the JSON Schema of the JSON, and reads no log.
    #[arg(long, exclusive = true)]
    pub(crate) schema: bool,
    /// Where names for addresses come from.
    #[command(flatten)]
    pub(crate) symbols: SymbolArgs,
}

/// `explain`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExplainArgs {
    /// The violation's number: `id` in the log.
    pub(crate) id: u64,
    /// The serial log of a run.
    pub(crate) log: PathBuf,
    /// Where names for addresses come from.
    #[command(flatten)]
    pub(crate) symbols: SymbolArgs,
}

/// Where names for addresses come from.
#[derive(Args, Clone, Debug)]
pub(crate) struct SymbolArgs {
    /// The hypervisor's ELF file, for names in backtraces (the last one built if not given).
    #[arg(long = "symbols", value_name = "FILE")]
    pub(crate) hypervisor: Option<PathBuf>,
    /// A guest's ELF file (for the guests of the tree, the last one built if not given).
    #[arg(long = "guest-symbols", value_name = "NAME=FILE")]
    pub(crate) guests: Vec<String>,
}

/// `bench`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// Leaves Xen out.
    #[arg(long)]
    pub(crate) no_xen: bool,
    /// Times Linux's test on both as well (several minutes).
    #[arg(long, conflicts_with = "no_xen")]
    pub(crate) linux: bool,
    /// A column more: Pinfold with the guest in this hardware container.
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "policies")]
    pub(crate) container: Option<ContainerArg>,
    /// Instead: what a pin costs under each policy of the shim, on Pinfold, with 0 to 100,000 lazy
    /// mappings outstanding.
    #[arg(long, conflicts_with_all = ["no_xen", "linux"])]
    pub(crate) policies: bool,
    /// Whether Pinfold's guests run on page tables without the hypervisor's memory.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = IsolationChoice::Off,
        conflicts_with = "policies")]
    pub(crate) isolate_page_tables: IsolationChoice,
    /// Time limit in seconds for each run.
    #[arg(long, value_name = "SECS", default_value_t = 300)]
    pub(crate) timeout: u64,
}

/// `floors`.
#[derive(Args, Clone, Debug)]
pub(crate) struct FloorsArgs {
    /// Shows the largest circle of each crate instead, however small it is.
    #[arg(long)]
    pub(crate) circles: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_shows_an_example() {
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("cargo xtask {}", verb.get_name());
            assert!(help.contains(&example), "{}", verb.get_name());
        }
    }
}
