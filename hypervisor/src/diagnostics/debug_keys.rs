//! Debug keys: commands typed while the hypervisor has the keyboard.

use super::frame_dump;
use crate::backend::console::keyboard::KEYS;
use crate::console::log::write_record;
use crate::domain::{self, DomainRef};
use crate::event::ports;
use pinfold_abi::event::VIRQ_DEBUG;
use pinfold_abi::record::{InputDomain, InputKeys, Text, Who};

/// Handles a key.
pub fn handle(key: u8) {
    match key {
        b'd' => each_domain(|domain| {
            let name = Text::Str(&domain.name);
            write_record(Who::Hypervisor, &InputDomain { domain: domain.who(), name });
        }),
        b'f' => each_domain(|domain| {
            frame_dump::write(domain);
        }),
        b'v' => each_domain(|domain| {
            for slot in &domain.slots {
                ports::raise_virq(domain, VIRQ_DEBUG, slot.id);
            }
        }),
        _ => {
            write_record(Who::Hypervisor, &InputKeys { keys: Text::Str(KEYS) });
        }
    }
}

fn each_domain(mut with: impl FnMut(&DomainRef)) {
    let mut last = None;
    while let Some(domain) = domain::after(last) {
        with(&domain);
        last = Some(domain.id);
    }
}
