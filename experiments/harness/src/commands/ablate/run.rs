//! `harness ablate`: measures what each part of the network contributes.
//!
//! A run answers one of two questions. *Knock-out*: how good are trained weights when a part is taken out?
//! *Retrained*: how good is the network when it is trained without the part, with several seeds?

use std::path::Path;

use anyhow::{Result, bail};
use checkpoint::Weights;
use record::Record;
use record::{AblateRecord, Ablation, Paired, Rate, Variant};
use spec::{Config, Model, Precision, relative_l2};
use video::VideoError;
use video::dataset::Dataset;

use super::args::AblateArgs;
use super::table::table;
use crate::engines::{self, Device};
use crate::eval::network::{config_of, model_and_weights, weights_in_words};
use crate::eval::pipeline::{self, NamedEngine, Ran};
use crate::eval::source::Videos;
use crate::eval::stats;
use crate::flags::{EngineName, InputSource};
use crate::machine::{Sides, Started};
use crate::outcome::Outcome;
use crate::publish;
use crate::{input, models, stop};
use compare::{Comparison, Side};

/// The name of the variant with all parts, which the others are compared with.
const BASE: &str = "as it is";
/// The default variants.
const PARTS: [&str; 5] =
    ["tfc=off", "ioi=off", "pos_embed=off", "align_corners=off", "pos_embed=flax"];

/// Evaluates every variant on the same videos.
pub fn run(args: &AblateArgs) -> Result<Outcome> {
    let started = Started::now();
    stop::gently("no variant is complete, and the same command starts again");
    let device = engines::open_device(&args.on)?;
    let base = config_of(args.dataset, args.videos.protocol);
    let mut flags = models::completed_for_data(&args.model, args.weights.as_ref(), &base);
    let asked = std::mem::take(&mut flags.set);
    let base = flags.over(base)?;
    let variants = variants(&base, &asked)?;
    let videos = Videos::open(args.dataset, &args.videos, &base, args.model.counting(), None)?;
    if videos.wanted.iter().any(|&place| videos.entries[place].label.is_none()) {
        bail!("{}: some videos have no label, and ablate measures accuracy; add them", videos.list);
    }
    let folder = args.out.clone().unwrap_or_else(|| started.folder("ablate"));
    let study = Study { args, device, videos: &videos, variants: &variants, base: &base };
    let (question, rows, weights) = match args.retrain {
        0 => (Ablation::KnockOut, study.knock_out()?, weights_in_words(args.weights.as_ref())),
        seeds => (
            Ablation::Retrained,
            study.retrained(seeds, &folder)?,
            format!("trained here, seeds 0 to {}", seeds - 1),
        ),
    };
    let sides = Sides {
        candidate: format!("{} f32 on {}", EngineName::REFERENCE, args.on.device),
        reference: String::new(),
        yardstick: String::new(),
        weights,
        input: videos.list.clone(),
        seeds: [("videos".to_owned(), video::mini::SEED)].into(),
        batch: 1,
        device: args.on.device,
    };
    let record = AblateRecord {
        question,
        dataset: videos.dataset.to_string(),
        classes: match args.dataset {
            Dataset::Mini => video::mini::CLASSES.map(str::to_owned).to_vec(),
            _ => vec![],
        },
        videos: rows.first().and_then(|row| Some(row.accuracy.first()?.of)).unwrap_or(0),
        variants: rows,
        run: started.finish(&base, sides),
    };
    let text = table(&record);
    publish::answer(&Record::Ablate(Box::new(record)), &text, &folder, &args.report)?;
    Ok(Outcome::Passed)
}

/// The variants by name, [`BASE`] first. `tfc=off+ioi=off` is one variant without both parts.
fn variants(base: &Config, asked: &[String]) -> Result<Vec<(String, Config)>> {
    let parts: Vec<String> = match asked.is_empty() {
        true => PARTS.map(str::to_owned).to_vec(),
        false => asked.to_vec(),
    };
    let mut all = vec![(BASE.to_owned(), base.clone())];
    for part in parts {
        let mut config = base.clone();
        let settings: Vec<&str> = part.split('+').collect();
        for (at, setting) in settings.iter().enumerate() {
            let name = |setting: &str| setting.split('=').next().map(str::to_owned);
            if settings[..at].iter().any(|other| name(other) == name(setting)) {
                bail!("--set {part}: it sets one part twice; give each part once");
            }
            config.semantics.set(setting)?;
        }
        if all.iter().any(|(name, _)| *name == part) {
            bail!("--set {part}: this variant is given twice; give each one once");
        }
        all.push((part, config));
    }
    Ok(all)
}

