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
}

/// Settles the choice, and says why in a few words.
pub(crate) fn choose(choice: AccelChoice, icount: bool) -> Result<(Accel, String)> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let device = OpenOptions::new().read(true).write(true).open("/dev/kvm").map(drop);
    decide(choice, icount, &cpuinfo, device.map_err(|error| error.to_string()))
}

fn decide(
    choice: AccelChoice,
    icount: bool,
    cpuinfo: &str,
    device: Result<(), String>,
) -> Result<(Accel, String)> {
    let usable = usable(cpuinfo, device);
    match (choice, icount, usable) {
        (AccelChoice::Kvm, true, _) => {
            bail!("--icount counts TCG's instructions: not with --accel kvm")
        }
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

    #[test]
    fn kvm_wants_the_flag_and_the_device() {
        let auto = |cpuinfo, device| decide(AccelChoice::Auto, false, cpuinfo, device).unwrap().0;
        assert_eq!(auto(WITH, Ok(())), Accel::Kvm);
        assert_eq!(auto(WITHOUT, Ok(())), Accel::Tcg);
        assert_eq!(auto(WITH, Err("denied".into())), Accel::Tcg);
        assert_eq!(auto("", Ok(())), Accel::Tcg);
    }

    #[test]
    fn a_plain_wish_is_granted_or_refused() {
        assert!(decide(AccelChoice::Kvm, false, WITHOUT, Ok(())).is_err());
        assert!(decide(AccelChoice::Kvm, true, WITH, Ok(())).is_err());
        assert_eq!(decide(AccelChoice::Tcg, false, WITH, Ok(())).unwrap().0, Accel::Tcg);
        assert_eq!(decide(AccelChoice::Auto, true, WITH, Ok(())).unwrap().0, Accel::Tcg);
    }
}
