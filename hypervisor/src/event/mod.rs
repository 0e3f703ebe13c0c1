//! Event channels: the ports of a domain, and how an event reaches a vCPU.
//!
//! | file         | about                                    |
//! |--------------|------------------------------------------|
//! | `port_table` | what each port is connected to           |
//! | `ports`      | operations on ports                      |
//! | `delivery`   | how an event reaches a vCPU              |

mod delivery;
pub mod port_table;
pub mod ports;
