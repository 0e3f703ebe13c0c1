//! Choosing how QEMU runs the processor.
//!
//! `/dev/kvm` alone proves nothing: inside a virtual machine it may open and still fail to run a
//! guest. KVM is taken only when the processor also shows the flag of its virtualisation.

use crate::cli::AccelChoice;
use anyhow::{Result, bail};
use std::fs::OpenOptions;

/// How QEMU runs the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accel {
    /// The machine's own processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
    /// KVM in a machine of QEMU's translator ([`crate::nested_kvm`]).
    NestedKvm,
}

/// Why KVM can be used here, or why it can't.
pub(crate) fn kvm() -> Result<String, String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let device = OpenOptions::new().read(true).write(true).open("/dev/kvm").map(drop);
    usable(&cpuinfo, device.map_err(|error| error.to_string()))
}

/// Settles the choice, and says why in a few words.
pub(crate) fn choose(choice: AccelChoice, icount: bool) -> Result<(Accel, String)> {
    decide(choice, icount, kvm())
}

fn decide(
    choice: AccelChoice,
    icount: bool,
    usable: Result<String, String>,
) -> Result<(Accel, String)> {
    match (choice, icount, usable) {
        (AccelChoice::Kvm | AccelChoice::NestedKvm, true, _) => {
            bail!("--icount counts TCG's instructions: not with KVM")
        }
        (AccelChoice::NestedKvm, false, _) => Ok((Accel::NestedKvm, "asked for".into())),
        (AccelChoice::Tcg, ..) => Ok((Accel::Tcg, "asked for".into())),
        (AccelChoice::Auto, true, _) => Ok((Accel::Tcg, "--icount wants it".into())),
        (_, false, Ok(why)) => Ok((Accel::Kvm, why)),
        (AccelChoice::Auto, false, Err(why)) => Ok((Accel::Tcg, why)),
        (AccelChoice::Kvm, false, Err(why)) => bail!("KVM cannot be used: {why}"),
    }
}

fn usable(cpuinfo: &str, device: Result<(), String>) -> Result<String, String> {
    let flag = cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .and_then(|line| line.split_whitespace().find(|word| matches!(*word, "vmx" | "svm")));
    match (flag, device) {
        (None, _) => Err("no vmx or svm flag in /proc/cpuinfo".into()),
        (Some(_), Err(error)) => Err(format!("/dev/kvm does not open: {error}")),
        (Some(flag), Ok(())) => Ok(format!("{flag} is there and /dev/kvm opens")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH: &str = "processor: 0\nflags\t\t: fpu vme svm nx\n";
    const WITHOUT: &str = "processor: 0\nflags\t\t: fpu vmexit nx\n";

    fn decided(choice: AccelChoice, icount: bool, cpuinfo: &str) -> Result<Accel> {
        decide(choice, icount, usable(cpuinfo, Ok(()))).map(|(accel, _)| accel)
    }

    #[test]
    fn kvm_wants_the_flag_and_the_device() {
        let auto =
            |cpuinfo, device| decide(AccelChoice::Auto, false, usable(cpuinfo, device)).unwrap().0;
        assert_eq!(auto(WITH, Ok(())), Accel::Kvm);
        assert_eq!(auto(WITHOUT, Ok(())), Accel::Tcg);
        assert_eq!(auto(WITH, Err("denied".into())), Accel::Tcg);
        assert_eq!(auto("", Ok(())), Accel::Tcg);
    }

    #[test]
    fn a_plain_wish_is_granted_or_refused() {
        assert!(decided(AccelChoice::Kvm, false, WITHOUT).is_err());
        assert!(decided(AccelChoice::Kvm, true, WITH).is_err());
        assert!(decided(AccelChoice::NestedKvm, true, WITH).is_err());
        assert_eq!(decided(AccelChoice::NestedKvm, false, WITHOUT).unwrap(), Accel::NestedKvm);
        assert_eq!(decided(AccelChoice::Tcg, false, WITH).unwrap(), Accel::Tcg);
        assert_eq!(decided(AccelChoice::Auto, true, WITH).unwrap(), Accel::Tcg);
    }
}