/// The parts of a run that all variants share.
struct Study<'a> {
    args: &'a AblateArgs,
    device: Device,
    videos: &'a Videos,
    variants: &'a [(String, Config)],
    base: &'a Config,
}

/// The answers of one network, one for each video, in the order of the list; and the seconds in all.
#[derive(Default, Clone)]
struct Answers {
    right: Vec<bool>,
    logits: Vec<Vec<f32>>,
    labels: Vec<usize>,
    seconds: f64,
}

impl Answers {
    fn rate(&self) -> Rate {
        stats::rate(
            self.right.iter().filter(|right| **right).count() as u64,
            self.right.len() as u64,
        )
    }
}

impl Study<'_> {
    fn knock_out(&self) -> Result<Vec<Variant>> {
        let (_, weights) =
            model_and_weights(self.args.dataset, self.base, self.args.weights.as_ref())?;
        let networks: Vec<_> =
            self.variants.iter().map(|(_, config)| (config.clone(), weights.clone())).collect();
        let answers = self.answers(&networks)?;
        let mut rows = Vec::new();
        for ((name, config), own) in self.variants.iter().zip(&answers) {
            let paired = (name != BASE)
                .then(|| paired(&answers[..1], std::slice::from_ref(own), self.base.classes));
            let checked = Some(self.checked(config, &weights)?);
            rows.push(self.row(name, config, std::slice::from_ref(own), paired, checked)?);
        }
        Ok(rows)
    }

    #[cfg(not(feature = "libtorch"))]
    fn retrained(&self, _seeds: u64, _folder: &Path) -> Result<Vec<Variant>> {
        bail!(
            "--retrain: this harness was built without libtorch, which training needs; build \
             it with the default features"
        )
    }

    #[cfg(feature = "libtorch")]
    fn retrained(&self, seeds: u64, folder: &Path) -> Result<Vec<Variant>> {
        use crate::command_line::CommandLine;
        use crate::flags::MINI_FOLDER;
        use crate::train;
        if self.args.dataset != Dataset::Mini {
            bail!("--retrain: the harness can train only on mini; leave out --retrain or use mini");
        }
        let data = self.args.videos.data.clone().unwrap_or_else(|| MINI_FOLDER.into());
        let clips = train::Videos::load(&self.videos.ffmpeg, &data, self.args.train_videos)?;
        let again = CommandLine::this().with("--out", &folder.display().to_string()).in_words();
        let kept = format!("the finished epochs are kept, and this goes on: {again}");
        let mut rows: Vec<Variant> = Vec::new();
        let mut base: Vec<Answers> = Vec::new();
        for (name, config) in self.variants {
            let mut networks = Vec::new();
            for seed in 0..seeds {
                let settings = train::Settings {
                    config: config.clone(),
                    epochs: self.args.epochs,
                    batch: 32,
                    rate: 0.05,
                    warm_up: 2.0,
                    seed,
                    videos: self.args.train_videos,
                };
                announce!("training {name}, seed {seed}");
                let place = folder.join(format!("{name}-{seed}").replace([' ', '='], "_"));
                let trained = train::train(&settings, &clips, self.device, &place, &kept)?;
                if !trained.finished {
                    return Err(VideoError::Stopped.into());
                }
                networks.push((config.clone(), trained.weights));
            }
            let answers = self.answers(&networks)?;
            let against = (name != BASE).then(|| paired(&base, &answers, self.base.classes));
            rows.push(self.row(name, config, &answers, against, None)?);
            if name == BASE {
                base = answers;
            }
        }
        Ok(rows)
    }

    /// Runs every network on the same decoded views.
    fn answers(&self, networks: &[(Config, Weights)]) -> Result<Vec<Answers>> {
        let engine = EngineName::REFERENCE;
        let mut engines = Vec::new();
        for (config, weights) in networks {
            let model = Model::new(config.clone())?;
            let engine = engines::load(engine, model, weights, Precision::F32, self.device)?;
            engines.push(NamedEngine::new(String::new(), engine));
        }
        let mut seen = Vec::new();
        let (videos, batch) = (self.videos, self.args.model.batch_size);
        let classes = self.base.classes;
        let Ran { whole, .. } =
            pipeline::run(videos, &videos.wanted, &mut engines, batch, classes, &mut |one| {
                match &one.video.error {
                    Some(why) => announce!("{}: {why}", files::printable(&one.video.path)),
                    None => seen.push((one.video, one.logits)),
                }
                Ok(())
            })?;
        if !whole {
            return Err(VideoError::Stopped.into());
        }
        if seen.is_empty() {
            bail!("none of the videos could be decoded; check --data");
        }
        seen.sort_by_key(|(video, _)| video.index);
        let mut answers = vec![Answers::default(); networks.len()];
        for (video, logits) in seen {
            for ((own, says), logits) in answers.iter_mut().zip(&video.says).zip(logits) {
                own.right.push(says.right);
                own.seconds += says.seconds;
                own.logits.push(logits);
                own.labels.extend(video.label.map(|label| label as usize));
            }
        }
        Ok(answers)
    }

    fn row(
        &self,
        name: &str,
        config: &Config,
        networks: &[Answers],
        paired: Option<Paired>,
        checked: Option<String>,
    ) -> Result<Variant> {
        let accuracy: Vec<Rate> = networks.iter().map(Answers::rate).collect();
        let shares: Vec<f64> = accuracy.iter().map(Rate::share).collect();
        let (mean, over_seeds) = stats::mean(&shares);
        let interval = match accuracy[..] {
            [one] => vec![one.low, one.high],
            // Student's interval may reach beyond the possible accuracies, 0 to 1.
            _ => over_seeds.map(|end| end.clamp(0.0, 1.0)).to_vec(),
        };
        let views = (self.videos.protocol.views() * networks.len()) as f64;
        let seconds: f64 = networks.iter().map(|n| n.seconds / n.right.len() as f64).sum();
        Ok(Variant {
            name: name.to_owned(),
            accuracy,
            mean,
            interval,
            paired,
            macs: macs(&Model::new(config.clone())?),
            seconds_per_view: seconds / views,
            checked,
        })
    }

    /// Compares the engine `scalar` with libtorch, layer by layer, in this variant.
    fn checked(&self, config: &Config, weights: &Weights) -> Result<String> {
        if !cfg!(feature = "libtorch") {
            return Ok("not checked: built without libtorch".to_owned());
        }
        let model = Model::new(config.clone())?;
        let load =
            |name, precision| engines::load(name, model.clone(), weights, precision, self.device);
        let clip = input::load(&InputSource::Formula(0), &model, 1)?;
        let candidate = Side::Engine(load(EngineName::Scalar, Precision::F32)?);
        let torch = |precision| load(EngineName::Torch, precision);
        let mut comparison =
            Comparison::new(model.clone(), candidate, clip, Precision::F32, torch)?;
        let measured = comparison.measure(&|| ())?;
        let found = comparison.judge(&measured);
        let ratios = found.layers.iter().filter_map(|l| Some(l.introduced.as_ref()?.ratio));
        let worst = ratios
            .fold(0.0, |a: f64, b| if b.is_nan() || a.is_nan() { f64::NAN } else { a.max(b) });
        Ok(format!(
            "scalar against libtorch: {}, {} modules, worst error ratio {worst:.2}",
            found.verdict.as_str(),
            found.layers.len()
        ))
    }
}

