//! Strips of frames of the worst mistakes and of disagreements.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::named;
use crate::format::{count, short};
use crate::page::study::{Picture, Section, class, percent};
use record::{EvalRecord, Strip, StripReason, Video};

/// The worst mistakes of the first engine; `None` in old records.
pub(super) fn mistakes(eval: &EvalRecord) -> Option<Section> {
    let strips = eval.strips.as_ref()?;
    let engine = &eval.engines.first()?.engine;
    let pictures: Vec<Picture> = of(eval, StripReason::Mistake)
        .map(|(strip, video)| picture(strip, video, caption(eval, video)))
        .collect();
    let wrong = eval.videos.iter().filter(|video| is_wrong(video)).count();
    if wrong == 0 && strips.note.is_none() {
        return None;
    }
    let lead = format!(
        "{engine} gives {} a wrong class. Shown are those with the highest score of the wrong class, with \
         frames of the first clip from left to right.",
        count(wrong, "video")
    );
    let section = Section::new("The worst mistakes", &lead).notes(notes(eval));
    Some(Section { pictures, ..section })
}

/// What is missing, and how large the pictures are.
fn notes(eval: &EvalRecord) -> Vec<String> {
    let Some(strips) = &eval.strips else { return vec![] };
    let mut notes: Vec<String> = strips.note.iter().cloned().collect();
    let gone = strips.shown.iter().filter(|strip| strip.picture.is_empty()).count();
    if gone > 0 {
        notes.push(format!(
            "{} of {} are not next to the record, in the folder {}.",
            gone,
            count(strips.shown.len(), "picture"),
            Strip::FOLDER
        ));
    }
    let bytes: usize = strips.shown.iter().map(|strip| strip.picture.len()).sum();
    if bytes > 0 {
        notes.push(format!(
            "{} on this page, with {} KiB.",
            count(strips.shown.len() - gone, "strip"),
            bytes.div_ceil(1024)
        ));
    }
    notes
}

/// The pictures of disagreements; those of old records are in the record itself.
pub(super) fn disagreements(eval: &EvalRecord) -> Vec<Picture> {
    let caption_of = |video: &Video| {
        let found = eval.disagreements.iter().find(|d| d.path == video.path);
        found.map_or(String::new(), |d| format!("{} — {}", d.path, named(eval, d)))
    };
    let beside = of(eval, StripReason::Disagreement)
        .map(|(strip, video)| picture(strip, video, caption_of(video)));
    // A record may come from a stranger, so only embedded images are shown: nothing is loaded.
    let inside = |uri: &&String| uri.starts_with("data:image/jpeg;base64,");
    let old = eval.disagreements.iter().filter_map(|d| {
        Some(Picture {
            uri: d.frames.as_ref().filter(inside)?.clone(),
            text: format!("Frames of {}", d.path),
            caption: format!("{} — {}", d.path, named(eval, d)),
        })
    });
    beside.chain(old).collect()
}

/// The strips of one kind whose pictures are there, with their videos.
fn of(eval: &EvalRecord, why: StripReason) -> impl Iterator<Item = (&Strip, &Video)> {
    let all = eval.strips.iter().flat_map(|strips| &strips.shown);
    all.filter(move |strip| strip.why == why && !strip.picture.is_empty()).filter_map(|strip| {
        Some((strip, eval.videos.iter().find(|video| video.index == strip.index)?))
    })
}

fn is_wrong(video: &Video) -> bool {
    video.label.is_some() && video.says.first().is_some_and(|answer| !answer.right)
}

fn picture(strip: &Strip, video: &Video, caption: String) -> Picture {
    let data = STANDARD.encode(&strip.picture);
    Picture {
        uri: format!("data:image/jpeg;base64,{data}"),
        text: format!("Frames of {}", video.path),
        caption,
    }
}

/// Such as `clip 3.mp4 — push, named pull with a score of 97.1 %, push has 2.1 %`.
fn caption(eval: &EvalRecord, video: &Video) -> String {
    let name = |at: u64| class(&eval.classes, at as usize);
    let right = video.label.map_or(String::new(), name);
    let Some(answer) = video.says.first() else { return format!("{} — {right}", video.path) };
    let (top, score) = (answer.top.first(), answer.scores.first());
    match (top, score) {
        (Some(top), Some(score)) if score.is_finite() => format!(
            "{} — {right}, named {} with a score of {}; {right} has {}",
            video.path,
            name(*top),
            percent(*score),
            percent(answer.of_label)
        ),
        (_, score) => {
            let score = score.map_or("none".to_owned(), |score| short(*score));
            format!("{} — {right}; its highest score is {score}", video.path)
        }
    }
}
