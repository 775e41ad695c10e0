//! The schedule of a video: the state of each actor in each frame. Only this depends on the class.
//!
//! Each of the five actors has one state `u` in [0, 1): a position, a size, an angle, an opacity or a gap.
//! In the 16 frames that the protocol samples, every actor takes each of the 16 states
//! `(k + phase) / 16` once. One actor takes them in order, upwards or downwards; the four others take them
//! in a uniformly random order. Therefore the following holds exactly:
//!
//! - **Shuffled frames carry no information.** After a random permutation of the frames, all five orders
//!   are independent and uniform, whichever actor moved in order.
//! - **A single frame carries no information.** In a frame at a random time, every actor is in a uniform
//!   state, independently of the others, in every class.
//! - **Reversing time** turns each class into its opposite.

use super::rng::Rng;
use super::{ACTORS, FRAMES, INTERVAL, SAMPLED};

/// The states of all actors in all frames: `states[frame][actor]`.
pub(crate) type Schedule = Vec<[f32; ACTORS]>;

/// Draws a schedule for a class: the states of the actor run upwards for the label `2 * actor`, and
/// downwards for `2 * actor + 1`.
pub(crate) fn draw(label: usize, rng: &mut Rng) -> Schedule {
    let mut schedule = vec![[0.0; ACTORS]; FRAMES];
    for actor in 0..ACTORS {
        let phase = rng.unit();
        let mut order = rng.order(SAMPLED);
        if actor == label / 2 {
            order.sort_unstable();
            if !label.is_multiple_of(2) {
                order.reverse();
            }
        }
        let states: Vec<f32> = order.iter().map(|&k| (k as f32 + phase) / SAMPLED as f32).collect();
        for (frame, row) in schedule.iter_mut().enumerate() {
            row[actor] = between(&states, frame);
        }
    }
    schedule
}

/// The state in a frame, interpolated linearly between the sampled frames.
fn between(states: &[f32], frame: usize) -> f32 {
    let (at, rest) = (frame / INTERVAL, frame % INTERVAL);
    let next = states[(at + 1).min(states.len() - 1)];
    states[at] + (next - states[at]) * rest as f32 / INTERVAL as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rank of each actor's state in the frames that the protocol samples.
    fn ranks(label: usize, seed: u64) -> [Vec<usize>; ACTORS] {
        let schedule = draw(label, &mut Rng::new(seed));
        std::array::from_fn(|actor| {
            let state = |t: usize| schedule[t * INTERVAL][actor];
            (0..SAMPLED).map(|t| (state(t) * SAMPLED as f32) as usize).collect()
        })
    }

    #[test]
    fn every_actor_takes_every_state_once_in_every_class() {
        for label in 0..2 * ACTORS {
            for (actor, mut ranks) in ranks(label, 7).into_iter().enumerate() {
                ranks.sort_unstable();
                assert_eq!(ranks, (0..SAMPLED).collect::<Vec<_>>(), "class {label}, actor {actor}");
            }
        }
    }

    #[test]
    fn one_actor_goes_in_order_and_the_reversed_class_goes_the_other_way() {
        for label in 0..2 * ACTORS {
            let mut states = ranks(label, 3)[label / 2].clone();
            if label % 2 == 1 {
                states.reverse();
            }
            assert_eq!(states, (0..SAMPLED).collect::<Vec<_>>(), "class {label}");
        }
    }

    /// In a frame at a random time, each pair of two actors' states is equally frequent in every class. There
    /// are 256 cells and 51200 draws; chi squared with 255 degrees of freedom exceeds 350 once in 10^4.
    #[test]
    fn a_frame_is_distributed_alike_in_every_class() {
        for label in 0..2 * ACTORS {
            let pair = (label / 2, (label / 2 + 1) % ACTORS);
            let mut counts = vec![0u32; SAMPLED * SAMPLED];
            for seed in 0..3200 {
                let ranks = ranks(label, seed);
                for frame in 0..SAMPLED {
                    counts[ranks[pair.0][frame] * SAMPLED + ranks[pair.1][frame]] += 1;
                }
            }
            let square = |&n: &u32| (f64::from(n) - 200.0).powi(2) / 200.0;
            let chi: f64 = counts.iter().map(square).sum();
            assert!(chi < 350.0, "class {label}: {chi}");
        }
    }

    /// The states of two actors in shuffled frames are independent in every class, so the rank of one is
    /// uniform in the frame in which the other has its lowest state.
    #[test]
    fn any_two_actors_are_independent() {
        for label in 0..2 * ACTORS {
            let pair = (label / 2, (label / 2 + 2) % ACTORS);
            let mut counts = [0u32; SAMPLED];
            for seed in 0..4000 {
                let ranks = ranks(label, seed);
                let lowest = ranks[pair.0].iter().position(|&rank| rank == 0).unwrap_or(0);
                counts[ranks[pair.1][lowest]] += 1;
            }
            let square = |&n: &u32| (f64::from(n) - 250.0).powi(2) / 250.0;
            let chi: f64 = counts.iter().map(square).sum();
            assert!(chi < 45.0, "class {label}: {chi}");
        }
    }
}
