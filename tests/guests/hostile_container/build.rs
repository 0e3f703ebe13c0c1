//! Links the guest where it runs, with the shim's linker script.

fn main() {
    let script = std::env::var("DEP_PINFOLD_GUEST_LINKER_SCRIPT").expect("set by pinfold-guest");
    println!("cargo::rustc-link-arg-bins=-T{script}");
    println!("cargo::rustc-link-arg-bins=--no-pie");
}
