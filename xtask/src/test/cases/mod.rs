//! The whole-machine cases.

mod isolation;
mod processors;
mod scenarios;
mod stale;
mod vcpus;

use crate::exit::Exit;
use crate::test::case::{Agree, Case, End, Latency, Spec};
use crate::test::corrupt_image::{Corruption, Field};
use pinfold_abi::elfnote::Note;
use pinfold_image::CachePolicy;
use pinfold_image::size::Size;
use std::num::NonZeroU32;

/// Offsets in the ELF header.
mod header {
    pub(super) const CLASS: usize = 4;
    pub(super) const DATA: usize = 5;
    pub(super) const TYPE: usize = 16;
    pub(super) const MACHINE: usize = 18;
    pub(super) const PROGRAM_HEADERS: usize = 56;
}

/// All of them.
pub(in crate::test) fn all() -> Vec<Case> {
    let mut cases = vec![
        Case::new("hello", vec![Spec::new("hello")]),
        Case::new("hello", vec![Spec::new("hello")]).on_xen(),
        Case {
            says: vec!["command line: \"a=1 b=two, three\""],
            ..Case::new("command-line", vec![Spec::new("hello").with_cmdline("a=1 b=two, three")])
        },
        Case {
            says: vec!["command line: \"a=1 b=two, three\""],
            ..Case::new("command-line", vec![Spec::new("hello").with_cmdline("a=1 b=two, three")])
                .on_xen()
        },
    ];
    // The probe holds every answer against what Xen was seen to answer: a pass on both is agreement,
    // but for the differences that its own table lists and gives a reason for.
    cases.push(Case::new("probe", vec![Spec::new("probe")]));
    cases.push(Case::new("probe", vec![Spec::new("probe")]).on_xen());
    cases.extend(grants());
    cases.extend(stale::all());
    cases.push(keyboard());
    // A neighbour of the one that writes nonsense has a store too.
    cases.push(Case {
        smp: 2,
        says: vec!["wrote nonsense to its ring"],
        ..Case::new("store", vec![Spec::new("store"), Spec::new("hello")])
    });
    // Guests that fragment their shares together, and one that uses what it was promised.
    let fragmenting =
        |name: &str| Spec::new("store").named(name).with_cmdline("fragment=6 rounds=200");
    cases.push(Case {
        smp: 2,
        limit: 300,
        says: vec!["heap late_allocations=0"],
        ..Case::new(
            "store-fragmented",
            vec![
                fragmenting("store-1"),
                fragmenting("store-2"),
                Spec::new("store").named("store-3").with_cmdline("rounds=0"),
            ],
        )
    });
    cases.extend(vcpus::all());
    cases.extend(processors::all());
    cases.extend(isolation::all());
    // It meets aliases on purpose, and passes; `--deny-aliases` must not let that through.
    cases.push(Case {
        deny_aliases: true,
        exit: Exit::Aliases,
        ..Case::new("deny-aliases", vec![Spec::new("probe")])
    });
    // Two that try everything forbidden, at once: neither may notice the other.
    let probes = [Spec::new("probe").named("probe-1"), Spec::new("probe").named("probe-2")];
    cases.push(Case::new("two-probes", probes.into_iter().chain([Spec::new("hello")]).collect()));
    // What it measures means nothing without --icount; that it works does.
    cases.push(Case::new("bench", vec![Spec::new("bench")]));
    cases.push(pin_cost());
    cases.extend(long_calls());
    cases.extend(upcalls());
    cases.extend(stress());
    cases.extend(scenarios::all());
    cases.extend(neighbours());
    cases.extend(slow_port());
    cases.push(bad_images());
    cases.extend(destroyed());
    cases.extend(linux());
    cases.push(grub());
    cases
}

