//! Error numbers (`public/errno.h`). A hypercall returns them negated in `rax`.

use strum::FromRepr;

/// A positive error number of the ABI. [`Errno::as_result`] is what a hypercall returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromRepr)]
#[repr(u16)]
#[expect(missing_docs, reason = "the names are those of public/errno.h")]
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
    /// The negated number, as a hypercall returns it in `rax`.
    pub const fn as_result(self) -> i64 {
        -(self as i64)
    }

    /// The error of a hypercall's result, or `None` for a success or a number that is not listed
    /// here.
    pub fn from_result(result: i64) -> Option<Errno> {
        let number = result.checked_neg()?;
        u16::try_from(number).ok().and_then(Errno::from_repr)
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "-{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_negated_numbers() {
        assert_eq!(Errno::from_result(Errno::EXDEV.as_result()), Some(Errno::EXDEV));
        for other in [0, 18, -4, -65_554, i64::MIN] {
            assert_eq!(Errno::from_result(other), None, "{other}");
        }
    }
}
