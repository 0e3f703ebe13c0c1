//! What a guest kernel needs to start: ELF notes, entry code, a stack, traps, a heap, the panic
//! handler. With it a kernel is a function:
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! use pinfold_guest::{entry::Boot, guest_main, hypercall::sched::Exit, println};
//!
//! guest_main!(main);
//!
//! fn main(boot: &Boot) -> Exit {
//!     println!("hello, {}", boot.command_line());
//!     Exit::PowerOff
//! }
//! ```
//!
//! Its build script passes on the linker script of this crate:
//! `println!("cargo::rustc-link-arg=-T{}", env::var("DEP_PINFOLD_GUEST_LINKER_SCRIPT")?)`, and
//! `--no-pie`, because a guest is linked where it runs.
#![expect(
    unsafe_code,
    reason = "assembly, page tables and memory by its address: the machine below the shim"
)]

pub mod alias;
mod boot;
pub mod catch;
mod container;
pub mod event;
mod frame;
mod heap;
pub mod kernel;
pub mod lock;
pub mod memory;
pub mod moving;
mod native;
pub mod percpu;
pub mod smp;
mod start;
pub mod time;
pub mod trap;
mod upcall_buffer;
pub mod user;
pub mod vcpu_pool;

pub use boot::{Boot, VIRT_BASE};
pub use native::Native;
pub use start::{EntryRegisters, entry_registers, run};

/// Makes a function `fn(&Boot) -> Exit` the guest's kernel, and defines the panic handler.
#[macro_export]
macro_rules! guest_main {
    ($main:path) => {
        /// Called by the entry code, once, on the boot stack.
        #[unsafe(no_mangle)]
        extern "C" fn pinfold_guest_entry(
            start_info: &'static $crate::abi::start_info::StartInfo,
        ) -> ! {
            $crate::entry::run(start_info, $main)
        }

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::println!("PANIC {info}");
            $crate::hypercall::sched::shutdown($crate::hypercall::sched::Exit::Crash)
        }
    };
}
