//! Error numbers. A hypercall returns them negated in `rax` (`public/errno.h`).

/// An error number of the ABI, positive; [`Errno::as_result`] gives what a hypercall returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[expect(missing_docs, reason = "the names are the field's standard ones")]
pub enum Errno {
    EPERM = 1,
    ENOENT = 2,
    ESRCH = 3,
    ENXIO = 6,
    E2BIG = 7,
    EAGAIN = 11,
    ENOMEM = 12,
    EACCES = 13,
    EFAULT = 14,
    EBUSY = 16,
    EEXIST = 17,
    EXDEV = 18,
    ENODEV = 19,
    EINVAL = 22,
    ENOSPC = 28,
    ERANGE = 34,
    ENOSYS = 38,
    ENODATA = 61,
    ETIME = 62,
    EOVERFLOW = 75,
    EOPNOTSUPP = 95,
}

impl Errno {
    /// Every number that this crate knows.
    pub const ALL: [Errno; 21] = [
        Errno::EPERM,
        Errno::ENOENT,
        Errno::ESRCH,
        Errno::ENXIO,
        Errno::E2BIG,
        Errno::EAGAIN,
        Errno::ENOMEM,
        Errno::EACCES,
        Errno::EFAULT,
        Errno::EBUSY,
        Errno::EEXIST,
        Errno::EXDEV,
        Errno::ENODEV,
        Errno::EINVAL,
        Errno::ENOSPC,
        Errno::ERANGE,
        Errno::ENOSYS,
        Errno::ENODATA,
        Errno::ETIME,
        Errno::EOVERFLOW,
        Errno::EOPNOTSUPP,
    ];

    /// The value that a hypercall leaves in `rax`: the negated number.
    pub const fn as_result(self) -> i64 {
        -(self as i64)
    }

    /// The error in a hypercall's result, if it is one that this crate knows.
    pub fn from_result(result: i64) -> Option<Errno> {
        Self::ALL.into_iter().find(|e| e.as_result() == result)
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "-{self:?}")
    }
}
