//! Links the loader where it runs.

fn main() {
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    println!("cargo::rerun-if-changed=loader.ld");
    println!("cargo::rustc-link-arg-bins=-T{folder}/loader.ld");
    println!("cargo::rustc-link-arg-bins=--no-pie");
}
