//! The nodes that a guest's store has from the beginning.

use alloc::collections::TryReserveError;
use alloc::format;
use alloc::string::String;
use pinfold_store::Connection;

/// What a domain's store says about it.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its number.
    pub domain: u16,
    /// Number of its frames.
    pub pages: u64,
    /// Number of its vCPUs.
    pub vcpus: u16,
    /// Frame and port of its console's ring.
    pub console: (u64, u32),
    /// Frame and port of its store's ring.
    pub store: (u64, u32),
}

/// A store with the nodes that a toolstack makes (`docs/misc/xenstore-paths.pandoc`).
///
/// # Errors
/// If there is no memory for a store.
pub fn make(facts: &Facts<'_>) -> Result<Connection, TryReserveError> {
    let mut store = Connection::new(facts.domain)?;
    // At most 32 vCPUs and names of 32 bytes: far below the quotas.
    let mut put =
        |path: &str, value: &str| store.write_initial(path, value).expect("within the quotas");
    let number = |number: u64| -> String { format!("{number}") };
    put("name", facts.name);
    put("domid", &number(facts.domain.into()));
    // In KiB.
    put("memory/static-max", &number(facts.pages * 4));
    put("memory/target", &number(facts.pages * 4));
    put("console/type", "xenconsoled");
    put("console/ring-ref", &number(facts.console.0));
    put("console/port", &number(facts.console.1.into()));
    put("store/ring-ref", &number(facts.store.0));
    put("store/port", &number(facts.store.1.into()));
    put("control/shutdown", "");
    put("device", "");
    for vcpu in 0..facts.vcpus {
        put(&format!("cpu/{vcpu}/availability"), "online");
    }
    Ok(store)
}
