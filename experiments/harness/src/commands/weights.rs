//! placeholder
use anyhow::Result;
use crate::Outcome;
use crate::cli::WeightsCommand;
/// x
pub fn run(_: &WeightsCommand) -> Result<Outcome> { Ok(Outcome::Passed) }
