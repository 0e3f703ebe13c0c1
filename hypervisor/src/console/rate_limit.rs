//! The rate limit of records that a domain can cause.

use crate::sync::Mutex;
use crate::time::clock;
use core::sync::atomic::{AtomicU64, Ordering};

/// Tokens that are added per second.
const RECORDS_PER_SECOND: u64 = 1000;
/// Capacity of the bucket: records that a domain may cause at once.
const BURST: u64 = 20_000;

/// A token bucket: each record takes one token.
#[derive(Debug)]
pub struct RateLimit {
    /// Tokens, and the system time in ns at which they were last added.
    bucket: Mutex<(u64, u64)>,
    dropped: AtomicU64,
}

impl Default for RateLimit {
    fn default() -> RateLimit {
        RateLimit { bucket: Mutex::new((BURST, 0)), dropped: AtomicU64::new(0) }
    }
}

impl RateLimit {
    /// Takes a token for a record. Returns `false`, and counts the record as dropped, if there is none.
    pub fn allows(&self) -> bool {
        let now = clock::now_ns();
        let mut bucket = self.bucket.lock();
        let (tokens, since) = *bucket;
        let earned =
            (now.saturating_sub(since) / 1_000_000).saturating_mul(RECORDS_PER_SECOND) / 1000;
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

    /// Number of records that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