/// Linux, destroyed in the middle of whatever it does, while other guests go on: nothing of it may
/// stay. The last case is another one in each run; the variable repeats one.
fn destroyed() -> Vec<Case> {
    const MOMENT: &str = "PINFOLD_DESTROY_AFTER";
    let victim = |ms| Spec::linux(2, 5, "").named("victim").destroyed_after(ms);
    let case = |ms: u32, others: Vec<Spec>| Case {
        smp: 2,
        limit: 600,
        ..Case::new(
            &format!("destroyed-after-{ms}"),
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

/// Two guests behind one keyboard, each with a prompt that has no line end.
fn keyboard() -> Case {
    let guest = |name: &str, words: &str| Spec::new("console").named(name).with_cmdline(words);
    // Ctrl-A three times: the next guest's turn.
    let types = vec![
        // Past the other guest to the hypervisor, which has keys of its own, and round again.
        ("ready for alpha", "\x01\x01\x01\x01\x01\x01fv\x01\x01\x01alpha\r"),
        ("heard alpha", "\x01\x01\x01beta\r"),
        // It has ended, and the keyboard goes on by itself.
        ("INPUT to=d1", "gax\x7fmma\r"),
    ];
    Case {
        types,
        says: vec![
            "hv INPUT to=hv keys=",
            "d1 FRAMES first=0x",
            "d1 | what? alpha",
            "hv INPUT to=d2 name=\"second\"",
            "d2 | what? beta",
            "hv INPUT to=d1 name=\"first\"",
            "d1 | what? gax mma",
            "d1 wrote over its ring",
            "d2 wrote over its ring",
            "d1 | line 199 of 200",
        ],
        order: Some(("second", "first")),
        ..Case::new("keyboard", vec![guest("first", "alpha gamma"), guest("second", "beta")])
    }
}

/// Lending frames: to oneself, with Xen as the referee; to another domain; and to the end of either.
fn grants() -> Vec<Case> {
    let guest = || Spec::new("grants");
    let pair = |granter: &str, borrower: &str| {
        vec![
            guest().named("granter").with_cmdline(&format!("role=granter peer=2 {granter}")),
            guest().named("borrower").with_cmdline(&format!("role=borrower peer=1 {borrower}")),
        ]
    };
    vec![
        Case::new("grants", vec![guest()]),
        Case::new("grants", vec![guest()]).on_xen(),
        Case {
            smp: 2,
            order: Some(("granter", "borrower")),
            says: vec!["kept=1 stuck=0"],
            ..Case::new("granter-ends-first", pair("", "last"))
        },
        Case {
            smp: 2,
            order: Some(("borrower", "granter")),
            ..Case::new("borrower-ends-first", pair("last", ""))
        },
        churn(1, 5_000),
        churn(2, 500),
    ]
}

/// Two domains on two processors that lend each other pages, and take them back, in no order.
fn churn(seed: u32, rounds: u32) -> Case {
    let guest = |name: &str, peer: u32, words: &str| {
        let cmdline =
            format!("role=churn peer={peer} seed={} rounds={rounds} {words}", seed * 2 + peer);
        Spec::new("grants").named(name).with_cmdline(&cmdline)
    };
    Case {
        smp: 2,
        order: Some(("one", "two")),
        ..Case::new(
            &format!("grants-churn-{seed}"),
            vec![guest("one", 2, ""), guest("two", 1, "last")],
        )
    }
}

fn misbehave(action: &str) -> Spec {
    Spec::new("misbehave").named(action).with_cmdline(&format!("do={action}"))
}

/// Calls and traps that ask for as much work as they can. Under `--icount` the processor's counter
/// counts instructions, so what they keep others waiting for is the same in each run.
fn long_calls() -> Vec<Case> {
    /// Table entries that one attempt may visit (the hypervisor's `work::ENTRIES`).
    const ENTRIES: u64 = 8192;
    /// Instructions for one entry, validated or dropped; the dearest of `bench` takes 50.
    const PER_ENTRY: u64 = 64;
    /// What came before a call is counted with it, so between two looks there may be twice as much.
    const BOUND: u64 = 2 * ENTRIES * PER_ENTRY;
    /// A call goes on until its vCPU's time is up: ten milliseconds.
    const SLICE: u64 = 10_000_000;
    let latency = Latency { ipi: BOUND, irq_off: SLICE + BOUND, sched: BOUND };
    let guest = || Spec::new("long_calls").with_vcpus(2);
    let case = |name: &str, guests: Vec<Spec>| Case {
        limit: 300,
        latency: Some(latency),
        ..Case::new(name, guests)
    };
    vec![
        case("long-calls", vec![guest()]),
        case(
            "long-calls-beside",
            vec![guest().with_cmdline("do=store,cr3,clear,churn"), Spec::new("hello")],
        ),
    ]
}

/// Costs are counted, not judged, but for what no count may be: a pin that is refused, which ends
/// the guest. Few mappings: the figures themselves are `bench --policies`.
fn pin_cost() -> Case {
    Case {
        says: vec![
            "CURVE policy=targeted+pool aliases=4 outstanding=1000",
            "CURVE policy=upcall aliases=4 outstanding=1000",
        ],
        ..Case::new("pin-cost", vec![Spec::new("pin_cost").with_cmdline("most=1000")])
    }
}

/// Pins that heal: on one vCPU, on two at once, and where there is no such thing.
fn upcalls() -> Vec<Case> {
    let case = |vcpus: u32| Case {
        smp: vcpus as u16,
        says: vec!["cleared_by=upcall", "UPCALL rounds="],
        ..Case::new(
            &format!("upcall-{vcpus}"),
            // After what leaves mappings of all kinds behind.
            vec![Spec::new("stress").with_vcpus(vcpus).with_cmdline("phases=mu rounds=200")],
        )
    };
    let on_xen = Case {
        says: vec!["UPCALL skipped"],
        ..Case::new("upcall", vec![Spec::new("stress").with_cmdline("phases=u rounds=200")])
    };
    vec![case(1), case(2), on_xen.on_xen()]
}

/// The stress guest: several seeds, on both hypervisors, and among others.
fn stress() -> Vec<Case> {
    let stress = |words: &str| Spec::new("stress").with_cmdline(words);
    let mut cases: Vec<Case> = (1..=4)
        .map(|seed| {
            Case::new(
                &format!("stress-seed-{seed}"),
                vec![stress(&format!("seed={seed} rounds=200"))],
            )
        })
        .collect();
    // Logging changes nothing: what the guest sees and prints is the same at every level.
    cases.push(Case {
        at_every_level: true,
        // Whoever asked is found on the guest's stack.
        says: vec!["cause=writable_alias", " callers=0xffffffff8"],
        ..Case::new("log-levels", vec![stress("seed=9 rounds=40")])
    });
    cases.push(Case {
        agree: Some(Agree {
            lines: &["STRAY", "POLICY", "HOSTILE"],
            but: &[
                ("STRAY", "named", "Xen does not say which mapping is in the way"),
                ("HOSTILE", "tried", "pinfold_op is only tried where there is one"),
            ],
            no_more: None,
        }),
        ..Case::new("stress-agrees", vec![stress("seed=7 rounds=200")])
    });
    cases.extend(memory_types());
    // Whose a mapping is and whether it is in use; and what all frames are at the end.
    cases.push(Case {
        says: vec![
            "region=\"vmap\" state=dead",
            "region=\"kmap\" state=dead",
            "region=\"vmap\" state=live",
            "d1 FRAMES first=0x",
            " w*",
        ],
        ..Case::new(
            "stress-tells",
            vec![Spec { dump_frames: true, ..stress("phases=a seed=8 rounds=10") }],
        )
    });
    cases.push(Case {
        limit: 240,
        ..Case::new(
            "everything-at-once",
            vec![
                stress("seed=9 rounds=100"),
                Spec::new("probe"),
                misbehave("crash").ends(End::Crash),
                misbehave("spin"),
                stress("seed=10 rounds=100").named("stress-2"),
            ],
        )
    });
    cases
}

/// Memory types: what mixing them leads to under each policy, and that the fixed form mixes none.
fn memory_types() -> Vec<Case> {
    let stress = |words: &str| Spec::new("stress").with_cmdline(words);
    let fixed = |name: &str, vcpus| Case {
        limit: 300,
        deny_aliases: true,
        deny_refusals: true,
        says: vec!["MEMORY form=fixed rounds=10000 refused=0"],
        ..Case::new(
            name,
            vec![Spec { vcpus, ..stress("phases=m form=fixed seed=13 rounds=10000") }],
        )
    };
    vec![
        Case {
            says: vec![
                "CACHE id=",
                "cause=cache_alias wanted=wc present=wb",
                "op=pin_l1",
                "op=store",
                "type=uc",
                "region=\"vmap\" state=dead",
                "region=\"kmap\" state=dead",
            ],
            ..Case::new("memory-types", vec![stress("phases=m seed=11 rounds=100")])
        },
        Case {
            says: vec!["policy=report", "present=mixed", "type=wp"],
            ..Case::new(
                "memory-types-reported",
                vec![Spec {
                    cache: CachePolicy::Report,
                    ..stress("phases=m cache=report seed=12 rounds=100")
                }],
            )
        },
        fixed("memory-types-fixed", 1),
        fixed("memory-types-fixed-2", 2),
    ]
}

/// Debian's kernel and its test, on both. On Xen it is the first domain, which has the machine's
/// devices; here it is a guest like any other.
fn linux() -> Vec<Case> {
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
                vec![Spec::linux(vcpus, 3, "vsyscall=xonly")],
            ))
        })
        .into();
    // Side by side, and one of them ends in disorder: the others must not notice.
    cases.push(Case {
        limit: 600,
        ..Case::new(
            "two-linux-and-stress",
            vec![
                Spec::linux(1, 1, "").named("linux-1"),
                Spec::linux(2, 1, "").named("linux-2"),
                Spec::new("stress").with_cmdline("seed=12 rounds=100"),
            ],
        )
    });
    cases.push(clean(Case::new(
        "linux-panics",
        vec![
            Spec::linux(1, 3, "pinfold.panic=5").named("panics").ends(End::Fail),
            Spec::linux(1, 1, "").named("goes-on"),
        ],
    )));
    cases
}

