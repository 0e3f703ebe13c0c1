//! Tells the build scripts of guest kernels where the linker script is
//! (`DEP_PINFOLD_GUEST_LINKER_SCRIPT`).

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets the manifest directory");
    println!("cargo::metadata=linker_script={root}/guest.ld");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=guest.ld");
}
