//! Event channels: the ports of a domain, and the delivery of events.
//!
//! | file         | about                                    |
//! |--------------|------------------------------------------|
//! | `port_table` | what each port is bound to               |
//! | `ports`      | operations on ports                      |
//! | `delivery`   | delivery of events to vCPUs              |

mod delivery;
pub mod port_table;
pub mod ports;
