//! Where and how a run was made, for its record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use record::{Git, Machine, Model as ModelRecord, Run};
use spec::Config;

use crate::command_line::CommandLine;
use crate::engines;
use crate::flags::DeviceName;
use crate::latest::RUNS;

/// The start of a run.
pub struct Started {
    clock: Instant,
    at: String,
}

impl Started {
    /// Starts the clock of a run.
    pub fn now() -> Self {
        let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        Started { clock: Instant::now(), at }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }

    /// A folder for a run of this command that does not exist yet, such as `runs/20261123-070102-diff`.
    pub fn folder(&self, command: &str) -> PathBuf {
        let stamp: String = self.at.chars().filter(|c| c.is_ascii_digit() || *c == 'T').collect();
        let base = format!("{}-{command}", stamp.replace('T', "-"));
        let candidates = std::iter::once(base.clone()).chain((2..).map(|n| format!("{base}-{n}")));
        let mut paths = candidates.map(|name| PathBuf::from(RUNS).join(name));
        paths.find(|path| !path.exists()).unwrap_or_else(|| PathBuf::from(RUNS).join(base))
    }

    /// The record's entry about the run; call it at the end of the run.
    pub fn finish(&self, config: &Config, sides: Sides) -> Run {
        Run {
            command: CommandLine::this().into_words(),
            git: git(),
            machine: Machine { gpu: engines::gpu::name(sides.device), ..machine() },
            versions: engines::versions(),
            started: self.at.clone(),
            seconds: self.seconds(),
            seeds: sides.seeds,
            candidate: sides.candidate,
            reference: sides.reference,
            yardstick: sides.yardstick,
            weights: sides.weights,
            input: sides.input,
            model: model(config, sides.batch),
        }
    }
}

/// What took part in a run, as the record names it.
pub struct Sides {
    /// Name of the candidate.
    pub candidate: String,
    /// Name of the reference; empty where there is none.
    pub reference: String,
    /// Name of the comparison run; empty where there is none.
    pub yardstick: String,
    /// Source of the weights.
    pub weights: String,
    /// Source of the clips or videos.
    pub input: String,
    /// Seeds by what they were used for.
    pub seeds: BTreeMap<String, u64>,
    /// Number of clips in the batch.
    pub batch: usize,
    /// The device of the engines `cuda` and `torch`.
    pub device: DeviceName,
}

/// The record's entry about the model.
pub fn model(config: &Config, batch: usize) -> ModelRecord {
    let mut more = BTreeMap::new();
    more.insert("batch_size".to_owned(), batch.into());
    let semantics = config.semantics;
    more.insert("tfc".to_owned(), semantics.tfc.into());
    more.insert("ioi".to_owned(), semantics.ioi.into());
    let pos_embed = serde_json::to_value(semantics.pos_embed).unwrap_or_default();
    more.insert("pos_embed".to_owned(), pos_embed);
    ModelRecord {
        depth: config.depth as u64,
        width: config.width,
        frames: config.frames as u64,
        size: [config.size.0 as u64, config.size.1 as u64],
        classes: config.classes as u64,
        pos_dim: config.pos_dim.iter().map(|&p| p as u64).collect(),
        more,
    }
}

/// The revision that this program was built from; `None` if that was no git checkout.
fn git() -> Option<Git> {
    let revision = env!("HARNESS_REVISION").to_owned();
    (!revision.is_empty()).then(|| Git { dirty: is_dirty(&revision, checkout()), revision })
}

/// Whether this program may hold changes that its revision does not: the checkout has some, or it is at another
/// revision now, so that nobody knows what it held when the program was built. Without the checkout, what the
/// build saw counts.
fn is_dirty(built_from: &str, checkout: Option<Git>) -> bool {
    match checkout {
        Some(now) => now.dirty || now.revision != built_from,
        None => env!("HARNESS_CHANGED") == "true",
    }
}

/// The checkout that the program was built from, as it is now.
fn checkout() -> Option<Git> {
    let ask = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(["-C", env!("CARGO_MANIFEST_DIR")])
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let revision = ask(&["rev-parse", "HEAD"])?;
    let dirty = ask(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty());
    Some(Git { revision, dirty })
}

/// The record's entry about this machine.
pub fn machine() -> Machine {
    let field = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?.to_owned();
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kib = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    // x86 calls them flags, Arm features.
    let flags = field("/proc/cpuinfo", "flags").or_else(|| field("/proc/cpuinfo", "Features"));
    Machine {
        cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into()),
        extensions: extensions(&flags.unwrap_or_default()),
        gpu: None,
        cores,
        memory_gib: (kib.unwrap_or(0.0) / (1024.0 * 1024.0) * 10.0).round() / 10.0,
        os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
    }
}

/// The vector and matrix extensions among the flags of a processor, in alphabetical order. The other flags
/// do not change what a kernel computes, or how fast.
fn extensions(flags: &str) -> Vec<String> {
    const KINDS: [&str; 9] = ["avx", "fma", "f16c", "amx", "asimd", "neon", "sve", "bf16", "i8mm"];
    let counts = |flag: &&str| KINDS.iter().any(|kind| flag.starts_with(kind));
    let found: BTreeSet<&str> = flags.split_whitespace().filter(counts).collect();
    found.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_only_clean_next_to_its_own_revision() {
        let at = |revision: &str, dirty| Some(Git { revision: revision.to_owned(), dirty });
        assert!(!is_dirty("a", at("a", false)));
        assert!(is_dirty("a", at("a", true)));
        assert!(is_dirty("a", at("b", false)), "built before the checkout moved on");
    }

    #[test]
    fn extensions_are_those_that_kernels_use() {
        let flags = "fpu sse2 smep sha_ni fma avx avx2 avx512f amx_tile amx_bf16 smap avx2";
        let wanted = ["amx_bf16", "amx_tile", "avx", "avx2", "avx512f", "fma"];
        assert_eq!(extensions(flags), wanted);
        assert_eq!(extensions("fp asimd evtstrm bf16"), ["asimd", "bf16"]);
        assert!(extensions("").is_empty());
    }
}
