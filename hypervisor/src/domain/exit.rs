//! The result of handling an exit of a guest.

/// The guest can't be resumed, and its domain ends. The reason is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fatal(pub &'static str);

/// What the run loop does after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Resume the vCPU, unless its time slice is over.
    Continue,
    /// Take the vCPU off this CPU: its time slice is over, or it yielded.
    Yield,
}
