//! Draws a contact sheet of the built-in data set, with a row for each class and a column for each sampled
//! frame. `cargo run --release -p video --example mini_sheet > sheet.ppm`

use std::io::Write;

use video::mini::{self, CLASSES, HEIGHT, Part, WIDTH};

fn main() -> std::io::Result<()> {
    let videos: Vec<_> = (0..CLASSES.len()).map(|index| mini::frames(Part::Val, index)).collect();
    let mut out = std::io::stdout().lock();
    write!(out, "P6\n{} {}\n255\n", 16 * WIDTH, CLASSES.len() * HEIGHT)?;
    for frames in &videos {
        for row in 0..HEIGHT {
            for frame in frames.iter().step_by(4) {
                out.write_all(&frame.data[3 * WIDTH * row..][..3 * WIDTH])?;
            }
        }
    }
    Ok(())
}
