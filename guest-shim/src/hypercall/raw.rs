//! The instruction of a hypercall: `syscall` in ring 3, `vmmcall` in the hardware container.

use super::Errno;

/// Makes a hypercall and returns what it leaves in `rax`.
///
/// The hypervisor may write bounce frames below `rsp` (the target has no red zone).
///
/// # Safety
///
/// The call must not, by its own effect, change memory that Rust code relies on in a way that the
/// language doesn't allow: pointers among the arguments are valid for what the call does to them,
/// and mappings that are in use stay.
#[cfg(target_os = "none")]
pub(crate) unsafe fn call(number: u64, args: [u64; 5]) -> i64 {
    let result: i64;
    // SAFETY: `syscall` in a guest kernel in ring 3 is the hypercall, and `vmmcall` in the container;
    // the registers that either and the hypervisor may change are declared (arguments too: debug
    // builds of Xen clobber them).
    unsafe {
        core::arch::asm!(
            "cmp byte ptr [rip + {in_container}], 0",
            "je 2f",
            "vmmcall",
            "jmp 3f",
            "2:",
            "syscall",
            "3:",
            in_container = sym super::level::IN_CONTAINER,
            inlateout("rax") number => result,
            inlateout("rdi") args[0] => _,
            inlateout("rsi") args[1] => _,
            inlateout("rdx") args[2] => _,
            inlateout("r10") args[3] => _,
            inlateout("r8") args[4] => _,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// On a host there is no hypervisor: every call returns -ENOSYS.
///
/// # Safety
///
/// None is needed; the signature is that of the real call.
#[cfg(not(target_os = "none"))]
pub(crate) unsafe fn call(_number: u64, _args: [u64; 5]) -> i64 {
    pinfold_abi::errno::Errno::ENOSYS.as_result()
}

/// Converts a raw result: negative ones are errors.
pub(crate) fn check(result: i64) -> Result<u64, Errno> {
    u64::try_from(result).map_err(|_| Errno(result))
}

/// The address of a value, as a hypercall argument.
pub(crate) fn address<T: ?Sized>(thing: *const T) -> u64 {
    thing.cast::<()>() as usize as u64
}
