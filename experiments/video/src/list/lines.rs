//! Lists with a video on each line: `path label`, or the path alone.

use super::place::{file_of, is_video};
use super::{Entry, Mistake, Parsed, Rules, shown};

/// What a line holds.
enum Line<'a> {
    /// A path and a number.
    Labelled(&'a str, i64),
    /// A path alone.
    Bare(&'a str),
    /// A path, and a label that is not a whole number.
    Misnamed(&'a str),
}

/// Parses a list. The label follows the last space, so a path may contain spaces. The list has no labels if
/// no line has one.
pub(super) fn parse(text: &str, rules: &Rules) -> Result<Parsed, Mistake> {
    let lines: Vec<(usize, &str, Line)> = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim_end()))
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| (number, line, kind_of(line)))
        .collect();
    refuse_raw_frames(&lines, rules)?;
    let labelled = lines.iter().any(|(_, _, kind)| matches!(kind, Line::Labelled(..)));
    let mut parsed = Parsed::default();
    for (number, line, kind) in &lines {
        match entry(*number, line, kind, labelled, rules) {
            Ok(entry) => parsed.entries.push((*number, entry)),
            Err(mistake) => parsed.mistakes.push(mistake),
        }
    }
    Ok(parsed)
}

fn kind_of(line: &str) -> Line<'_> {
    match line.rsplit_once([' ', '\t']) {
        Some((path, label)) => match label.parse() {
            Ok(label) => Line::Labelled(path.trim_end(), label),
            Err(_) if is_video(line) => Line::Bare(line),
            Err(_) => Line::Misnamed(label),
        },
        None => Line::Bare(line),
    }
}

fn entry(
    number: usize,
    line: &str,
    kind: &Line,
    labelled: bool,
    rules: &Rules,
) -> Result<Entry, Mistake> {
    let shown = shown(line);
    let (path, label) = match *kind {
        Line::Labelled(path, _) if several_numbers(path) => {
            let text = format!("`{shown}` has several numbers after the path; one label is read");
            return Err(Mistake::new(number, "several numbers", text));
        }
        Line::Labelled(path, label) => (path, rules.label(number, label, &shown)?),
        Line::Bare(path) if !labelled => (path, None),
        Line::Bare(_) => {
            let text = format!("expected `path label`, found `{shown}`; add the label, or -1");
            return Err(Mistake::new(number, "label missing", text));
        }
        Line::Misnamed(label) => {
            let text =
                format!("the label `{label}` of `{shown}` is not a whole number; correct it");
            return Err(Mistake::new(number, "label not a whole number", text));
        }
    };
    let path = rules.relative(number, path)?;
    Ok(Entry { path, label, elsewhere: vec![] })
}

/// Whether a path with a label already cut off is a video followed by more numbers.
fn several_numbers(path: &str) -> bool {
    let head = without_number(path);
    head.is_some_and(|mut head| {
        while let Some(shorter) = without_number(head) {
            head = shorter;
        }
        is_video(head) && !is_video(path)
    })
}

fn without_number(text: &str) -> Option<&str> {
    let (head, number) = text.rsplit_once([' ', '\t'])?;
    number.parse::<i64>().ok().map(|_| head.trim_end())
}

/// Fails if every line is `folder number label`, the form of mmaction2's lists of extracted frames, and
/// the first one does not name a file nevertheless.
fn refuse_raw_frames(lines: &[(usize, &str, Line)], rules: &Rules) -> Result<(), Mistake> {
    let Some((number, line, Line::Labelled(first, _))) = lines.first() else { return Ok(()) };
    let all = lines.iter().all(|(_, _, kind)| match kind {
        Line::Labelled(path, _) => without_number(path).is_some_and(|folder| !is_video(folder)),
        _ => false,
    });
    let entry = Entry { path: (*first).to_owned(), ..Entry::default() };
    if !all || file_of(rules.folder, &entry).is_some() {
        return Ok(());
    }
    let text = format!(
        "`{}` has the form of a list of extracted frames (folder, number of frames, label), and only \
         video files are decoded; give the list of the videos, such as …_val_list_videos.txt",
        shown(line)
    );
    Err(Mistake::new(*number, "raw frames", text))
}
