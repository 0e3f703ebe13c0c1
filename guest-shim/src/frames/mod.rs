//! What the shim knows of the guest's frames. Nothing in here touches a page table.
//!
//! | module | what it keeps |
//! |---|---|
//! | `pool` | free frames, and frames whose free is deferred until their lazy mappings are gone |
//! | `table_pool` | free frames without any lazy mapping, for page tables |
//! | `references` | frames that devices use |
//! | `memory_type` | frames that are not write-back |
//! | `per_frame` | counts, marks and sets by frame number |

mod memory_type;
mod per_frame;
mod pool;
mod references;
mod table_pool;

pub use memory_type::MemoryType;
pub(crate) use memory_type::MemoryTypes;
pub(crate) use per_frame::{Counts, FrameSet, Marks};
pub(crate) use pool::FramePool;
pub use pool::Reuse;
pub(crate) use references::References;
pub(crate) use table_pool::TablePool;
