//! `loom` models: interleavings of two CPUs.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p pinfold-core loom`
//!
//! What loom can't show is said in the validator's `src/models`.

mod container;
mod loom_asid;

/// Checks a model in every interleaving of at most three preemptions (`LOOM_MAX_PREEMPTIONS` sets
/// another bound).
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(run);
}
