//! Lists with commas: the CSV in which Kinetics is published, and `path,label`.

use std::collections::BTreeSet;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::{Entry, Mistake, Parsed, Rules, shown};

/// The meaning of the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Kinetics: parts of videos of YouTube, with the names of their classes.
    Kinetics,
    /// A path and a label, with the names of the columns in the first line.
    Named { path: usize, label: Option<usize> },
    /// A path and, in the last column, a label.
    Plain,
}

/// The form of a list, from its first line; `None` if it is not one with commas.
pub(super) fn form_of(first: &str) -> Option<Form> {
    let names: Vec<String> =
        first.split(',').map(|name| name.trim().trim_matches('"').to_ascii_lowercase()).collect();
    let column = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&name.as_str()));
    if column(&["youtube_id"]).is_some() {
        return Some(Form::Kinetics);
    }
    let path = column(&["path", "video", "video_path", "file", "filename", "name", "clip"]);
    let label = column(&["label", "class", "label_id", "class_id", "target"]);
    match (path, label) {
        (Some(path), label) if names.len() > 1 => return Some(Form::Named { path, label }),
        _ => {}
    }
    let (_, last) = first.rsplit_once(',')?;
    last.trim().trim_matches('"').parse::<i64>().is_ok().then_some(Form::Plain)
}

pub(super) fn parse(text: &str, form: Form, rules: &Rules) -> Result<Parsed, Mistake> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|why| {
            let line = why.position().map_or(1, |at| at.line() as usize);
            Mistake::new(line, "not CSV", format!("this row cannot be read as CSV ({why})"))
        })?;
        let line = row.position().map_or(1, |at| at.line() as usize);
        rows.push((line, row));
    }
    match form {
        Form::Kinetics => kinetics(&rows, rules),
        Form::Named { path, label } => {
            Ok(pairs(rows.get(1..).unwrap_or_default(), rules, |_| (path, label)))
        }
        Form::Plain => Ok(pairs(&rows, rules, |row| (0, Some(row.len().saturating_sub(1))))),
    }
}

/// Rows of a path and a label, whose columns `columns` gives for each row.
fn pairs(
    rows: &[(usize, StringRecord)],
    rules: &Rules,
    columns: impl Fn(&StringRecord) -> (usize, Option<usize>),
) -> Parsed {
    let mut parsed = Parsed::default();
    for (line, row) in rows {
        let (path, label) = columns(row);
        match pair(*line, row, path, label, rules) {
            Ok(entry) => parsed.entries.push((*line, entry)),
            Err(mistake) => parsed.mistakes.push(mistake),
        }
    }
    parsed
}

fn pair(
    line: usize,
    row: &StringRecord,
    path: usize,
    label: Option<usize>,
    rules: &Rules,
) -> Result<Entry, Mistake> {
    let all = shown(&row.iter().collect::<Vec<_>>().join(","));
    let missing = |what: &'static str| {
        Mistake::new(line, what, format!("expected a path and a label, found `{all}`; add it"))
    };
    let name = row.get(path).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| missing("path missing"))?;
    let label = match label {
        None => None,
        Some(column) if column == path => return Err(missing("label missing")),
        Some(column) => {
            let text = row.get(column).filter(|text| !text.is_empty());
            let text = text.ok_or_else(|| missing("label missing"))?;
            let number = text.parse().map_err(|_| {
                let text = format!(
                    "the label `{}` of `{all}` is not a whole number; correct it",
                    shown(text)
                );
                Mistake::new(line, "label not a whole number", text)
            })?;
            rules.label(line, number, &all)?
        }
    };
    Ok(Entry { path: rules.relative(line, name)?, label, elsewhere: vec![] })
}

