//! Signal handlers.

use std::io::Error;

/// A handler: it gets the signal, its cause, and the registers of the interrupted code.
pub(crate) type Handler = extern "C" fn(i32, &libc::siginfo_t, &mut libc::ucontext_t);

/// Installs a handler. It runs on the alternate stack of its thread, if there is one.
pub(crate) fn set_handler(signal: i32, handler: Handler) {
    // SAFETY: the handler has the form that SA_SIGINFO asks for, and all handlers of this program
    // touch nothing but atomics and pages that no other code uses meanwhile.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    assert!(result == 0, "sigaction({signal}): {}", Error::last_os_error());
}

/// Gives a signal its default action again.
pub(crate) fn reset_handler(signal: i32) {
    // SAFETY: the default action needs no handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}
