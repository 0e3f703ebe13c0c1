//! Whole machines: building what they need, running them, and showing what went wrong.

use super::case::Case;
use super::list::{Part, Test};
use crate::accel::{self, Accel};
use crate::cli::{AccelChoice, Host};
use crate::{cargo, fetch, image, linux, nested_kvm, paths, progress, run};
use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// Where lines of a failed test's log are cut; the file has them whole.
const WIDTH: usize = 200;

/// What [`prepare`] found on this machine, for the tests that run later.
#[derive(Debug, Default)]
pub(super) struct Setup(OnceLock<Found>);

#[derive(Debug)]
struct Found {
    accel: Accel,
    /// For cases under KVM.
    kvm: Accel,
    /// What cannot be had here.
    missing: BTreeSet<Need>,
}

/// What some cases need beside our own code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Xen,
    Grub,
    Linux,
    NestedKvm,
}

impl Need {
    const ALL: [Need; 4] = [Need::Xen, Need::Grub, Need::Linux, Need::NestedKvm];

    fn of(self, case: &Case, kvm: Accel) -> bool {
        match self {
            Need::Xen => case.needs_xen(),
            Need::Grub => case.needs_grub(),
            Need::Linux => case.needs_linux(),
            Need::NestedKvm => case.kvm && kvm == Accel::NestedKvm,
        }
    }

    /// Fetches it unless it is there.
    fn ensure(self) -> Result<()> {
        match self {
            Need::Xen => fetch::xen::ensure().map(drop),
            Need::Grub => fetch::grub::ensure().map(drop),
            Need::Linux => fetch::linux::ensure(),
            Need::NestedKvm => nested_kvm::prepare(),
        }
    }
}

/// The tests.
pub(super) fn tests(cases: &[Case], setup: &Arc<Setup>) -> Vec<Test> {
    cases.iter().map(|case| test(case.clone(), Arc::clone(setup))).collect()
}

fn test(case: Case, setup: Arc<Setup>) -> Test {
    Test {
        part: if case.kvm { Part::Kvm } else { Part::Machine },
        name: case.name.clone(),
        about: case.about.clone(),
        when: case.when,
        run: Box::new(move || {
            let found = setup.0.get().expect("machines are prepared before they run");
            if let Some(need) = found.missing.iter().find(|need| need.of(&case, found.kvm)) {
                return Ok(Completion::ignored_with(format!("no {need:?} on this machine")));
            }
            run_case(&case, if case.kvm { found.kvm } else { found.accel })
        }),
    }
}

/// Builds and fetches what the selected cases need.
pub(super) fn prepare(
    setup: &Setup,
    cases: &[Case],
    tests: &[Test],
    arguments: &Arguments,
) -> Result<()> {
    let selected: BTreeSet<&str> = tests
        .iter()
        .filter(|test| matches!(test.part, Part::Machine | Part::Kvm) && test.will_run(arguments))
        .map(|test| test.name.as_str())
        .collect();
    let cases: Vec<&Case> =
        cases.iter().filter(|case| selected.contains(case.name.as_str())).collect();
    if cases.is_empty() {
        return Ok(());
    }
    let mut packages: BTreeSet<&str> = cases.iter().flat_map(|case| case.packages()).collect();
    let on_pinfold = cases.iter().any(|case| case.on == Host::Pinfold);
    if on_pinfold {
        packages.insert(image::HYPERVISOR);
        packages.insert(image::LOADER);
    }
    if !packages.is_empty() {
        cargo::build(&packages.into_iter().collect::<Vec<_>>())?;
    }
    fetch::qemu::ensure()?;
    if on_pinfold {
        fetch::firmware::ensure()?;
        fetch::bootloader::ensure()?;
    }
    let (accel, why) = accel::choose(AccelChoice::Auto, false)?;
    let kvm = if accel::kvm().is_ok() { Accel::Kvm } else { Accel::NestedKvm };
    let mut missing = BTreeSet::new();
    for need in Need::ALL {
        if cases.iter().any(|case| need.of(case, kvm))
            && let Err(error) = need.ensure()
        {
            progress::note(format!("{need:?} cannot be had here: {error:#}"));
            missing.insert(need);
        }
    }
    // Debian's packages may be missing; that our own program for Linux does not build is an error.
    if !missing.contains(&Need::Linux) && cases.iter().any(|case| case.needs_linux()) {
        linux::initramfs()?;
    }
    progress::note(format!("{} machines, accelerator {accel:?} ({why})", cases.len()));
    setup.0.set(Found { accel, kvm, missing }).expect("machines are prepared once");
    Ok(())
}

/// Runs a case. The error has the end of its log, which stays in target/runs.
fn run_case(case: &Case, accel: Accel) -> Result<Completion, Failed> {
    let dir =
        paths::run_dir(&format!("test-{}", case.name)).map_err(|error| format!("{error:#}"))?;
    let result = case.run(accel, &dir);
    if let Some(exits) = nested_kvm::exits(&dir) {
        progress::note(format!("{}: {}", case.name, exits.in_short()));
    }
    let Err(why) = result else {
        // Only failures are worth the space.
        let _ = std::fs::remove_dir_all(&dir);
        return Ok(Completion::Completed);
    };
    let log = dir.join("serial.log");
    let cut = |line: String| format!("      {}", line.chars().take(WIDTH).collect::<String>());
    let mut lines = vec![why];
    lines.extend(run::wrong(&log, 20).into_iter().map(cut));
    lines.push(format!("      the end of {}:", paths::shown(&log)));
    lines.extend(run::tail(&log, 15).into_iter().map(cut));
    Err(lines.join("\n").into())
}