/// Debian's GRUB, to its prompt and through a line that is typed there.
fn grub() -> Case {
    Case {
        deny_aliases: true,
        deny_refusals: true,
        types: vec![("GNU GRUB", "echo VERDICT pass prompt=yes\rhalt\r")],
        ..Case::new("grub", vec![Spec::grub()])
    }
}

/// Several domains: what one does, the others must not notice.
fn neighbours() -> Vec<Case> {
    let hello = || Spec::new("hello");
    vec![
        Case::new("two-domains", vec![hello().named("one"), hello().named("two")]),
        Case::new(
            "twelve-domains",
            (1..=12).map(|n| hello().named(&format!("n{n}")).with_memory(Size(8 << 20))).collect(),
        ),
        Case { smp: 2, ..Case::new("two-processors", vec![hello(), hello().named("other")]) },
        Case::new("crash-beside-healthy", vec![misbehave("crash").ends(End::Crash), hello()]),
        Case::new("healthy-beside-crash", vec![hello(), misbehave("crash").ends(End::Crash)]),
        Case::new("failure-is-reported", vec![misbehave("fail").ends(End::Fail), hello()]),
        Case::new("panic-is-reported", vec![misbehave("panic").ends(End::Fail), hello()]),
        Case::new("watchdog", vec![misbehave("watchdog").ends(End::Watchdog), hello()]),
        Case::new(
            "diagnose-is-refused",
            vec![Spec { unprivileged: true, ..misbehave("diagnose").ends(End::Pass) }],
        ),
        // The spinner is first in line and never calls the hypervisor: only a timer gets past it.
        Case {
            order: Some(("hello", "spin")),
            limit: 240,
            ..Case::new("spinning-cannot-starve", vec![misbehave("spin"), hello()])
        },
        // The same ends on Xen, so that they mean the same.
        Case::new("crash", vec![misbehave("crash").ends(End::Crash)]).on_xen(),
        Case::new("fail", vec![misbehave("fail").ends(End::Fail)]).on_xen(),
    ]
}

