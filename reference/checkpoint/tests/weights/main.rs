//! Checkpoints of every format: valid ones are read bit for bit, invalid ones give an error of one
//! sentence.

mod cases;
mod damage;
mod fixtures;
mod formats;
mod hostile;
mod infer;
mod mistakes;
mod mutations;
mod people;
mod round_trip;
mod upstream;
mod writers;
