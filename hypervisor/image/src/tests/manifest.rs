//! Manifests, valid and invalid.

use crate::manifest::*;
use crate::size::Size;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const ALL_KEYS: &str = r#"
exit = { debug-exit = 0xf4 }
log = "debug"
canaries = true
isolate-page-tables = "on"

[[domain]]
name = "stress"
kernel = "stress.elf"
initrd = "initrd.img"
cmdline = "rounds=100 seed=7"
memory = "64M"
vcpus = 2
dump-frames = true
cache = "report"
container = "svm"

[[domain]]
name = "hello"
kernel = "hello.elf"
memory = 8388608
"#;

fn error_of(text: &str) -> String {
    Manifest::parse(text.as_bytes()).unwrap_err().to_string()
}

fn with(field: &str, value: &str) -> String {
    let mut fields = [("name", "\"a\""), ("kernel", "\"k\""), ("memory", "4096")]
        .into_iter()
        .collect::<alloc::collections::BTreeMap<_, _>>();
    fields.insert(field, value);
    let body: Vec<String> = fields.iter().map(|(k, v)| alloc::format!("{k} = {v}\n")).collect();
    alloc::format!("[[domain]]\n{}", body.concat())
}

#[test]
fn all_keys_are_read() {
    let manifest = Manifest::parse(ALL_KEYS.as_bytes()).unwrap();
    assert_eq!(manifest.exit, Exit::DebugExit(0xf4));
    assert_eq!(manifest.log, LogLevel::Debug);
    assert!(manifest.canaries);
    assert_eq!(manifest.isolate_page_tables, Isolation::On);
    assert_eq!(
        manifest.domains[0],
        DomainConfig {
            name: "stress".into(),
            kernel: "stress.elf".into(),
            initrd: Some("initrd.img".into()),
            cmdline: "rounds=100 seed=7".into(),
            memory: Size(64 << 20),
            vcpus: 2,
            lifetime_ms: None,
            diagnose: false,
            dump_frames: true,
            cache: CachePolicy::Report,
            container: Container::Svm,
        }
    );
    assert_eq!(manifest.domains[1].pages(), 2048);
    assert_eq!(manifest.domains[1].vcpus, 1);
    assert_eq!(manifest.domains[1].initrd, None);
    assert_eq!(manifest.domains[1].container, Container::None);
    let files: Vec<&str> = manifest.files().collect();
    assert_eq!(files, ["stress.elf", "initrd.img", "hello.elf"]);
}

#[test]
fn the_default_exit_is_halt() {
    let manifest = Manifest::parse(with("vcpus", "32").as_bytes()).unwrap();
    assert_eq!(manifest.exit, Exit::Halt);
    assert_eq!(manifest.log, LogLevel::Info);
    assert!(!manifest.canaries);
    assert_eq!(manifest.isolate_page_tables, Isolation::Auto);
    let text = alloc::format!("exit = \"halt\"\n{}", with("vcpus", "1"));
    assert_eq!(Manifest::parse(text.as_bytes()).unwrap().exit, Exit::Halt);
}

#[test]
fn an_error_names_the_field() {
    for (field, value) in [
        ("name", "\"\""),
        ("name", "\"has space\""),
        ("kernel", "\"\""),
        ("kernel", "\"pinfold.toml\""),
        ("initrd", "\"\""),
        ("cmdline", "\"a\\u0000b\""),
        ("memory", "0"),
        ("memory", "4097"),
        ("memory", "\"4Q\""),
        ("memory", "-4096"),
        ("vcpus", "0"),
        ("vcpus", "33"),
        ("vcpus", "\"two\""),
        ("container", "\"vmx\""),
        ("container", "\"SVM\""),
        ("container", "true"),
        ("surprise", "1"),
    ] {
        let error = error_of(&with(field, value));
        assert!(error.contains(field), "{field} = {value}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = error_of(&with("cmdline", &alloc::format!("\"{}\"", "x".repeat(1024))));
    assert!(error.contains("cmdline: 1024 bytes long; at most 1023"), "{error}");
}

#[test]
fn a_missing_field_is_named() {
    let error = error_of("[[domain]]\nname = \"a\"\nkernel = \"k\"\n");
    assert!(error.contains("memory"), "{error}");
    assert!(error_of("").contains("domain"));
    assert!(error_of("domain = []").contains("there are 0"));
}

#[test]
fn names_are_unique() {
    let error = error_of(&with("vcpus", "1").repeat(2));
    assert_eq!(error, "pinfold.toml: domain[1].name: `a` is already the name of domain[0]");
}

#[test]
fn a_syntax_error_names_its_line() {
    let error = error_of("log = \"info\"\nexit = [\n");
    assert!(error.starts_with("pinfold.toml line "), "{error}");
    let error = Manifest::parse(b"log = \"\xff\"").unwrap_err();
    assert_eq!(error, ManifestError::Encoding { valid_up_to: 7 });
}

#[cfg(feature = "write")]
#[test]
fn a_written_manifest_is_read_back() {
    let manifest = Manifest::parse(ALL_KEYS.as_bytes()).unwrap();
    let text = manifest.to_toml().unwrap();
    assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
    let halt = Manifest { exit: Exit::Halt, ..manifest };
    assert_eq!(Manifest::parse(halt.to_toml().unwrap().as_bytes()).unwrap(), halt);
    assert!(Manifest::default().to_toml().is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(super::cases(256)))]

    #[test]
    fn any_bytes_give_a_manifest_or_an_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = Manifest::parse(&bytes);
    }

    #[test]
    fn a_changed_byte_gives_a_manifest_or_an_error(at in 0..ALL_KEYS.len(), byte: u8) {
        let mut bytes = ALL_KEYS.as_bytes().to_vec();
        bytes[at] = byte;
        if let Err(error) = Manifest::parse(&bytes) {
            proptest::prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

#[test]
fn names_are_those_of_the_manifest() {
    for level in LogLevel::ALL {
        let text = alloc::format!("log = \"{}\"\n{}", level.name(), with("vcpus", "1"));
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap().log, *level);
    }
    for isolation in [Isolation::Auto, Isolation::On, Isolation::Off] {
        let key = alloc::format!("isolate-page-tables = \"{}\"\n", isolation.name());
        let manifest = Manifest::parse((key + &with("vcpus", "1")).as_bytes()).unwrap();
        assert_eq!(manifest.isolate_page_tables, isolation);
    }
    for container in [Container::None, Container::Svm] {
        let text = with("container", &alloc::format!("\"{}\"", container.name()));
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap().domains[0].container, container);
    }
}
