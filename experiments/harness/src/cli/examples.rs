//! The examples at the end of every help, as data: a test parses each of them.

use clap::Command;
use compare::faults::Fault;

/// Examples by the path of the command. A line begins with `harness`; what follows `#` says what it does.
pub(super) const EXAMPLES: [(&str, &[&str]); 17] = [
    (
        "diff",
        &[
            "harness diff                                          # the default model",
            "harness diff --candidate onnx:port.onnx --weights model.pth --html report.html",
            "harness diff --candidate cpu --depth 18 --layer layer3,head --inject missing-gate@ctl3",
            "harness diff --candidate python:port.py:make_model --weights model.pth --layout nthwc",
        ],
    ),
    ("dump", &["harness dump --engine scalar --weights model.pth --input clip.mp4 --out dump.npz"]),
    (
        "selftest",
        &[
            "harness selftest --depth 18 --only missing-gate,eps",
            "harness selftest --null 100                           # false alarms of correct engines",
        ],
    ),
    ("info", &["harness info --depth 18 --layer layer1,head"]),
    (
        "eval",
        &[
            "harness eval mini                                     # needs no data and no weights",
            "harness eval k400 --data videos --list val.txt --weights model.pth --out run",
            "harness eval mini --engine cpu,cpu:bf16,onnx:model.onnx",
            "harness eval k400 --merge part1 part2 --data videos --list val.txt",
        ],
    ),
    (
        "ablate",
        &[
            "harness ablate --limit 100",
            "harness ablate --set tfc=off,ioi=off,tfc=off+ioi=off --retrain 3 --out run",
        ],
    ),
    (
        "train",
        &[
            "harness train mini --epochs 60 --out run",
            "harness train mini --epochs 60 --out run     # goes on there after Ctrl-C",
        ],
    ),
    ("weights", &["harness weights inspect model.pth"]),
    (
        "weights inspect",
        &[
            "harness weights inspect model.pth                     # depth, width, … are inferred",
            "harness weights inspect model.pth::state_dict_ema     # one of several sets",
        ],
    ),
    ("weights convert", &["harness weights convert model.pth --out model.safetensors"]),
    (
        "bench",
        &[
            "harness bench --engines cpu,torch --threads 1 --batch 1,8 --save-baseline main",
            "harness bench --engines cpu,torch --threads 1 --batch 1,8 --baseline main",
        ],
    ),
    (
        "gpu-check",
        &[
            "harness gpu-check --quick",
            "harness gpu-check --rehearse                          # without a GPU",
        ],
    ),
    ("export", &["harness export onnx --weights model.pth --out model.onnx"]),
    (
        "export onnx",
        &[
            "harness export onnx --weights model.pth --out model.onnx --opset 17 --softmax",
            "harness export onnx --weights model.pth --out int8.onnx --precision int8 --calibrate videos",
        ],
    ),
    (
        "report",
        &[
            "harness report runs/latest",
            "harness report --compare runs/before runs/after --out pages",
        ],
    ),
    ("completions", &["harness completions bash"]),
    ("man", &["harness man --out man"]),
];

/// Adds the examples to a command and those below it, after what stands there already.
pub(super) fn add(command: Command, path: &str) -> Command {
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path} {name}"),
    };
    let full = names.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |inner| add(inner, &below(name)))
    });
    let Some((_, lines)) = EXAMPLES.iter().find(|(known, _)| *known == path) else { return full };
    let mut parts: Vec<String> =
        full.get_after_help().map(ToString::to_string).into_iter().collect();
    if matches!(path, "diff" | "dump") {
        parts.push(faults());
    }
    let title = if lines.len() == 1 { "Example" } else { "Examples" };
    parts.push(format!("{title}:\n  {}", lines.join("\n  ")));
    full.after_help(parts.join("\n\n"))
}

/// The names of all faults.
fn faults() -> String {
    let mut words: Vec<&str> = Fault::ALL.iter().map(|fault| fault.word).collect();
    words.sort_unstable();
    words.dedup();
    format!("Faults for --inject: {}.", words.join(", "))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::Cli;
    use super::*;

    #[test]
    fn every_example_parses_as_the_command_whose_help_shows_it() {
        for (path, lines) in EXAMPLES {
            assert!((1..=4).contains(&lines.len()), "{path}");
            for line in lines {
                assert!(line.chars().count() <= 96, "{line}");
                let words = line.split('#').next().unwrap_or_default().split_whitespace();
                let words: Vec<&str> = words.collect();
                assert!(words.join(" ").starts_with(&format!("harness {path}")), "{path}: {line}");
                if cfg!(feature = "cuda") || path != "gpu-check" {
                    let parsed = Cli::command().try_get_matches_from(&words);
                    assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                }
            }
        }
    }

    #[test]
    fn every_help_has_an_example() {
        fn check(command: &Command, path: &str) {
            for inner in command.get_subcommands().filter(|c| !c.is_hide_set()) {
                let path = format!("{path} {}", inner.get_name()).trim().to_owned();
                let help = inner.get_after_help().map(ToString::to_string).unwrap_or_default();
                // `schema` has no flags.
                assert!(help.contains("Example") || path == "schema", "{path}");
                check(inner, &path);
            }
        }
        let command = add(Cli::command(), "");
        check(&command, "");
        let diff = command.find_subcommand("diff").and_then(Command::get_after_help);
        let help = diff.unwrap().to_string();
        assert!(Fault::ALL.iter().all(|fault| help.contains(fault.word)), "{help}");
    }
}