/// The CSV of Kinetics. A clip has the name that its downloaders give it, `ID_000001_000011.mp4`, and may
/// be in a folder with the name of its class.
fn kinetics(rows: &[(usize, StringRecord)], rules: &Rules) -> Result<Parsed, Mistake> {
    let Some(((header, names), rows)) = rows.split_first() else { return Ok(Parsed::default()) };
    let column = |wanted: &str| names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
    let required = |wanted: &'static str| {
        column(wanted).ok_or_else(|| {
            let text = format!("the CSV of Kinetics has a column {wanted}, and this has none");
            Mistake::new(*header, "column missing", text)
        })
    };
    let (id, start, end) =
        (required("youtube_id")?, required("time_start")?, required("time_end")?);
    let label = column("label");
    if let Some(column) = label {
        let unnamed = |(_, row): &&(usize, StringRecord)| row.get(column).is_none_or(str::is_empty);
        // Its absence would shift the numbers of all classes behind it.
        if let Some((line, row)) = rows.iter().find(unnamed) {
            let all = shown(&row.iter().collect::<Vec<_>>().join(","));
            let text = format!("the row `{all}` has no class; add it, or leave out the row");
            return Err(Mistake::new(*line, "label missing", text));
        }
    }
    let classes = match label {
        Some(label) => class_names(*header, rows, label, rules)?,
        None => vec![],
    };
    let mut parsed = Parsed::default();
    if label.is_some() {
        parsed.remarks.push(
            "the classes of the CSV were numbered in alphabetical order, as mmaction2 does"
                .to_owned(),
        );
    }
    for (line, row) in rows {
        let class = label.and_then(|column| row.get(column)).unwrap_or("");
        match clip(*line, row, [id, start, end]) {
            Ok(name) => parsed.entries.push((
                *line,
                Entry {
                    label: classes.iter().position(|known| known == class),
                    elsewhere: below_its_class(class, &name),
                    path: name,
                },
            )),
            Err(mistake) => parsed.mistakes.push(mistake),
        }
    }
    Ok(parsed)
}

/// The names of the classes in alphabetical order, which is that of their indexes if all are there.
fn class_names(
    header: usize,
    rows: &[(usize, StringRecord)],
    label: usize,
    rules: &Rules,
) -> Result<Vec<String>, Mistake> {
    let names: BTreeSet<&str> = rows.iter().filter_map(|(_, row)| row.get(label)).collect();
    if names.len() == rules.classes {
        return Ok(names.into_iter().map(str::to_owned).collect());
    }
    let text = format!(
        "this CSV names {} classes and the model has {} (--classes), so the classes cannot be numbered; \
         give the whole CSV, a list of `path label`, or the CSV without the column label to measure \
         agreement only",
        names.len(),
        rules.classes
    );
    Err(Mistake::new(header, "classes missing", text))
}

/// The name of the file of a clip, from its columns: video, first second, last second.
fn clip(line: usize, row: &StringRecord, columns: [usize; 3]) -> Result<String, Mistake> {
    let all = shown(&row.iter().collect::<Vec<_>>().join(","));
    let [id, start, end] = columns.map(|column| row.get(column).unwrap_or(""));
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        let text = format!("`{}` in `{all}` is not the identifier of a video", shown(id));
        return Err(Mistake::new(line, "invalid youtube_id", text));
    }
    let second = |text: &str| {
        let number = text.parse::<f64>().ok().filter(|s| (0.0..1e6).contains(s));
        number.map(|seconds| seconds as u64).ok_or_else(|| {
            let text = format!("the time `{}` in `{all}` is not a number of seconds", shown(text));
            Mistake::new(line, "invalid time", text)
        })
    };
    Ok(format!("{id}_{:06}_{:06}.mp4", second(start)?, second(end)?))
}

/// Where downloaders put a clip: below the name of its class, with spaces or with underscores.
fn below_its_class(class: &str, name: &str) -> Vec<String> {
    let plain = !class.is_empty() && !class.contains(['/', '\\']) && !class.starts_with('.');
    let folders = [class.to_owned(), class.replace(' ', "_")];
    let folders = folders.into_iter().filter(|_| plain);
    folders.map(|folder| format!("{folder}/{name}")).collect()
}