/// A serial port as slow as a real one at 115,200 baud, and a guest that has far more written than
/// that takes: its neighbour must not wait for the port, and must not lose its own report; what is
/// left out is counted.
fn slow_port() -> Vec<Case> {
    let case = |smp: u16| Case {
        smp,
        serial_rate: NonZeroU32::new(11_520),
        limit: 240,
        says: vec![
            " cause=buffer_full of=reports",
            "d2v0 ALIAS id=",
            "d2 | misbehave: in the middle",
            "d1v0 MAPPING id=1 end=yes found=64",
        ],
        ..Case::new(&format!("slow-port-{smp}"), vec![misbehave("flood"), misbehave("measure")])
    };
    // Guests that print wait for room and lose nothing, by hypercall or through their ring.
    let print = |name: &str| misbehave("print").named(name);
    let console = Case {
        serial_rate: NonZeroU32::new(11_520),
        limit: 240,
        types: vec![("ready for alpha", "\x01\x01\x01\x01\x01\x01v\x01\x01\x01alpha\r")],
        says: vec![
            "d1 | line 0 of 200",
            "d1 | line 100 of 200",
            "d1 | line 199 of 200",
            "d2 | misbehave: line 1,",
            "d2 | misbehave: line 200,",
            "d2 | misbehave: line 400,",
        ],
        never: vec!["DROPPED"],
        ..Case::new(
            "slow-console",
            vec![Spec::new("console").with_cmdline("alpha"), print("print")],
        )
    };
    vec![case(1), case(2), console]
}

