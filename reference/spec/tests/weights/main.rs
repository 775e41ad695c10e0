//! Checkpoints of every format: what is right is read bit for bit, what is wrong is one sentence.

mod cases;
mod damage;
mod fixtures;
mod formats;
mod hostile;
mod mistakes;
mod mutations;
mod people;
mod round_trip;
mod upstream;
mod writers;
