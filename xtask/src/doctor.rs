//! x
pub(crate) fn verb() -> anyhow::Result<crate::exit::Exit> {
    anyhow::bail!("no")
}