/// Every kind of bad image in one boot, and a good one that must start all the same.
fn bad_images() -> Case {
    use Corruption::{Header, Program};
    let most = u64::MAX - 0xfff;
    let bad = [
        ("cut-header", Corruption::CutHeader, "ELF header"),
        ("cut-file", Corruption::CutFile, "headers"),
        ("magic", Header(0, 4, 0), "EI_MAG"),
        ("32-bit", Header(header::CLASS, 1, 1), "EI_CLASS"),
        ("big-endian", Header(header::DATA, 1, 2), "EI_DATA"),
        ("relocatable", Header(header::TYPE, 2, 1), "e_type"),
        ("arm", Header(header::MACHINE, 2, 0xb7), "e_machine"),
        ("no-segments", Header(header::PROGRAM_HEADERS, 2, 0), "e_phnum"),
        ("offset-past-end", Program(0, Field::Offset, 1 << 40), "p_offset"),
        ("offset-overflow", Program(0, Field::Offset, most), "p_offset"),
        ("file-over-memory", Program(0, Field::MemorySize, 1), "p_filesz"),
        ("address-overflow", Program(0, Field::Paddr, most), "p_paddr"),
        ("overlap", Corruption::Overlap, "p_paddr"),
        ("beyond-window", Program(2, Field::MemorySize, 1 << 40), "VIRT_BASE"),
        ("beyond-memory", Program(2, Field::MemorySize, 1 << 30), "memory"),
        ("no-entry", Corruption::ForgetNote(Note::Entry as u32), "ENTRY"),
        ("entry-outside", Corruption::ZeroNote(Note::Entry as u32), "ENTRY"),
        ("not-a-guest", Corruption::ForeignNotes, "notes"),
    ];
    let mut guests: Vec<Spec> = bad
        .into_iter()
        .map(|(name, corruption, field)| Spec {
            corruption: Some(corruption),
            ..Spec::new("hello").named(name).ends(End::Refused(field))
        })
        .collect();
    let greedy = Spec::new("hello").named("too-much-memory").with_memory(Size(64 << 30));
    guests.push(greedy.ends(End::Refused("memory")));
    guests.push(Spec::new("hello"));
    Case::new("bad-images", guests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_the_guests_exist() {
        let known = guests::known();
        let mut names = BTreeSet::new();
        for case in all() {
            assert!(names.insert(case.name.clone()), "{} stands twice", case.name);
            for package in case.packages() {
                assert!(known.iter().any(|name| name == package), "{package}");
            }
            let mut guests = BTreeSet::new();
            assert!(case.guests.iter().all(|guest| guests.insert(&guest.name)), "{}", case.name);
        }
    }
}
