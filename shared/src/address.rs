//! Frame numbers and addresses: machine frames, pseudo-physical frames of a guest and virtual
//! addresses of a guest.
//!
//! A machine frame number ([`Mfn`]) and a guest's own frame number ([`Pfn`]) are different types,
//! so that they cannot be confused. All three types hold any `u64`, because guests choose the
//! numbers: whether a frame exists or an address is canonical is checked where it is used.
//! The hypervisor's own addresses are `x86_64::VirtAddr`, which is always canonical.

use core::fmt;

/// log2 of [`PAGE_SIZE`]: number of address bits that are the offset in a page.
pub const PAGE_SHIFT: u32 = 12;
/// Size of a page and of a frame, in bytes.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

macro_rules! frame_number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// Makes a frame number from a `u64`.
            pub const fn new(number: u64) -> $name {
                $name(number)
            }

            /// The number as a `u64`.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The frame that contains an address.
            pub const fn from_address(address: u64) -> $name {
                $name(address >> PAGE_SHIFT)
            }

            /// Address of the first byte of the frame. Drops the 12 highest bits of the number: use
            /// [`checked_address`](Self::checked_address) for a number that a guest chose.
            pub const fn address(self) -> u64 {
                self.0 << PAGE_SHIFT
            }

            /// Address of the first byte of the frame, or `None` if it does not fit in 64 bits.
            pub const fn checked_address(self) -> Option<u64> {
                self.0.checked_mul(PAGE_SIZE)
            }

            /// The frame `count` frames after this one, or `None` on overflow.
            pub const fn checked_add(self, count: u64) -> Option<$name> {
                match self.0.checked_add(count) {
                    Some(number) => Some($name(number)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

frame_number!(
    /// Machine frame number, as in page-table entries and hypercalls.
    ///
    /// ```
    /// use pinfold_abi::address::Mfn;
    /// assert_eq!(Mfn::from_address(0x1a2b_fff), Mfn::new(0x1a2b));
    /// assert_eq!(Mfn::new(0x1a2b).address(), 0x1a2b_000);
    /// ```
    Mfn
);
frame_number!(
    /// Pseudo-physical frame number: a guest's own numbering of its frames, from 0.
    Pfn
);

/// Virtual address of a guest. It may be non-canonical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vaddr(pub u64);

impl Vaddr {
    /// Makes a virtual address from a `u64`.
    pub const fn new(address: u64) -> Vaddr {
        Vaddr(address)
    }

    /// The address as a `u64`.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The canonical address with these low 48 bits: bit 47 is copied to bits 48 to 63.
    pub const fn from_low_bits(bits: u64) -> Vaddr {
        Vaddr(((bits << 16) as i64 >> 16) as u64)
    }

    /// Whether bits 63 to 47 are all equal, as four-level paging demands (SDM volume 1, 3.3.7.1).
    pub const fn is_canonical(self) -> bool {
        Vaddr::from_low_bits(self.0).0 == self.0
    }

    /// Offset in the page, in bytes.
    pub const fn page_offset(self) -> u64 {
        self.0 % PAGE_SIZE
    }

    /// First address of the page.
    pub const fn page_start(self) -> Vaddr {
        Vaddr(self.0 - self.page_offset())
    }

    /// The address `pages` pages after this one. Wraps at 2^64.
    pub const fn page(self, pages: u64) -> Vaddr {
        Vaddr(self.0.wrapping_add(pages.wrapping_mul(PAGE_SIZE)))
    }

    /// The address `bytes` bytes after this one, or `None` on overflow.
    pub const fn checked_add(self, bytes: u64) -> Option<Vaddr> {
        match self.0.checked_add(bytes) {
            Some(address) => Some(Vaddr(address)),
            None => None,
        }
    }
}

impl fmt::Display for Vaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for Vaddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_number_that_has_no_address_is_refused() {
        assert_eq!(Mfn::new((1 << 52) - 1).checked_address(), Some(!0 << PAGE_SHIFT));
        assert_eq!(Mfn::new(1 << 52).checked_address(), None);
        assert_eq!(Pfn::new(u64::MAX).checked_add(1), None);
    }

    #[test]
    fn an_address_splits_into_page_and_offset() {
        let address = Vaddr::new(0x7fff_1234_5678);
        assert_eq!(address.page_start(), Vaddr::new(0x7fff_1234_5000));
        assert_eq!(address.page_offset(), 0x678);
        assert_eq!(address.page_start().page(2), Vaddr::new(0x7fff_1234_7000));
    }

    #[test]
    fn canonical_addresses_repeat_bit_47() {
        for canonical in [0, 0x7fff_ffff_ffff, 0xffff_8000_0000_0000, u64::MAX] {
            assert!(Vaddr::new(canonical).is_canonical(), "{canonical:#x}");
        }
        for other in [0x8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 63] {
            assert!(!Vaddr::new(other).is_canonical(), "{other:#x}");
        }
    }
}
