//! todo
use crate::{cli::ReportArgs, exit::Exit};
pub(crate) fn verb(_: &ReportArgs) -> anyhow::Result<Exit> {
    anyhow::bail!("no")
}
