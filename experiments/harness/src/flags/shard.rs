//! The flag `--shard`: a part of a list for one machine, given by hand or by the scheduler.

use std::fmt;
use std::str::FromStr;

/// One part of a list of videos, written `INDEX/COUNT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Index of the shard, in `1..=of`.
    pub number: usize,
    /// Number of shards.
    pub of: usize,
}

/// The shard of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardFlag {
    /// This one.
    Given(Shard),
    /// The one that the scheduler has set in the environment; the number of shards, if it is given here.
    Auto(Option<usize>),
}

/// Where a scheduler says which task this is.
struct Scheduler {
    /// The variable with the index of the task.
    index: &'static str,
    /// The variable with the lowest index, or that index if it is fixed.
    first: Result<&'static str, usize>,
    /// The variable with the number of tasks; where there is none, `--shard auto/COUNT` gives it.
    count: Option<&'static str>,
}

/// The variable with the number of shards for schedulers that do not tell it.
const COUNT: &str = "HARNESS_SHARDS";

/// The schedulers, the innermost first: HyperQueue often runs inside of a job of Slurm.
const SCHEDULERS: [Scheduler; 4] = [
    Scheduler { index: "HQ_TASK_ID", first: Err(1), count: None },
    Scheduler { index: "JOB_COMPLETION_INDEX", first: Err(0), count: None },
    Scheduler {
        index: "SLURM_ARRAY_TASK_ID",
        first: Ok("SLURM_ARRAY_TASK_MIN"),
        count: Some("SLURM_ARRAY_TASK_COUNT"),
    },
    Scheduler { index: "SLURM_PROCID", first: Err(0), count: Some("SLURM_NTASKS") },
];

impl ShardFlag {
    /// The shard, and where it was read from. `variable` returns a variable of the environment.
    ///
    /// # Errors
    /// What is missing or does not fit, as a sentence.
    pub fn resolve(
        self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(Shard, Option<String>), String> {
        let given = match self {
            ShardFlag::Given(shard) => return Ok((shard, None)),
            ShardFlag::Auto(count) => count,
        };
        let number = |name: &str| -> Result<Option<usize>, String> {
            let Some(text) = variable(name).filter(|text| !text.is_empty()) else {
                return Ok(None);
            };
            let number = text.trim().parse().map(Some);
            number.map_err(|_| format!("--shard auto: {name} is `{text}`, not a whole number"))
        };
        for Scheduler { index, first, count } in SCHEDULERS {
            let Some(at) = number(index)? else { continue };
            let first = match first {
                Ok(name) => number(name)?.unwrap_or(0),
                Err(first) => first,
            };
            let counted = match count {
                Some(name) => number(name)?,
                None => None,
            };
            let of = given.or(number(COUNT)?).or(counted).ok_or_else(|| {
                format!(
                    "--shard auto: {index} is {at}, but the number of shards is not known; give it \
                     with --shard auto/COUNT or in {COUNT}"
                )
            })?;
            let number = (at + 1).checked_sub(first).filter(|number| (1..=of).contains(number));
            let number = number.ok_or_else(|| {
                let last = (first + of).saturating_sub(1);
                format!(
                    "--shard auto: {index} is {at}, which is not one of {of} shards; number the tasks \
                     from {first} to {last} without gaps"
                )
            })?;
            return Ok((Shard { number, of }, Some(format!("{index}={at}"))));
        }
        let known: Vec<&str> = SCHEDULERS.iter().map(|scheduler| scheduler.index).collect();
        Err(format!(
            "--shard auto: no scheduler has set {}; give the shard as INDEX/COUNT",
            known.join(", ")
        ))
    }
}

impl FromStr for ShardFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a shard; write INDEX/COUNT, from 1/COUNT to COUNT/COUNT, such as 1/4, \
                 or auto, or auto/COUNT"
            )
        };
        match text.split_once('/') {
            None if text == "auto" => Ok(ShardFlag::Auto(None)),
            Some(("auto", of)) => {
                let of = of.parse().ok().filter(|of| *of > 0);
                Ok(ShardFlag::Auto(Some(of.ok_or_else(wrong)?)))
            }
            Some((number, of)) => match (number.parse(), of.parse()) {
                (Ok(number), Ok(of)) if 1 <= number && number <= of => {
                    Ok(ShardFlag::Given(Shard { number, of }))
                }
                _ => Err(wrong()),
            },
            None => Err(wrong()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(flag: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let of = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        flag.parse::<ShardFlag>()?.resolve(of).map(|(shard, _)| shard.to_string())
    }

    #[test]
    fn schedulers_are_recognised() {
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_MIN", "5"),
            ("SLURM_ARRAY_TASK_COUNT", "8"),
            ("SLURM_PROCID", "0"),
            ("SLURM_NTASKS", "1"),
        ];
        assert_eq!(auto("auto", &slurm).unwrap(), "3/8");
        let inside = [&slurm[..], &[("HQ_TASK_ID", "2")]].concat();
        assert_eq!(auto("auto/4", &inside).unwrap(), "2/4");
        let kubernetes = [("JOB_COMPLETION_INDEX", "0"), ("HARNESS_SHARDS", "3")];
        assert_eq!(auto("auto", &kubernetes).unwrap(), "1/3");
        let srun = [("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2")];
        assert_eq!(auto("auto", &srun).unwrap(), "2/2");
        assert_eq!(auto("2/5", &slurm).unwrap(), "2/5");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let gaps = [
            ("SLURM_ARRAY_TASK_ID", "9"),
            ("SLURM_ARRAY_TASK_MIN", "1"),
            ("SLURM_ARRAY_TASK_COUNT", "3"),
        ];
        for (flag, variables, word) in [
            ("auto", &gaps[..], "without gaps"),
            ("auto/4", &[("HQ_TASK_ID", "0")], "from 1 to 4"),
            ("auto", &[("HQ_TASK_ID", "1")], "HARNESS_SHARDS"),
            ("auto", &[("HQ_TASK_ID", "one")], "not a whole number"),
            ("auto", &[], "no scheduler"),
            ("auto/0", &[], "is not a shard"),
            ("0/4", &[], "is not a shard"),
        ] {
            let why = auto(flag, variables).unwrap_err();
            assert!(why.contains(word), "{flag}: {why}");
        }
    }
}
