//! Errors of building a domain.

use alloc::string::String;
use core::fmt;
use pinfold_image::{ImageError, LayoutError};
use pinfold_validator::Refusal;

/// Why a domain could not be built.
#[derive(Debug)]
pub enum BuildError {
    /// The archive doesn't have a file that the manifest names.
    NoFile(String),
    /// The image is invalid.
    Image(ImageError),
    /// The image doesn't fit in the domain's memory.
    Layout(LayoutError),
    /// The machine has too little free memory: frames wanted and free.
    Memory(u64, u64),
    /// The manifest wants a hardware container, and there is none.
    Container(&'static str),
    /// The validator refused the first page tables: a bug of the builder.
    Tables(Refusal),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::NoFile(name) => write!(f, "the boot archive has no file '{name}'"),
            BuildError::Image(error) => write!(f, "image: {error}"),
            BuildError::Layout(error) => write!(f, "layout: {error}"),
            BuildError::Memory(wanted, free) => {
                write!(f, "memory: {wanted} pages wanted, {free} are free")
            }
            BuildError::Container(reason) => write!(f, "container: {reason}"),
            BuildError::Tables(refusal) => write!(f, "first page tables: {refusal}"),
        }
    }
}

impl From<ImageError> for BuildError {
    fn from(error: ImageError) -> BuildError {
        BuildError::Image(error)
    }
}

impl From<LayoutError> for BuildError {
    fn from(error: LayoutError) -> BuildError {
        BuildError::Layout(error)
    }
}
