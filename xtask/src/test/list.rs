//! The list of tests, and what the command line selects of it.

use crate::cli::TestArgs;
use clap::ValueEnum;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

/// A part of the tests, which can be named instead of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// The directions of imports.
    Floors,
    /// Unit and integration tests on the host.
    Host,
    /// Examples in the documentation.
    Doc,
    /// Models of concurrent code, in every order of its steps.
    Loom,
    /// Unit tests under Miri.
    Miri,
    /// The report's page in a browser.
    Page,
    /// Whole machines.
    Machine,
    /// Whole machines under KVM.
    Kvm,
}

impl Part {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// When a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// In every run that selects it.
    Always,
    /// When its name or its part is given, or with `--include-ignored`.
    Asked,
}

/// A test.
pub(super) struct Test {
    /// The part that it belongs to.
    pub(super) part: Part,
    /// Its name, for filters.
    pub(super) name: String,
    /// What a pass shows, in one line.
    pub(super) about: String,
    /// When it runs.
    pub(super) when: When,
    /// Runs it.
    pub(super) run: Box<dyn FnOnce() -> Result<Completion, Failed> + Send>,
}

/// Whole machines run side by side, everything else alone: builds and browsers would slow machines
/// down, whose tests have time limits.
static MACHINES_RUN: RwLock<()> = RwLock::new(());

impl Test {
    /// True if the test is to run or to be listed.
    pub(super) fn is_selected(&self, arguments: &Arguments) -> bool {
        let trial = Trial::test(self.name.clone(), || Ok(())).with_kind(self.part.name());
        !arguments.is_filtered_out(&trial.with_ignored_flag(self.when == When::Asked))
    }

    /// True if the test is to run.
    pub(super) fn will_run(&self, arguments: &Arguments) -> bool {
        let ignored = self.when == When::Asked && !arguments.ignored && !arguments.include_ignored;
        self.is_selected(arguments) && !ignored
    }

    /// The test as `libtest-mimic` wants it. How long it took goes to standard error.
    pub(super) fn into_trial(self) -> Trial {
        let name = self.name.clone();
        Trial::ignorable_test(self.name, move || {
            let (mut shared, mut alone) = (None, None);
            if matches!(self.part, Part::Machine | Part::Kvm) {
                shared = Some(MACHINES_RUN.read().unwrap_or_else(PoisonError::into_inner));
            } else {
                alone = Some(MACHINES_RUN.write().unwrap_or_else(PoisonError::into_inner));
            }
            let started = Instant::now();
            let result = (self.run)();
            drop((shared, alone));
            if !matches!(result, Ok(Completion::Ignored { .. })) {
                crate::progress::note(format!("{name}: {:.1} s", started.elapsed().as_secs_f64()));
            }
            result
        })
        .with_kind(self.part.name())
        .with_ignored_flag(self.when == When::Asked)
    }
}

/// What `libtest-mimic` gets to know, and the part that the filter names, if it names one.
pub(super) fn arguments(args: &TestArgs) -> (Option<Part>, Arguments) {
    let part = args.filter.as_deref().and_then(|filter| Part::from_str(filter, false).ok());
    let arguments = Arguments {
        filter: args.filter.clone().filter(|_| part.is_none()),
        list: args.list,
        exact: args.exact,
        skip: args.skip.clone(),
        ignored: args.ignored,
        // Whoever names tests wants them.
        include_ignored: args.include_ignored || (args.filter.is_some() && !args.ignored),
        quiet: args.quiet,
        format: args.format,
        color: args.color,
        test_threads: args.test_threads,
        ..Arguments::default()
    };
    (part, arguments)
}

/// Prints tests with their descriptions.
pub(super) fn show<'a>(tests: impl Iterator<Item = &'a Test>) {
    for test in tests {
        println!("{:8} {:38} {}", test.part.name(), test.name, test.about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn selected(words: &str) -> Vec<&'static str> {
        let line = ["xtask", "test"].into_iter().chain(words.split_whitespace());
        let Verb::Test(args) = Cli::parse_from(line).verb else { unreachable!("it says test") };
        let (part, arguments) = arguments(&args);
        let list = [
            (Part::Host, "host"),
            (Part::Machine, "hello"),
            (Part::Machine, "hello-on-xen"),
            (Part::Machine, "hostile-cpu"),
            (Part::Kvm, "kvm-hello"),
            (Part::Kvm, "kvm-linux"),
        ];
        let is_selected = |(of, name): &(Part, &str)| {
            let run = Box::new(|| Ok(Completion::Completed));
            let when = if *name == "kvm-linux" { When::Asked } else { When::Always };
            let test = Test { part: *of, name: (*name).into(), about: String::new(), when, run };
            part.is_none_or(|part| part == *of) && test.will_run(&arguments)
        };
        list.into_iter().filter(is_selected).map(|(_, name)| name).collect()
    }

    #[test]
    fn filters_select_as_those_of_cargo_test() {
        assert_eq!(selected(""), ["host", "hello", "hello-on-xen", "hostile-cpu", "kvm-hello"]);
        assert_eq!(selected("hello"), ["hello", "hello-on-xen", "kvm-hello"]);
        assert_eq!(selected("hello --exact"), ["hello"]);
        assert_eq!(selected("--skip xen --skip hostile --skip kvm"), ["host", "hello"]);
        assert_eq!(selected("hello --skip xen"), ["hello", "kvm-hello"]);
        assert_eq!(selected("no-such"), [""; 0]);
    }

    #[test]
    fn the_name_of_a_part_selects_that_part_only() {
        assert_eq!(selected("host"), ["host"]);
        assert_eq!(selected("machine"), ["hello", "hello-on-xen", "hostile-cpu"]);
    }

    #[test]
    fn long_tests_run_when_they_are_named() {
        assert_eq!(selected("kvm"), ["kvm-hello", "kvm-linux"]);
        assert_eq!(selected("kvm-linux"), ["kvm-linux"]);
        assert_eq!(selected("--ignored"), ["kvm-linux"]);
        assert_eq!(selected("kvm --ignored"), ["kvm-linux"]);
        assert_eq!(selected("--include-ignored --skip hello --skip host"), ["kvm-linux"]);
    }
}
