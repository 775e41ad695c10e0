//! The command line: the commands by name.

mod examples;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::error::ErrorKind::{
    DisplayHelpOnMissingArgumentOrSubcommand, InvalidValue, ValueValidation,
};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use record::Ended;

#[cfg(feature = "cuda")]
use crate::commands::gpu_check;
use crate::commands::{
    ablate, bench, diff, dump, eval, export, info, report, selftest, train, weights,
};
use crate::outcome::Outcome;
use crate::outputs::Outputs;
use crate::{failure, publish};

/// Compares implementations of SqueezeTime with each other, layer by layer.
///
/// Exit codes: 0 passed; 1 diverged, or not everything was compared; 2 wrong usage or another error; 75
/// stopped by a signal, where stderr names the command that goes on (eval, ablate, train); 130 Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "harness", version = env!("HARNESS_VERSION"), max_term_width = 100)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
    /// Print no progress and no notes on stderr; errors and results stay.
    // The order is stated, because a global flag would stand elsewhere in a build with fewer flags.
    #[arg(long, global = true, display_order = 998)]
    pub quiet: bool,
}

impl Cli {
    /// Reads the command line; ends the program for `--help` and wrong flags.
    pub fn read() -> Self {
        let read = Cli::described().try_get_matches().and_then(|m| Cli::from_arg_matches(&m));
        read.unwrap_or_else(|error| {
            let asked_for_help = !error.use_stderr();
            if asked_for_help || error.kind() == DisplayHelpOnMissingArgumentOrSubcommand {
                error.exit();
            }
            let why = files::printable(&in_short(&error));
            failure::leave(Ended::Error, &why, 2);
            stderr_line!("harness: {why}");
            std::process::exit(2)
        })
    }

    /// The command line with examples.
    fn described() -> clap::Command {
        examples::add(with_negative_numbers(Cli::command()), "")
    }
}

/// What is wrong with a command line, in one line: clap's message and tips, without the usage.
fn in_short(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut paragraphs = text.split("\n\n").map(|lines| {
        let words: Vec<&str> = lines.split_whitespace().collect();
        words.join(" ")
    });
    let first = paragraphs.next().unwrap_or_default();
    let tips = paragraphs.filter_map(|text| Some(format!("; {}", text.strip_prefix("tip: ")?)));
    let mut sentence = first.trim_start_matches("error: ").to_owned();
    sentence.extend(tips);
    if !matches!(error.kind(), InvalidValue | ValueValidation) {
        sentence += "; --help lists what there is";
    }
    sentence
}

/// Takes `-1` as a value, so that an error names the flag that it was given to.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let takes = |arg: clap::Arg| match arg.get_action().takes_values() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    };
    let below =
        |command: clap::Command, name: &String| command.mut_subcommand(name, with_negative_numbers);
    names.iter().fold(command.mut_args(takes), below)
}

/// The commands of `harness`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compare a candidate with a reference, layer by layer, and write a report.
    Diff(Box<diff::DiffArgs>),
    /// Write the activations of an engine to an npz file.
    Dump(dump::DumpArgs),
    /// Plant every known mistake at random places, and count how often it is detected, located and named.
    Selftest(selftest::SelftestArgs),
    /// Print the modules of a model with their shapes, parameters and multiply-accumulates.
    Info(info::InfoArgs),
    /// Evaluate engines on videos: their accuracy, and whether they agree.
    Eval(eval::EvalArgs),
    /// Take parts out of the network and measure what each part contributes.
    Ablate(ablate::AblateArgs),
    /// Train a small network on the built-in data set.
    Train(train::TrainArgs),
    /// Inspect checkpoints and convert them.
    #[command(subcommand)]
    Weights(weights::WeightsCommand),
    /// Measure latency and throughput, and compare them with other runtimes.
    Bench(bench::BenchArgs),
    /// Run one engine as a contestant of `bench`.
    #[command(hide = true)]
    BenchWorker(bench::WorkerArgs),
    /// Run every check of the engine cuda on a GPU, and write a record that can be published.
    #[cfg(feature = "cuda")]
    GpuCheck(gpu_check::GpuCheckArgs),
    /// Export the network for other runtimes.
    #[command(subcommand)]
    Export(export::ExportCommand),
    /// Make the reports of earlier runs again from their records.
    Report(report::ReportArgs),
    /// Print the JSON schema of the records.
    Schema,
    /// Print the completions of these commands for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages of these commands.
    Man {
        /// The folder to write into.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

impl Command {
    /// Runs the command, after it was tried whether its results can be written.
    pub fn run(&self) -> Result<Outcome> {
        self.outputs().check()?;
        match self {
            Command::Diff(args) => diff::run(args),
            Command::Dump(args) => dump::run(args),
            Command::Selftest(args) => selftest::run(args),
            Command::Info(args) => info::run(args),
            Command::Eval(args) => eval::run(args),
            Command::Ablate(args) => ablate::run(args),
            Command::Train(args) => train::run(args),
            Command::Weights(command) => weights::run(command),
            Command::Bench(args) => bench::run(args),
            Command::BenchWorker(args) => bench::work(args),
            #[cfg(feature = "cuda")]
            Command::GpuCheck(args) => gpu_check::run(args),
            Command::Export(command) => export::run(command),
            Command::Report(args) => report::run(args),
            Command::Schema => {
                publish::print(&serde_json::to_string_pretty(&record::schema())?);
                Ok(Outcome::Passed)
            }
            Command::Completions { shell } => {
                let mut script = vec![];
                clap_complete::generate(*shell, &mut Cli::described(), "harness", &mut script);
                publish::print(String::from_utf8_lossy(&script).trim_end());
                Ok(Outcome::Passed)
            }
            Command::Man { out } => {
                let failed = || format!("{}: cannot be written", out.display());
                std::fs::create_dir_all(out).with_context(failed)?;
                clap_mangen::generate_to(Cli::described(), out).with_context(failed)?;
                Ok(Outcome::Passed)
            }
        }
    }
    /// The places that the command will write to.
    fn outputs(&self) -> Outputs {
        match self {
            Command::Diff(args) => args.outputs(),
            Command::Dump(args) => Outputs::default().file("--out", Some(&args.out)),
            Command::Selftest(args) => Outputs::default().report(&args.out),
            Command::Eval(args) => Outputs::default().report_in(&args.report, args.out.as_ref()),
            Command::Ablate(args) => Outputs::default().report_in(&args.report, args.out.as_ref()),
            Command::Train(args) => Outputs::default().report_in(&args.report, args.out.as_ref()),
            Command::Weights(command) => Outputs::default().file("--out", command.out()),
            Command::Bench(args) => args.outputs(),
            #[cfg(feature = "cuda")]
            Command::GpuCheck(args) => Outputs::default().run(args.out.as_ref()),
            Command::Export(export::ExportCommand::Onnx(args)) => {
                Outputs::default().file("--out", Some(&args.out))
            }
            Command::Report(args) => args.outputs(),
            Command::Man { out } => Outputs::default().folder("--out", Some(out)),
            Command::Info(_)
            | Command::BenchWorker(_)
            | Command::Schema
            | Command::Completions { .. } => Outputs::default(),
        }
    }
}
