//! `loom` models: every interleaving of a few CPUs on one frame.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p pinfold-validator loom`
//!
//! Models are small, for the number of interleavings explodes; each looks at one property, on the
//! very methods that the validator uses.
//!
//! loom takes sequentially consistent accesses for acquire and release, so it can't show that the
//! flush clock needs a full barrier between the clearing of an entry and the reading of the clock;
//! [`crate::Platform::compare_exchange_entry`] demands that, and `tlb.rs` says why.

mod loom_foreign;
mod loom_memtype;
mod loom_ownership;
mod loom_tlb;
mod loom_types;

/// Checks a model in every interleaving of at most three preemptions (`LOOM_MAX_PREEMPTIONS` sets
/// another bound): nearly all errors need two, and without a bound some models run for hours.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(run);
}
