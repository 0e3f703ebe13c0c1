//! Debian's Linux and GRUB, unchanged.

use crate::test::case::Case;
use crate::test::expect::agree::Agree;
use crate::test::spec::{End, Spec};

/// Debian's kernel and its test, on both. On Xen it is the first domain, which has the machine's
/// devices; here it is a guest like any other.
pub(super) fn linux() -> Vec<Case> {
    const BUSY: &str = "a busy host runs the machine late, on whichever of the two";
    const AGREE: Agree = Agree {
        lines: &["STEP", "TRAP"],
        but: &[("STEP ok boot", "clock", "which clock it chooses depends on what the machine has")],
        no_more: Some((
            "COMPLAINT",
            &[
                (
                    "COMPLAINT mce: Unable to init MCE device",
                    "machine checks are the first domain's business",
                ),
                ("COMPLAINT clocksource: Long readout interval", BUSY),
                ("COMPLAINT hrtimer: interrupt took", BUSY),
            ],
        )),
    };
    let clean = |case: Case| Case { limit: 600, deny_aliases: true, deny_refusals: true, ..case };
    let mut cases: Vec<Case> = [1, 2]
        .map(|vcpus| Case {
            agree: Some(AGREE),
            // The vsyscall page is off by default; its calls are among what PV has a hand in.
            ..clean(Case::new(
                &format!("linux-{vcpus}"),
                "Debian's Linux passes its test without an alias or a refusal, as on Xen",
                vec![Spec::linux(vcpus, 3, "vsyscall=xonly")],
            ))
        })
        .into();
    // Side by side, and one of them ends in disorder: the others must not notice.
    cases.push(Case {
        limit: 600,
        ..Case::new(
            "two-linux-and-stress",
            "two Linux guests and a stress guest run side by side",
            vec![
                Spec::linux(1, 1, "").named("linux-1"),
                Spec::linux(2, 1, "").named("linux-2"),
                Spec::new("stress").with_cmdline("seed=12 rounds=100"),
            ],
        )
    });
    cases.push(clean(Case::new(
        "linux-panics",
        "a Linux guest that panics doesn't disturb its neighbour",
        vec![
            Spec::linux(1, 3, "pinfold.panic=5").named("panics").ends(End::Fail),
            Spec::linux(1, 1, "").named("goes-on"),
        ],
    )));
    cases
}

/// Debian's GRUB, to its prompt and through a line that is typed there.
pub(super) fn grub() -> Case {
    Case {
        deny_aliases: true,
        deny_refusals: true,
        types: vec![("GNU GRUB", "echo VERDICT pass prompt=yes\rhalt\r")],
        ..Case::new(
            "grub",
            "Debian's GRUB comes to its prompt, takes a typed line, and halts",
            vec![Spec::grub()],
        )
    }
}

/// Linux, destroyed in the middle of whatever it does, while other guests go on: nothing of it may
/// stay. The last case is another one in each run; the variable repeats one.
pub(super) fn destroyed() -> Vec<Case> {
    const MOMENT: &str = "PINFOLD_DESTROY_AFTER";
    let victim = |ms| Spec::linux(2, 5, "").named("victim").destroyed_after(ms);
    let case = |ms: u32, others: Vec<Spec>| Case {
        smp: 2,
        limit: 600,
        ..Case::new(
            &format!("destroyed-after-{ms}"),
            "Linux is destroyed in the middle of its test, and its neighbours go on",
            std::iter::once(victim(ms)).chain(others).collect(),
        )
    };
    let stress = || Spec::new("stress").with_cmdline("seed=5 rounds=20");
    let given = std::env::var(MOMENT).ok().and_then(|ms| ms.parse().ok());
    let any = given.unwrap_or_else(|| {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        500 + now.subsec_micros() % 14_500
    });
    let mut cases: Vec<Case> = [1500, 4000].map(|ms| case(ms, vec![stress()])).into();
    cases.push(case(any, vec![Spec::linux(1, 1, "").named("goes-on"), stress()]));
    cases
}
