//! Draws the frames of a video: a textured background with distractors, five actors, shake, flicker and
//! noise.
//!
//! Everything here is drawn independently of the class, and what changes from frame to frame is drawn
//! independently for each frame: only the [`schedule`](super::schedule) depends on the class. The scene is
//! the square in the middle of the frame, and positions in it are from 0 to 1.

use super::rng::Rng;
use super::schedule::Schedule;
use super::{ACTORS, HEIGHT, WIDTH};
use crate::Frame;

type Rgb = [f32; 3];

/// Number of knots of the background's texture along each side.
const KNOTS: usize = 7;
/// Number of rows and columns of the scene; the actor that moves has a row of its own.
const CELLS: usize = 3;

/// Everything in a video that does not depend on the class.
pub(crate) struct Scene {
    ground: Vec<Rgb>,
    lane: f32,
    places: [(f32, f32); ACTORS - 1],
    radius: f32,
    colours: [Rgb; ACTORS],
    noise: f32,
    per_frame: Rng,
}

impl Scene {
    /// Draws a scene at random.
    pub(crate) fn draw(rng: &Rng) -> Self {
        let mut layout = rng.fork(1);
        let row = layout.below(CELLS);
        let middle = |cell: usize, shift: f32| (cell as f32 + 0.5) / CELLS as f32 + shift;
        let lane = middle(row, layout.between(-0.03, 0.03));
        let free: Vec<(usize, usize)> = (0..CELLS)
            .filter(|&r| r != row)
            .flat_map(|r| (0..CELLS).map(move |c| (r, c)))
            .collect();
        let order = layout.order(free.len());
        let places = std::array::from_fn(|actor| {
            let (r, c) = free[order[actor]];
            (middle(c, layout.between(-0.02, 0.02)), middle(r, layout.between(-0.02, 0.02)))
        });
        let radius = layout.between(0.09, 0.12);
        let mut paint = rng.fork(2);
        let colours = std::array::from_fn(|_| std::array::from_fn(|_| paint.between(0.3, 1.0)));
        let noise = paint.between(0.01, 0.04);
        let ground = ground(&mut rng.fork(3));
        Scene { ground, lane, places, radius, colours, noise, per_frame: rng.fork(4) }
    }

    /// Draws every frame of a schedule.
    pub(crate) fn render(&self, schedule: &Schedule) -> impl Iterator<Item = Frame> {
        schedule.iter().enumerate().map(|(t, states)| self.frame(t, states))
    }

    fn frame(&self, t: usize, states: &[f32; ACTORS]) -> Frame {
        let mut rng = self.per_frame.fork(t as u64 + 1);
        let light = rng.between(0.95, 1.05);
        let shake = (rng.between(-0.008, 0.008), rng.between(-0.008, 0.008));
        let mut data = Vec::with_capacity(3 * WIDTH * HEIGHT);
        for row in 0..HEIGHT {
            for column in 0..WIDTH {
                let mut colour = self.ground[row * WIDTH + column];
                let (x, y) = place(column, row);
                let at = (x + shake.0, y + shake.1);
                for actor in 0..ACTORS {
                    let cover = self.cover(actor, states[actor], at);
                    blend(&mut colour, self.colours[actor], cover);
                }
                for channel in colour {
                    // The sum of two uniform numbers approximates normal noise well enough.
                    let noise = self.noise * (rng.unit() + rng.unit() - 1.0) * 2.0;
                    data.push(((channel * light + noise).clamp(0.0, 1.0) * 255.0).round() as u8);
                }
            }
        }
        Frame { width: WIDTH, height: HEIGHT, data }
    }

