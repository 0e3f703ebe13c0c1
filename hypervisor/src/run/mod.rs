//! Runs vCPUs, frees the memory of domains that ended, and stops the machine after the last one.

pub mod teardown;
