//! todo
use crate::{cli::BenchArgs, exit::Exit};
pub(crate) fn verb(_: &BenchArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("no")
}
