//! The answers for programs: the sentence that explains the verdict, and the command to run next.

use checkpoint::Source;
use compare::judge::SILENT;
use record::{ArrayState, Cause, DiffRecord, Layer, LayerVerdict, Verdict};
use spec::config::FrameSize;

use super::args::DiffArgs;
use super::plan::Plan;
use super::quantised::{COARSE, NOT_JUDGED};
use super::reconsider::OF_REFERENCE;
use super::remarks::CONTRADICTS;
use super::stored;
use crate::command_line::CommandLine;
use crate::flags::Participant;

/// Fills in `explanation` and `next`.
pub(super) fn complete(diff: &mut DiffRecord, plan: &Plan, args: &DiffArgs) {
    diff.explanation = explanation(diff);
    let command = CommandLine::new(diff.run.command.clone());
    diff.next = next(diff, plan, args, command).map(|command| command.with_program().in_words());
}

fn explanation(diff: &DiffRecord) -> Option<String> {
    match diff.verdict {
        Verdict::Pass => None,
        Verdict::Diverged => {
            let culprit = diff.culprit.as_ref()?;
            let place = format!("{}.", capital(&culprit.text));
            Some(match (&culprit.explanation, diff.cause) {
                (None, _) => place,
                // It is not this module that has to be mended.
                (Some(why), Some(Cause::Weights | Cause::Recording)) => format!("{why} {place}"),
                (Some(why), _) => format!("{place} {why}"),
            })
        }
        Verdict::Incomplete => Some(incomplete(diff)),
    }
}

