//! How fast an evaluation was, and which part of the work bound it.

use std::time::{Duration, Instant};

use record::{Part, Speed};

/// Adds up the time of each part while videos are evaluated.
pub struct Clock {
    start: Instant,
    threads: usize,
    videos: u64,
    views: u64,
    decoding: Duration,
    preparing: Duration,
    network: Duration,
}

impl Clock {
    /// Starts with `threads` threads that decode.
    pub fn start(threads: usize) -> Self {
        let zero = Duration::ZERO;
        Clock {
            start: Instant::now(),
            threads,
            videos: 0,
            views: 0,
            decoding: zero,
            preparing: zero,
            network: zero,
        }
    }

    /// Adds a video that was decoded and resized on one thread.
    pub fn decoded(&mut self, views: usize, time: Duration) {
        self.videos += 1;
        self.views += views as u64;
        self.decoding += time;
    }

    /// Adds what an engine took, of which `preparing` is not the network.
    pub fn evaluated(&mut self, time: Duration, preparing: Duration) {
        self.preparing += preparing;
        self.network += time.saturating_sub(preparing);
    }

    /// The speed; `None` if no video was decoded.
    pub fn speed(&self) -> Option<Speed> {
        if self.videos == 0 {
            return None;
        }
        let part = |name: &str, threads: usize, time: Duration| {
            let seconds = time.as_secs_f64();
            let rate = self.videos as f64 * threads as f64 / seconds.max(1e-9);
            Part {
                name: name.to_owned(),
                threads: threads as u64,
                seconds,
                videos_per_second: rate,
            }
        };
        let parts = vec![
            part("decoder", self.threads, self.decoding),
            part("preprocessing", 1, self.preparing),
            part("network", 1, self.network),
        ];
        let slowest =
            parts.iter().min_by(|a, b| a.videos_per_second.total_cmp(&b.videos_per_second));
        let bound = slowest.map(|part| part.name.clone()).unwrap_or_default();
        let seconds = self.start.elapsed().as_secs_f64();
        Some(Speed { videos: self.videos, views: self.views, seconds, parts, bound })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_with_the_lowest_rate_bounds_the_run() {
        let mut clock = Clock::start(2);
        assert!(clock.speed().is_none());
        clock.decoded(30, Duration::from_secs(3));
        clock.evaluated(Duration::from_secs(2), Duration::from_secs(1));
        let speed = clock.speed().unwrap();
        assert_eq!((speed.bound.as_str(), speed.videos, speed.views), ("decoder", 1, 30));
        clock.evaluated(Duration::from_secs(2), Duration::ZERO);
        assert_eq!(clock.speed().unwrap().bound, "network");
    }
}
