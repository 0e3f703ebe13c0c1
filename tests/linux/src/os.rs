//! The system calls that the standard library has no word for, each behind a safe function.

use std::io::Error;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// A private anonymous mapping, unmapped when it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: it is memory that nothing else refers to; the pointer goes where the mapping goes.
unsafe impl Send for Mapping {}

/// What may be done with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    None,
    Read,
    ReadWrite,
}

impl Access {
    fn bits(self) -> i32 {
        match self {
            Access::None => libc::PROT_NONE,
            Access::Read => libc::PROT_READ,
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

impl Mapping {
    /// Maps zeroed pages.
    pub(crate) fn new(pages: usize, access: Access) -> Result<Mapping, String> {
        Mapping::with(pages, access, 0)
    }

    /// Maps zeroed pages, more of them than there may be memory.
    pub(crate) fn sparse(pages: usize) -> Result<Mapping, String> {
        Mapping::with(pages, Access::ReadWrite, libc::MAP_NORESERVE)
    }

    /// Maps zeroed pages below 2 GiB.
    pub(crate) fn low(pages: usize) -> Result<Mapping, String> {
        Mapping::with(pages, Access::ReadWrite, libc::MAP_32BIT)
    }

    fn with(pages: usize, access: Access, flags: i32) -> Result<Mapping, String> {
        let bytes = pages * PAGE;
        let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping where the kernel has room overlaps nothing.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access.bits(), flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(format!("mmap of {pages} pages: {}", Error::last_os_error()));
        }
        Ok(Mapping { start: start.cast(), bytes })
    }

    /// Its first address.
    pub(crate) fn address(&self) -> usize {
        self.start as usize
    }

    /// Its pages.
    pub(crate) fn pages(&self) -> usize {
        self.bytes / PAGE
    }

    /// Changes what may be done with `pages` pages from `first` on.
    pub(crate) fn protect(&self, first: usize, pages: usize, access: Access) -> Result<(), String> {
        assert!((first + pages) * PAGE <= self.bytes);
        // SAFETY: these pages are this mapping's, and no reference into them exists.
        let code = unsafe {
            libc::mprotect(self.start.add(first * PAGE).cast(), pages * PAGE, access.bits())
        };
        if code == 0 { Ok(()) } else { Err(format!("mprotect: {}", Error::last_os_error())) }
    }

    /// Puts fresh zeroed pages where the old ones were.
    pub(crate) fn renew(&self) -> Result<(), String> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: only this mapping's own pages are replaced, and no reference into them exists.
        let start = unsafe {
            libc::mmap(self.start.cast(), self.bytes, Access::ReadWrite.bits(), flags, -1, 0)
        };
        if start == self.start.cast() {
            Ok(())
        } else {
            Err(format!("mmap in place: {}", Error::last_os_error()))
        }
    }

    /// Moves it into a mapping of another size.
    pub(crate) fn resize(&mut self, pages: usize) -> Result<(), String> {
        // SAFETY: the mapping is this one, and no reference into it exists.
        let start = unsafe {
            libc::mremap(self.start.cast(), self.bytes, pages * PAGE, libc::MREMAP_MAYMOVE)
        };
        if start == libc::MAP_FAILED {
            return Err(format!("mremap: {}", Error::last_os_error()));
        }
        self.start = start.cast();
        self.bytes = pages * PAGE;
        Ok(())
    }

    /// Writes the word at the start of a page; it must be writable, or a handler must make it so.
    pub(crate) fn write(&self, page: usize, word: u64) {
        assert!(page < self.pages());
        // SAFETY: the page is in the mapping and aligned.
        unsafe { self.start.add(page * PAGE).cast::<u64>().write_volatile(word) };
    }

    /// Reads the word at the start of a page; it must be readable.
    pub(crate) fn read(&self, page: usize) -> u64 {
        assert!(page < self.pages());
        // SAFETY: as above.
        unsafe { self.start.add(page * PAGE).cast::<u64>().read_volatile() }
    }

    /// Asks the kernel to write a word into a page: how it fails without a fault of this process.
    pub(crate) fn kernel_writes(&self, page: usize) -> Result<(), i32> {
        assert!(page < self.pages());
        let mut ends = [0; 2];
        // SAFETY: the kernel writes two numbers to an array of two.
        let piped = unsafe { libc::pipe(ends.as_mut_ptr()) };
        assert!(piped == 0, "pipe: {}", Error::last_os_error());
        let word = 0x5eed_u64.to_le_bytes();
        // SAFETY: eight bytes are read from an array of eight.
        unsafe { libc::write(ends[1], word.as_ptr().cast(), word.len()) };
        // SAFETY: the page is in the mapping; whether it may be written is the question.
        let got = unsafe { libc::read(ends[0], self.start.add(page * PAGE).cast(), word.len()) };
        let error = Error::last_os_error().raw_os_error().unwrap_or(0);
        for end in ends {
            // SAFETY: both ends are this function's own.
            unsafe { libc::close(end) };
        }
        if got == word.len() as isize { Ok(()) } else { Err(error) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one; nothing refers to it any more.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// Processors that this process may use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The processor that this thread is on, asked of the kernel itself: the quick way, without a
/// system call, reads a descriptor's limit, and on any processor but the first of a PV guest
/// Linux 6.1 never makes that descriptor (seen on Xen too).
fn here() -> usize {
    let mut processor = 0u32;
    let none = std::ptr::null_mut::<u8>();
    // SAFETY: the kernel writes one number.
    unsafe { libc::syscall(libc::SYS_getcpu, &mut processor, none, none) };
    processor as usize
}

/// Moves this thread to one processor; true if it is there afterwards.
pub(crate) fn go_to(processor: usize) -> bool {
    // SAFETY: a zeroed set is an empty set, and the calls below only read and write it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set) == 0 && here() == processor
    }
}

/// Lets this thread go to any of the first `count` processors.
pub(crate) fn go_anywhere(count: usize) {
    // SAFETY: as above.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (0..count).for_each(|processor| libc::CPU_SET(processor, &mut set));
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

/// Makes a child that runs `child` and ends with what it gives; gives its number.
///
/// Only what is safe after a fork of a process with threads may be done in it: no allocation.
pub(crate) fn fork(child: impl FnOnce() -> u8) -> Result<i32, String> {
    // SAFETY: the child does what its caller says here and then leaves at once, without running
    // anything that the parent's other threads may have been in the middle of.
    match unsafe { libc::fork() } {
        -1 => Err(format!("fork: {}", Error::last_os_error())),
        // SAFETY: it only ends the process.
        0 => unsafe { libc::_exit(child().into()) },
        number => Ok(number),
    }
}

/// Waits for a child; gives what it ended with, or the signal that killed it as an error.
pub(crate) fn wait(child: i32) -> Result<u8, String> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one number.
        let got = unsafe { libc::waitpid(child, &mut status, 0) };
        if got == child {
            break;
        }
        let error = Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINTR) {
            return Err(format!("waitpid: {error}"));
        }
    }
    if libc::WIFEXITED(status) {
        Ok(libc::WEXITSTATUS(status) as u8)
    } else {
        Err(format!("killed by signal {}", libc::WTERMSIG(status)))
    }
}

/// A signal's handler: the signal, where the fault was, and the interrupted registers.
pub(crate) type Handler = extern "C" fn(i32, &libc::siginfo_t, &mut libc::ucontext_t);

/// Installs a handler that runs on the alternate stack of its thread, if there is one.
pub(crate) fn handle(signal: i32, handler: Handler) {
    // SAFETY: the handler has the form that SA_SIGINFO promises, and those of this program touch
    // nothing but atomics and their own pages.
    let code = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigaction(signal, &action, std::ptr::null_mut())
    };
    assert!(code == 0, "sigaction({signal}): {}", Error::last_os_error());
}

/// Gives a signal its usual effect again.
pub(crate) fn leave(signal: i32) {
    // SAFETY: the default action needs no handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Numbers that look random and come again with the same seed (xorshift).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Begins.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next one, below `below`.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}
