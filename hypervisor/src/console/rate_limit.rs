//! A limit on the records that a domain can cause.

use crate::sync::Mutex;
use crate::time::clock;
use core::sync::atomic::{AtomicU64, Ordering};

/// Records that a domain may cause in a second.
const RECORDS_A_SECOND: u64 = 1000;
/// Records that it may cause at once.
const BURST: u64 = 20_000;

/// How many records a domain may still cause: a bucket that fills with time.
#[derive(Debug)]
pub struct RateLimit {
    bucket: Mutex<(u64, u64)>,
    dropped: AtomicU64,
}

impl Default for RateLimit {
    fn default() -> RateLimit {
        RateLimit { bucket: Mutex::new((BURST, 0)), dropped: AtomicU64::new(0) }
    }
}

impl RateLimit {
    /// Whether one more record may be written; counts it as dropped if not.
    pub fn allows(&self) -> bool {
        let now = clock::now_ns();
        let mut bucket = self.bucket.lock();
        let (tokens, since) = *bucket;
        let earned =
            (now.saturating_sub(since) / 1_000_000).saturating_mul(RECORDS_A_SECOND) / 1000;
        let tokens = if earned > 0 {
            bucket.1 = now;
            tokens.saturating_add(earned).min(BURST)
        } else {
            tokens
        };
        bucket.0 = tokens.saturating_sub(1);
        if tokens == 0 {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        tokens != 0
    }

    /// Records that were not written.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
