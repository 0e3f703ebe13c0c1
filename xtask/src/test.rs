//! todo
use crate::{cli::TestArgs, exit::Exit};
pub(crate) fn verb(_: &TestArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("no")
}
