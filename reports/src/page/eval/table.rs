//! The table of an evaluation: one row for each video and engine, in the order of the list. No column
//! depends on when or how fast the run was made.

use crate::table::{Column, column};
use record::{Answer, EvalRecord, Video};

/// The number of named classes that the table holds for each answer.
const CLASSES: usize = 5;

/// A video with the name of an engine and its answer; `None` if no engine answered.
type Row<'a> = (&'a Video, Option<(&'a str, &'a Answer)>);

/// The columns of the table.
pub(super) fn columns(eval: &EvalRecord) -> Vec<Column> {
    let rows: Vec<Row<'_>> = eval.videos.iter().flat_map(|video| rows(eval, video)).collect();
    let mut columns = vec![
        column("index", &rows, |(video, _)| video.index),
        column("path", &rows, |(video, _)| video.path.as_str()),
        column("label", &rows, |(video, _)| video.label),
        column("frames", &rows, |(video, _)| video.frames),
        column("error", &rows, |(video, _)| video.error.as_deref()),
        column("warning", &rows, |(video, _)| video.warning.as_deref()),
        column("engine", &rows, |(_, says)| says.map(|(engine, _)| engine)),
        column("right", &rows, |(video, says)| {
            says.filter(|_| video.label.is_some()).map(|(_, answer)| answer.right)
        }),
        column("margin", &rows, |(_, says)| says.map(|(_, answer)| answer.margin())),
        column("score_of_label", &rows, |(_, says)| says.map(|(_, answer)| answer.of_label)),
    ];
    for place in 0..CLASSES {
        let number = place + 1;
        columns.push(column(&format!("class{number}"), &rows, |(_, says)| {
            says.and_then(|(_, answer)| answer.top.get(place).copied())
        }));
        columns.push(column(&format!("score{number}"), &rows, |(_, says)| {
            says.and_then(|(_, answer)| answer.scores.get(place).copied())
        }));
    }
    columns
}

/// The rows of a video: one for each engine, or a single one without an answer.
fn rows<'a>(eval: &'a EvalRecord, video: &'a Video) -> Vec<Row<'a>> {
    let engines = eval.engines.iter().map(|score| score.engine.as_str());
    let answers: Vec<Row<'_>> =
        engines.zip(&video.says).map(|answer| (video, Some(answer))).collect();
    if answers.is_empty() { vec![(video, None)] } else { answers }
}
