//! What comes of handling an exit of a guest.

/// A guest can't go on: the reason, for the log. The domain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal(pub &'static str);

/// What the scheduler is to do after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Let the vCPU go on, unless its time is up.
    Continue,
    /// Its time is up, or it gave the rest away.
    Yield,
}