    /// The coverage of a pixel by an actor in the state `u`, from 0 to 1.
    fn cover(&self, actor: usize, u: f32, (x, y): (f32, f32)) -> f32 {
        if actor == 0 {
            return edge(self.radius - (x - u).hypot(y - self.lane));
        }
        let (cx, cy) = self.places[actor - 1];
        let (x, y) = (x - cx, y - cy);
        if x.abs() > 0.17 || y.abs() > 0.17 {
            return 0.0;
        }
        match actor {
            1 => edge(0.03 + 0.12 * u - x.hypot(y)),
            2 => {
                let (sin, cos) = (std::f32::consts::PI * u).sin_cos();
                let (along, across) = (x * cos + y * sin, y * cos - x * sin);
                edge((0.15 - along.abs()).min(0.035 - across.abs()))
            }
            3 => u * edge((0.12 - x.abs()).min(0.12 - y.abs())),
            _ => edge((0.15 - x.abs()).min(0.11 - y.abs()).min(x.abs() - 0.11 * u)),
        }
    }
}

/// The position of a pixel's centre in the scene.
fn place(column: usize, row: usize) -> (f32, f32) {
    let side = HEIGHT as f32;
    let margin = (WIDTH - HEIGHT) as f32 / 2.0;
    ((column as f32 + 0.5 - margin) / side, (row as f32 + 0.5) / side)
}

/// The coverage of a pixel, from its signed distance to an edge (positive inside), with a ramp of one pixel.
fn edge(distance: f32) -> f32 {
    (distance * HEIGHT as f32 + 0.5).clamp(0.0, 1.0)
}

fn blend(colour: &mut Rgb, over: Rgb, cover: f32) {
    for (channel, over) in colour.iter_mut().zip(over) {
        *channel += (over - *channel) * cover;
    }
}

/// A smooth random texture, with rings and bars that never move.
fn ground(rng: &mut Rng) -> Vec<Rgb> {
    let knots: Vec<Rgb> =
        (0..KNOTS * KNOTS).map(|_| std::array::from_fn(|_| rng.between(0.05, 0.6))).collect();
    let grain = (rng.between(20.0, 60.0), rng.between(20.0, 60.0), rng.between(0.0, 0.08));
    let distractors: Vec<[f32; 7]> = (0..4)
        .map(|_| {
            let mut mark = [0.0; 7];
            mark[0] = rng.between(-0.15, 1.15);
            mark[1] = rng.unit();
            mark[2] = rng.between(0.02, 0.09);
            mark[3..6].fill_with(|| rng.unit());
            mark[6] = rng.unit();
            mark
        })
        .collect();
    let mut pixels = Vec::with_capacity(WIDTH * HEIGHT);
    for row in 0..HEIGHT {
        for column in 0..WIDTH {
            let mut colour = smooth(&knots, row, column);
            let (x, y) = place(column, row);
            let wave = grain.2 * ((x * grain.0).sin() * (y * grain.1).cos());
            colour.iter_mut().for_each(|channel| *channel += wave);
            for mark in &distractors {
                let (x, y) = (x - mark[0], y - mark[1]);
                let ring = 0.012 - (x.hypot(y) - mark[2]).abs();
                let bar = (mark[2] - x.abs()).min(0.012 - y.abs());
                let cover = edge(if mark[6] < 0.5 { ring } else { bar });
                blend(&mut colour, [mark[3], mark[4], mark[5]], 0.7 * cover);
            }
            pixels.push(colour);
        }
    }
    pixels
}

/// The texture at a pixel, by bilinear interpolation between the knots.
fn smooth(knots: &[Rgb], row: usize, column: usize) -> Rgb {
    let along = |at: usize, size: usize| at as f32 / size as f32 * (KNOTS - 1) as f32;
    let (y, x) = (along(row, HEIGHT), along(column, WIDTH));
    let (top, left) = (y as usize, x as usize);
    let (fy, fx) = (y - top as f32, x - left as f32);
    std::array::from_fn(|channel| {
        let knot = |r: usize, c: usize| knots[r * KNOTS + c][channel];
        let upper = knot(top, left) * (1.0 - fx) + knot(top, left + 1) * fx;
        let lower = knot(top + 1, left) * (1.0 - fx) + knot(top + 1, left + 1) * fx;
        upper * (1.0 - fy) + lower * fy
    })
}