fn incomplete(diff: &DiffRecord) -> String {
    let missing = diff.layers.iter().filter(|l| l.verdict == LayerVerdict::NotCompared);
    let missing: Vec<&str> = missing.map(|layer| layer.name.as_str()).collect();
    let arrays = |state: ArrayState| {
        let found = diff.ledger.iter().filter(|entry| entry.state == state);
        found.filter(|entry| state == ArrayState::Refused || entry.detail.is_none()).count()
    };
    let mut parts = vec![];
    if let [first, ..] = missing[..] {
        let compared = |l: &&Layer| l.inherited.is_some() && l.verdict != LayerVerdict::NotCompared;
        let compared = diff.layers.iter().filter(compared).count();
        parts.push(format!(
            "{compared} layers were compared and {} were not, of which the first is {first}",
            missing.len()
        ));
    }
    let unproven = diff
        .layers
        .iter()
        .find(|layer| layer.verdict == LayerVerdict::NotCompared && layer.inherited.is_some());
    parts.extend(
        unproven.and_then(|layer| Some(format!("{}: {}", layer.name, layer.note.as_ref()?))),
    );
    let counts = [
        (ArrayState::Refused, ["array was refused", "arrays were refused"]),
        (ArrayState::Unknown, ["array has an unknown name", "arrays have unknown names"]),
    ];
    for (state, [one, several]) in counts {
        match arrays(state) {
            0 => {}
            count => {
                let words = if count == 1 { one } else { several };
                let first = diff.ledger.iter().find(|entry| entry.state == state);
                let first = first.map_or(String::new(), |entry| match &entry.detail {
                    Some(why) => format!(" ({}: {why})", entry.array),
                    None => format!(" ({})", entry.array),
                });
                parts.push(format!("{count} {words}{first}"));
            }
        }
    }
    let starting =
        |start: &'static str| diff.remarks.iter().filter(move |text| text.starts_with(start));
    parts.extend(starting(NOT_JUDGED).cloned());
    let compared =
        (!parts.is_empty()).then(|| format!("Not everything was compared: {}.", parts.join("; ")));
    let contradictions =
        starting(CONTRADICTS).chain(starting(COARSE)).map(|text| format!("{}.", capital(text)));
    compared.into_iter().chain(contradictions).collect::<Vec<_>>().join(" ")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// The command to run next; `None` if nothing is left to do.
fn next(
    diff: &DiffRecord,
    plan: &Plan,
    args: &DiffArgs,
    command: CommandLine,
) -> Option<CommandLine> {
    match diff.verdict {
        Verdict::Diverged => Some(after_divergence(diff, plan, args, command)),
        Verdict::Incomplete => after_incomplete(diff, plan, args, command),
        Verdict::Pass => after_pass(diff, plan, args, command),
    }
}

/// The files that `next` names where a second dump, or a file that was exported at another size, shows more.
const SECOND: &str = "SECOND.npz";
const SECOND_ONNX: &str = "SECOND.onnx";

/// What `next` names where a quantised file needs a clip like those that it was calibrated on.
const CALIBRATION: &str = "CALIBRATION.mp4";

/// What `next` names where the weights are probably others.
const WEIGHTS: &str = "WEIGHTS.pth";

/// The second file that shows more than the candidate; None for candidates that run at any size.
fn second_of(plan: &Plan) -> Option<String> {
    match &plan.candidate {
        Participant::Onnx(_) => Some(format!("onnx:{SECOND_ONNX}")),
        _ => plan.recorded().then(|| format!("npz:{SECOND}")),
    }
}

/// Whether the candidate is the second file, after which nothing is left.
fn is_second(plan: &Plan) -> bool {
    let file = match &plan.candidate {
        Participant::Npz(path) | Participant::Onnx(path) => path.file_name(),
        Participant::Engine(_) | Participant::Python(_) => None,
    };
    file.is_some_and(|name| name == SECOND || name == SECOND_ONNX)
}

/// Whether the sides of a frame size such as `57x65` are odd.
fn is_odd(size: &str) -> bool {
    size.parse().is_ok_and(|FrameSize(height, width)| height % 2 == 1 && width % 2 == 1)
}

/// The smallest reproduction, if one layer has too much own error; else the comparison that tells more.
fn after_divergence(
    diff: &DiffRecord,
    plan: &Plan,
    args: &DiffArgs,
    command: CommandLine,
) -> CommandLine {
    let own = |l: &&Layer| l.verdict == LayerVerdict::Diverged && l.introduced.is_some();
    let layer = diff.layers.iter().find(own);
    let of_reference = diff.culprit.as_ref().is_some_and(|c| c.text.starts_with(OF_REFERENCE));
    match diff.cause {
        // Once the reference is made again.
        Some(Cause::Weights | Cause::Preprocessing) if of_reference => return command,
        Some(Cause::Weights) => {
            let why = diff.culprit.as_ref().and_then(|culprit| culprit.explanation.as_deref());
            return match why.and_then(stored::flag_of) {
                Some((flag, how)) => command.with(flag, how),
                None => command.with("--weights", WEIGHTS),
            };
        }
        Some(Cause::Preprocessing) if is_input(diff) => return command.without("--input"),
        Some(Cause::Quantisation) if plan.input.is_none() && !integer_kernels_differ(diff) => {
            return command.with("--input", CALIBRATION);
        }
        // The reference is what has to be mended.
        Some(Cause::Reference) if plan.reference.dump().is_some() => {
            return judging_the_reference(plan, command);
        }
        // Once it is recorded again.
        Some(Cause::Recording) if args.answers.repro.is_none() => return command,
        _ => {}
    }
    let only_edge = layer.is_none() && diff.edge.as_ref().is_some_and(|e| e.culprit.is_some());
    match (&args.answers.repro, layer) {
        (Some(folder), Some(_)) => {
            let check = folder.join("check.py").display().to_string();
            CommandLine::new(vec!["python3".to_owned(), check])
        }
        (None, Some(_)) => command.with("--repro", "repro"),
        _ if only_edge => {
            let edge = diff.edge.as_ref();
            let [height, width] = edge.map_or([0, 0], |edge| edge.size);
            let clips = edge.map_or(1, |edge| edge.clips).to_string();
            let command = command.with("--size", &format!("{height}x{width}")).without("--input");
            if clips == "1" { command } else { command.with("--batch-size", &clips) }
        }
        _ if layer.is_none() && integer_kernels_differ(diff) => {
            command.with("--runtime", "openvino")
        }
        // The same command, once the dump is recorded or the file is quantised again.
        _ if diff.culprit.is_some() && (plan.recorded() || diff.quantisation.is_some()) => command,
        _ => command.with("--clips", "8").without("--input"),
    }
}

/// The reference as the candidate, without the flags that are about the present candidate, and with the clip of this run.
fn judging_the_reference(plan: &Plan, command: CommandLine) -> CommandLine {
    let mut command = command.without("--reference");
    for flag in ["--inject", "--model-explorer", "--annotated-onnx"] {
        command = command.without(flag);
    }
    if let Some(dump) = plan.candidate.dump() {
        command = command.without("--map").without("--suggest-map");
        if plan.input.is_none() {
            command = command.with("--input", &dump.display().to_string());
        }
    }
    command.with("--candidate", &plan.reference.to_string())
}

/// Whether the clip itself is wrong.
fn is_input(diff: &DiffRecord) -> bool {
    diff.first_divergent.as_deref() == Some("input")
}

/// Whether every quantiser passes and the runtime computes something else than the file states.
fn integer_kernels_differ(diff: &DiffRecord) -> bool {
    diff.quantisation.as_ref().is_some_and(|found| {
        let pass = |q: &record::Quantiser| q.verdict != LayerVerdict::Diverged;
        let differ = |k: &record::IntegerKernels| k.verdict == LayerVerdict::Diverged;
        found.quantisers.iter().all(pass) && found.kernels.as_ref().is_some_and(differ)
    })
}

fn after_incomplete(
    diff: &DiffRecord,
    plan: &Plan,
    args: &DiffArgs,
    command: CommandLine,
) -> Option<CommandLine> {
    let unknown = diff.ledger.iter().any(|e| e.state == ArrayState::Unknown && e.detail.is_none());
    let silent = diff.layers.iter().find(|layer| {
        let note = layer.note.as_deref();
        layer.verdict == LayerVerdict::NotCompared && note == Some(SILENT)
    });
    if let (Some(first), false) = (silent, plan.recorded()) {
        let of_clip = matches!(plan.source, Source::Formula(_)) || first.name == "input";
        return Some(match of_clip {
            true => command.without("--input"),
            false => command.with("--weights", "formula:0"),
        });
    }
    match &plan.names.written {
        Some(map) if plan.names.open > 0 => {
            Some(command.without("--suggest-map").with("--map", &map.display().to_string()))
        }
        None if unknown && args.names.map.is_none() => {
            Some(command.with("--suggest-map", "names.map"))
        }
        _ if !args.layer.is_empty() => Some(command.without("--layer")),
        // A map has to be completed first.
        _ if unknown && plan.recorded() => Some(command),
        // No command would compare more: the candidate has to show more.
        _ => None,
    }
}

fn after_pass(
    diff: &DiffRecord,
    plan: &Plan,
    args: &DiffArgs,
    command: CommandLine,
) -> Option<CommandLine> {
    if !args.layer.is_empty() {
        return Some(command.without("--layer"));
    }
    // A first dump of odd frames leaves out mistakes as well.
    // A live model that cannot run at another size has said so.
    let cannot =
        matches!(plan.candidate, Participant::Python(_)) && plan.edge && diff.edge.is_none();
    let second =
        |size: &String| !cannot && (second_of(plan).is_none() || is_odd(size) || !is_second(plan));
    let untested =
        diff.not_exercised.iter().find(|m| !m.at_edge && m.try_size.as_ref().is_some_and(second));
    match untested.and_then(|mistake| mistake.try_size.as_ref()) {
        Some(size) => {
            let command = match second_of(plan) {
                Some(second) => command.with("--candidate", &second),
                None => command,
            };
            Some(command.with("--size", size).without("--input"))
        }
        None if !plan.recorded() && args.clips.clips.is_none() => {
            Some(command.without("--input").with("--clips", "8"))
        }
        None => None,
    }
}
