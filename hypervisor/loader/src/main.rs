//! Starts Pinfold from QEMU's `-kernel`, without UEFI firmware.
//!
//! The usual way is UEFI firmware and the `bootloader` crate's program. This loader is for machines
//! where that firmware can't run: under KVM inside QEMU's translator, an interrupt handler that
//! writes CR8, as OVMF's do, stops the outer QEMU (7.2 and 10.0).
//!
//! It is entered by the PVH protocol (Xen's `public/arch-x86/hvm/start_info.h`) with one module, the
//! payload ([`pinfold_abi::direct_start`]): the hypervisor's ELF file and the boot archive. It hands
//! over what the `bootloader` crate would, in the same structure, with the mappings that the
//! hypervisor's configuration asks for. Only what Pinfold asks for is there: fixed addresses, no
//! framebuffer, no thread-local storage.
//!
//! It runs on identity-mapped tables and adds the hypervisor's mappings to them. Every error is a
//! panic, whose message goes to the first serial port.
//!
//! | file | about |
//! |---|---|
//! | `entry` | from 32-bit mode to Rust, and the panic handler |
//! | `pvh` | what QEMU reports: memory, module, ACPI |
//! | `memory` | page frames and mappings |
//! | `image` | the hypervisor's ELF file |
//! | `handover` | the report to the hypervisor, and the jump |
#![no_std]
#![no_main]

mod entry;
mod handover;
mod image;
mod memory;
mod pvh;
