//! Makes answers of logits, and computes the accuracy of answers.

use record::{Answer, Bin, Score, Video};

use super::stats;

/// The largest number of classes for which a confusion matrix is kept.
const MAX_CONFUSION: usize = 64;

/// The mean over views of the softmax of the logits [views, classes], in float64.
pub fn scores(logits: &[f32], classes: usize) -> Vec<f64> {
    let mut mean = vec![0.0; classes];
    let views = logits.len() / classes.max(1);
    for view in logits.chunks_exact(classes) {
        let most = view.iter().map(|&x| f64::from(x)).fold(f64::NEG_INFINITY, f64::max);
        let exps: Vec<f64> = view.iter().map(|&x| (f64::from(x) - most).exp()).collect();
        let sum: f64 = exps.iter().sum();
        mean.iter_mut().zip(exps).for_each(|(mean, e)| *mean += e / sum / views as f64);
    }
    mean
}

/// An engine's answer for a video: the five best classes. A NaN among the scores makes it wrong, and so
/// does a label that is not known; such a video does not count for the accuracy.
pub fn answer(scores: &[f64], label: Option<usize>, seconds: f64) -> Answer {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Of equal scores the lower class comes first, so that the order is deterministic.
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(5);
    let broken = scores.iter().any(|score| score.is_nan());
    Answer {
        top: order.iter().map(|&class| class as u64).collect(),
        scores: order.iter().map(|&class| scores[class]).collect(),
        of_label: label.and_then(|label| scores.get(label).copied()).unwrap_or(f64::NAN),
        right: !broken && label.is_some() && order.first() == label.as_ref(),
        seconds,
    }
}

/// The accuracy of the engine with the index `place`, over the videos that have a label and its answer.
pub fn score(engine: &str, place: usize, videos: &[Video], classes: usize, views: usize) -> Score {
    let answers: Vec<(usize, &Answer)> = videos
        .iter()
        .filter_map(|video| Some((video.label? as usize, video.says.get(place)?)))
        .collect();
    let count = |of: &dyn Fn(usize, &Answer) -> bool| {
        answers.iter().filter(|(label, answer)| of(*label, answer)).count() as u64
    };
    let all = answers.len() as u64;
    let broken = |answer: &Answer| answer.scores.iter().any(|score| score.is_nan());
    let among = |label: usize, a: &Answer| !broken(a) && a.top.contains(&(label as u64));
    let (calibration, calibration_error) = calibration(&answers);
    let times: Vec<f64> =
        videos.iter().filter_map(|video| Some(video.says.get(place)?.seconds)).collect();
    let seconds: f64 = times.iter().sum();
    Score {
        engine: engine.to_owned(),
        top1: stats::rate(count(&|_, answer| answer.right), all),
        top5: stats::rate(count(&among), all),
        mean_class: mean_class(&answers, classes),
        confusion: if classes <= MAX_CONFUSION { confusion(&answers, classes) } else { vec![] },
        calibration,
        calibration_error,
        seconds_per_view: seconds / (times.len() * views.max(1)) as f64,
    }
}

/// The mean of the accuracies of all classes that have videos.
fn mean_class(answers: &[(usize, &Answer)], classes: usize) -> f64 {
    let mut counts = vec![(0u64, 0u64); classes];
    for (label, answer) in answers {
        if let Some((hits, of)) = counts.get_mut(*label) {
            *hits += u64::from(answer.right);
            *of += 1;
        }
    }
    let shares: Vec<f64> = counts
        .iter()
        .filter(|(_, of)| *of > 0)
        .map(|(hits, of)| *hits as f64 / *of as f64)
        .collect();
    shares.iter().sum::<f64>() / shares.len() as f64
}

fn confusion(answers: &[(usize, &Answer)], classes: usize) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; classes]; classes];
    for (label, answer) in answers {
        if let Some(&named) = answer.top.first() {
            counts[*label][named as usize] += 1;
        }
    }
    counts
}

/// Confidence and accuracy in ten bins of confidence, and the expected calibration error; NaN without
/// answers.
fn calibration(answers: &[(usize, &Answer)]) -> (Vec<Bin>, f64) {
    let mut sums = [(0.0, 0u64, 0u64); 10];
    for (_, answer) in answers {
        let confidence = answer.scores.first().copied().unwrap_or(0.0);
        let bin = &mut sums[((confidence * 10.0) as usize).min(9)];
        bin.0 += confidence;
        bin.1 += u64::from(answer.right);
        bin.2 += 1;
    }
    let bins: Vec<Bin> = sums
        .iter()
        .map(|&(confidence, right, count)| {
            let n = count.max(1) as f64;
            Bin { confidence: confidence / n, accuracy: right as f64 / n, count }
        })
        .collect();
    let all = answers.len().max(1) as f64;
    let distance = |bin: &Bin| bin.count as f64 / all * (bin.confidence - bin.accuracy).abs();
    let error: f64 = bins.iter().map(distance).sum();
    (bins, if answers.is_empty() { f64::NAN } else { error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_the_mean_of_the_softmax() {
        let got = scores(&[0.0, 0.0, 1000.0, 0.0], 2);
        assert!((got[0] - 0.75).abs() < 1e-12 && (got[1] - 0.25).abs() < 1e-12, "{got:?}");
    }

    #[test]
    fn nan_is_never_right_and_ties_go_to_the_lower_class() {
        assert!(!answer(&[f64::NAN, 0.1], Some(0), 0.0).right);
        assert!(!answer(&scores(&[f32::NAN, 0.0, 1.0], 3), Some(0), 0.0).right);
        let tied = answer(&[0.5, 0.5], Some(0), 0.0);
        assert!(tied.right && tied.margin() == 0.0 && tied.top == [0, 1]);
        let unlabelled = answer(&[0.5, 0.5], None, 0.0);
        assert!(!unlabelled.right && unlabelled.of_label.is_nan());
    }
}
