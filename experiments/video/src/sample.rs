//! Chooses the frames of each clip, as mmaction2's `SampleFrames` does in test mode.

/// The index of the first frame of each clip, for a video of `n` frames of which a clip spans `span`. With
/// M = max(n - span, 0), a single clip begins at M / 2, rounded down; of several clips, the k-th begins at
/// `k * (M / (clips - 1))`, rounded half to even.
pub fn clip_offsets(n: usize, span: usize, clips: usize) -> Vec<usize> {
    let room = n.saturating_sub(span);
    if clips == 1 {
        return vec![room / 2];
    }
    let step = room as f64 / clips.saturating_sub(1).max(1) as f64;
    (0..clips).map(|k| (k as f64 * step).round_ties_even() as usize).collect()
}

/// The indexes of the frames of each clip, `indexes[clip][t] = (offset + interval * t) mod n`, for a video
/// of `n` frames.
pub fn frame_indexes(n: usize, frames: usize, interval: usize, clips: usize) -> Vec<Vec<usize>> {
    let span = frames.saturating_sub(1) * interval + 1;
    let clip = |offset: usize| (0..frames).map(|t| (offset + interval * t) % n.max(1)).collect();
    clip_offsets(n, span, clips).into_iter().map(clip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cases_by_hand() {
        assert_eq!(clip_offsets(303, 61, 1), [121]);
        assert_eq!(clip_offsets(131, 61, 1), [35]);
        assert_eq!(clip_offsets(10, 61, 1), [0]);
        assert_eq!(clip_offsets(61 + 9, 61, 10), (0..10).collect::<Vec<_>>());
        // Halves are rounded to the even number: with M = 5, 3 clips begin at 0, 2.5 and 5.
        assert_eq!(clip_offsets(66, 61, 3), [0, 2, 5]);
        assert_eq!(clip_offsets(68, 61, 3), [0, 4, 7]);
        assert_eq!(frame_indexes(1, 16, 4, 1), [vec![0; 16]]);
        assert_eq!(frame_indexes(3, 4, 4, 2), [[0, 1, 2, 0], [0, 1, 2, 0]]);
    }

    proptest! {
        #[test]
        fn indexes_are_frames_and_clips_fill_the_video(n in 1usize..2000, clips in 1usize..12) {
            let indexes = frame_indexes(n, 16, 4, clips);
            prop_assert_eq!(indexes.len(), clips);
            prop_assert!(indexes.iter().flatten().all(|&i| i < n));
            if n >= 61 && clips > 1 {
                prop_assert_eq!(indexes[0][0], 0);
                prop_assert_eq!(indexes[clips - 1][15], n - 1);
            }
            if n >= 61 {
                let rising = |clip: &Vec<usize>| clip.windows(2).all(|p| p[1] == p[0] + 4);
                prop_assert!(indexes.iter().all(rising));
            }
        }
    }
}
