//! Records of evaluations, trainings and ablations for the tests.

use record::*;

use super::{HOSTILE, run};

/// A picture of four frames.
const JPEG: &[u8] = include_bytes!("strip.jpg");

fn rate(hits: u64, of: u64) -> Rate {
    Rate { hits, of, low: 0.8, high: 0.9 }
}

/// Two engines, a disagreement, an undecodable file and a missing one, with markup in place of names.
pub fn eval() -> EvalRecord {
    let answer = |top: [u64; 2], right| Answer {
        top: top.into(),
        scores: vec![0.6, 0.4],
        of_label: 0.6,
        right,
        seconds: 0.01,
    };
    let video = |index, says, error| Video {
        index,
        path: format!("{HOSTILE}/{index}.mp4"),
        label: Some(1),
        frames: 61,
        says,
        error,
        transient: false,
        file: None,
        damage: None,
        warning: None,
        decord: None,
        decode_seconds: 0.02,
    };
    let bin = |at: f64| Bin { confidence: at, accuracy: at * 0.9, count: 3 };
    let score = |engine: &str| Score {
        engine: engine.to_owned(),
        top1: rate(17, 20),
        top5: rate(20, 20),
        mean_class: 0.85,
        confusion: vec![vec![9, 1], vec![2, 8]],
        calibration: [0.55, 0.95].map(bin).into(),
        calibration_error: f64::NAN,
        seconds_per_view: 0.003,
    };
    EvalRecord {
        verdict: Verdict::Diverged,
        dataset: "k400".to_owned(),
        mode: "val".to_owned(),
        protocol: "1 clip".to_owned(),
        order: "shuffled:1".to_owned(),
        classes: vec![HOSTILE.to_owned(), "b".to_owned()],
        manifest: Manifest {
            list: "list.txt".to_owned(),
            in_list: None,
            listed: 3,
            evaluated: 1,
            missing: vec![HOSTILE.to_owned()],
            undecodable: vec![("bad.mp4".to_owned(), HOSTILE.to_owned())],
            damaged: vec![(HOSTILE.to_owned(), "1 of 280 promised frames".to_owned())],
            damage_allowed: false,
            warned: vec![],
            decord: vec![DecordFile {
                path: HOSTILE.to_owned(),
                remark: DecordRemark {
                    why: HOSTILE.to_owned(),
                    evaluated: vec![59],
                    decord_takes: vec![60],
                },
            }],
            shard: Some("1/2".to_owned()),
            decoder: "ffmpeg 7".to_owned(),
            interrupted: true,
        },
        engines: vec![score("libtorch f32"), score("scalar f32")],
        disagreements: vec![Disagreement {
            path: HOSTILE.to_owned(),
            label: Some(1),
            named: [("scalar f32".to_owned(), 0)].into(),
            margin: 0.2,
            tie: false,
            frames: Some("https://example.org/picture.jpg".to_owned()),
        }],
        strips: Some(Strips {
            shown: vec![
                Strip {
                    index: 0,
                    why: StripReason::Mistake,
                    file: Strip::file_of(0),
                    picture: JPEG.into(),
                },
                Strip {
                    index: 1,
                    why: StripReason::Mistake,
                    file: HOSTILE.to_owned(),
                    picture: vec![],
                },
            ],
            note: Some(HOSTILE.to_owned()),
        }),
        tie: 1e-4,
        published: Some(Published { source: "the paper".to_owned(), top1: 71.64, top5: None }),
        speed: Some(Speed {
            videos: 2,
            views: 2,
            seconds: 1.0,
            parts: vec![Part {
                name: "decoder".to_owned(),
                threads: 2,
                seconds: 1.5,
                videos_per_second: 2.7,
            }],
            bound: "decoder".to_owned(),
        }),
        macs: Some(406_000_000),
        videos: vec![
            video(0, vec![answer([0, 1], false), answer([1, 0], true)], None),
            video(1, vec![], Some(HOSTILE.to_owned())),
        ],
        run: run("eval"),
    }
}

/// Three epochs; the loss of the second is NaN.
pub fn train() -> TrainRecord {
    let epoch = |epoch, loss| Epoch {
        epoch,
        rate: 0.05,
        loss,
        train: 0.5,
        val: rate(10 + epoch, 20),
        seconds: 6.0,
    };
    TrainRecord {
        dataset: "mini".to_owned(),
        settings: [(HOSTILE.to_owned(), "1".to_owned())].into(),
        epochs: vec![epoch(1, 2.3), epoch(2, f64::NAN), epoch(3, 1.0)],
        finished: false,
        run: run("train"),
    }
}

/// The unchanged network and a variant without one part, each trained with two seeds.
pub fn ablate() -> AblateRecord {
    let variant = |name: &str, mean, paired| Variant {
        name: name.to_owned(),
        accuracy: vec![rate(18, 20), rate(17, 20)],
        mean,
        interval: vec![mean - 0.3, mean + 0.3],
        paired,
        macs: 5_000_000,
        seconds_per_view: 0.001,
        checked: Some("pass".to_owned()),
    };
    let paired = Paired { lost: 4, won: 1, p: 0.375, by_class: vec![(4, 1), (0, 0)], drift: 0.4 };
    AblateRecord {
        question: Ablation::Retrained,
        dataset: "mini".to_owned(),
        classes: vec![HOSTILE.to_owned()],
        variants: vec![variant("as it is", 0.9, None), variant("tfc=off", 0.7, Some(paired))],
        videos: 20,
        run: run("ablate"),
    }
}
