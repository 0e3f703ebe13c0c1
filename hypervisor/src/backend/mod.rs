//! Back ends of the paravirtual devices: a guest's console and its xenstore.

pub mod console;
pub mod store;