/// The multiply-accumulates that a variant still has to compute.
fn macs(model: &Model) -> u64 {
    let semantics = model.config.semantics;
    let needed = |name: &str| {
        (semantics.tfc || !name.contains(".param_conv."))
            && (semantics.ioi || !name.contains(".spatial_conv"))
    };
    model
        .modules()
        .iter()
        .filter(|m| m.kind != spec::Kind::Ctl && needed(&m.name))
        .map(|m| m.macs)
        .sum()
}

/// Compares a variant with [`BASE`] on the same videos; several seeds are paired in order.
fn paired(base: &[Answers], variant: &[Answers], classes: usize) -> Paired {
    let mut by_class = vec![(0, 0); classes];
    let (mut drift, mut count) = (0.0, 0.0);
    for (base, own) in base.iter().zip(variant) {
        for at in 0..own.right.len() {
            let flips = &mut by_class[own.labels[at]];
            flips.0 += u64::from(base.right[at] && !own.right[at]);
            flips.1 += u64::from(!base.right[at] && own.right[at]);
            let wide =
                |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| f64::from(v)).collect() };
            drift += relative_l2(&wide(&own.logits[at]), &wide(&base.logits[at]));
            count += 1.0;
        }
    }
    let (lost, won) = by_class.iter().fold((0, 0), |sum, flips| (sum.0 + flips.0, sum.1 + flips.1));
    let by_class = if classes <= 64 { by_class } else { vec![] };
    Paired { lost, won, p: stats::mcnemar(lost, won), by_class, drift: drift / count }
}
