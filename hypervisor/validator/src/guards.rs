//! References of the hypervisor's own on a domain's frame, as values that drop them.
//!
//! A value proves that the frame is what its type says for as long as it lives. Functions that reach
//! into a frame take one of these instead of a frame number.

use crate::addr::Mfn;
use crate::audit::{ExternalRef, RefKind};
use crate::budget::Budget;
use crate::ids::DomId;
use crate::platform::Platform;
use crate::refusal::{Error, Refusal};
use crate::validator::Validator;
use core::fmt;

macro_rules! guard {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $get:ident, $put:ident) => {
        $(#[$doc])*
        #[must_use = "the reference is dropped at once"]
        pub struct $name<'v, P: Platform> {
            validator: &'v Validator<'v, P>,
            dom: DomId,
            mfn: Mfn,
        }

        impl<'v, P: Platform> $name<'v, P> {
            #[doc = concat!("Takes the reference: [`Validator::", stringify!($get), "`].")]
            ///
            /// # Errors
            #[doc = concat!("Those of [`Validator::", stringify!($get), "`].")]
            pub fn get(
                validator: &'v Validator<'v, P>,
                dom: DomId,
                mfn: Mfn,
            ) -> Result<Self, Refusal> {
                validator.$get(dom, mfn)?;
                Ok($name { validator, dom, mfn })
            }

            /// The frame.
            pub fn mfn(&self) -> Mfn {
                self.mfn
            }

            /// The domain that owns it.
            pub fn owner(&self) -> DomId {
                self.dom
            }

            /// What an audit must know of it.
            pub fn external(&self) -> ExternalRef {
                ExternalRef { frame: self.mfn, held: RefKind::$kind }
            }
        }

        impl<P: Platform> Drop for $name<'_, P> {
            fn drop(&mut self) {
                self.validator.$put(self.dom, self.mfn);
            }
        }

        impl<P: Platform> fmt::Debug for $name<'_, P> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.mfn).finish()
            }
        }
    };
}

guard!(
    /// A frame that the hypervisor may write to: it stays the domain's, write-back, and no table.
    WritableRef, Writable, get_writable_ref, put_writable_ref
);
guard!(
    /// A frame that the hypervisor may read: it stays the domain's, and write-back.
    ReadableRef, Readable, get_readable_ref, put_readable_ref
);
guard!(
    /// A descriptor page: all its descriptors are checked, and no guest can write to it.
    DescriptorRef, Descriptors, get_descriptor_ref, put_descriptor_ref
);

/// A validated root, for a vCPU to load.
#[must_use = "the reference is dropped at once"]
pub struct RootRef<'v, P: Platform> {
    validator: &'v Validator<'v, P>,
    dom: DomId,
    mfn: Mfn,
}

impl<'v, P: Platform> RootRef<'v, P> {
    /// Takes the reference: [`Validator::get_root_ref`].
    ///
    /// # Errors
    /// Those of [`Validator::get_root_ref`].
    pub fn get(
        validator: &'v Validator<'v, P>,
        dom: DomId,
        mfn: Mfn,
        budget: &mut Budget,
    ) -> Result<Self, Error> {
        validator.get_root_ref(dom, mfn, budget)?;
        Ok(RootRef { validator, dom, mfn })
    }

    /// The root.
    pub fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// The domain that owns it.
    pub fn owner(&self) -> DomId {
        self.dom
    }

    /// What an audit must know of it.
    pub fn external(&self) -> ExternalRef {
        ExternalRef { frame: self.mfn, held: RefKind::Root }
    }

    /// Drops the reference and, if it was the last, takes the table apart as far as the budget goes.
    /// Dropping the value leaves all of that to the domain's next operation.
    pub fn put(self, budget: &mut Budget) {
        self.validator.put_root_ref(self.dom, self.mfn, budget);
        core::mem::forget(self);
    }
}

impl<P: Platform> Drop for RootRef<'_, P> {
    fn drop(&mut self) {
        self.validator.put_root_ref(self.dom, self.mfn, &mut Budget::new(0));
    }
}

impl<P: Platform> fmt::Debug for RootRef<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RootRef").field(&self.mfn).finish()
    }
}
