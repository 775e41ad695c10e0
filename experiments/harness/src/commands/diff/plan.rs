//! Resolves the arguments into a plan, and loads the dumps and engines of a comparison.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use checkpoint::{Source, Weights};
use spec::{Config, Engine, Model, Precision, Tensor};

use super::args::DiffArgs;
use super::names::{NameArgs, Names};
use crate::engines::live::{self, Live, Recipe};
use crate::engines::onnx::{self, OnnxFile, Requantised};
use crate::engines::{self, Device};
use crate::flags::{
    DeviceName, EngineName, InputSource, LiveArgs, LiveName, OnnxArgs, Participant,
};
use crate::machine::Sides;
use crate::preprocessing::{self, Film};
use crate::{input, models};
use compare::dump::{Dump, NameMap};
use compare::faults::{self, Edited};
use compare::stored::Stored;
use compare::{Comparison, Side};

/// What is compared with what: the arguments, resolved once.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) model: Model,
    /// The weights of the reference: those of the checkpoint, rounded as a quantised ONNX file is.
    pub(super) weights: Weights,
    pub(super) requantised: Option<Requantised>,
    /// How the weights were rounded on request.
    pub(super) stored: Option<Stored>,
    pub(super) source: Source,
    pub(super) candidate: Participant,
    pub(super) reference: Participant,
    /// The engine that computes the truth.
    pub(super) truth: EngineName,
    /// The precision that was asked for.
    pub(super) precision: Option<Precision>,
    /// The clip that was asked for.
    pub(super) input: Option<InputSource>,
    /// The second, small comparison is wanted.
    pub(super) edge: bool,
    pub(super) device: Device,
    /// How a live model is run, and on which device.
    python: (LiveArgs, DeviceName),
    /// The names of a dump's arrays.
    pub(super) names: Names,
    /// How an ONNX file is run, and with how many threads.
    onnx: (OnnxArgs, usize),
    batch: usize,
    layers: Vec<String>,
    pub(super) inject: Option<String>,
}

impl Plan {
    /// Opens the device and reads the weights.
    pub(super) fn new(args: &DiffArgs) -> Result<Self> {
        refuse_clips_of_dumps(args)?;
        if let Some(candidate) = &args.candidate {
            refuse_the_same_file(candidate, &args.reference)?;
        }
        let device = engines::open_device(&args.data.on)?;
        let (model, weights) = models::load_model(&args.model, &args.data.weights)?;
        // A dump cannot be run, so the truth comes from the default reference.
        let truth = match &args.reference {
            Participant::Npz(_) | Participant::Onnx(_) => EngineName::REFERENCE,
            Participant::Engine(engine) => *engine,
            Participant::Python(live) => bail!(
                "--reference python:{live}: the truth is computed in float64 and with changed weights, \
                 which a live model is not; make it the candidate"
            ),
        };
        let requantised = match [&args.candidate(), &args.reference].into_iter().find_map(onnx_file)
        {
            Some(path) => Requantised::of(path, &model, &weights, || {
                engines::load(truth, model.clone(), &weights, Precision::F64, device)
            })?,
            None => None,
        };
        let weights = requantised.as_ref().map_or(weights, |made| made.weights.clone());
        let weights = match args.round_weights {
            Some(stored) => stored.round(&model, &weights),
            None => weights,
        };
        Ok(Plan {
            model,
            weights,
            requantised,
            stored: args.round_weights,
            source: args.data.weights.clone(),
            candidate: args.candidate(),
            reference: args.reference.clone(),
            truth,
            precision: args.precision,
            input: args.data.input.clone(),
            edge: !args.no_edge,
            device,
            python: (args.live.clone(), args.data.on.device),
            names: Names::default(),
            onnx: (args.onnx.clone(), args.data.on.threads),
            batch: args.model.batch_size,
            layers: args.layer.clone(),
            inject: args.inject.clone(),
        })
    }

    /// The same network for frames of another size, on which no parameter depends.
    pub(super) fn at_size(&self, size: (usize, usize)) -> Result<Self> {
        let config = Config { size, ..self.model.config.clone() };
        let model = match self.weights.has_head() {
            true => Model::new(config)?,
            false => Model::backbone(config)?,
        };
        Ok(Plan { model, ..self.clone() })
    }

    /// The same comparison with weights as a converter stores them.
    pub(super) fn with_stored(&self, stored: Stored) -> Self {
        let weights = stored.round(&self.model, &self.weights);
        Plan { weights, stored: Some(stored), ..self.clone() }
    }

    /// The weights as they stand in records.
    pub(super) fn weights_in_words(&self) -> String {
        match self.stored {
            Some(stored) => format!("{} (rounded: {stored})", self.source),
            None => self.source.to_string(),
        }
    }

    /// Whether one of the sides is a dump, which cannot be run again.
    pub(super) fn recorded(&self) -> bool {
        self.named_dump().is_some()
    }

    /// The dump that the flags for names are about: the candidate's, or else the reference's.
    fn named_dump(&self) -> Option<&PathBuf> {
        self.candidate.dump().or(self.reference.dump())
    }

    /// Reads the map of names, or proposes one. `folder` is that of the run.
    pub(super) fn with_names(mut self, args: &NameArgs, folder: &Path) -> Result<Self> {
        let clip = || match &self.input {
            Some(source) => input::load(source, &self.model, self.batch).map(Some),
            None => Ok(None),
        };
        let truth = || self.load(Precision::F64);
        let captured = match &self.candidate {
            Participant::Python(name) => Some(self.captured(name, args)?),
            _ => None,
        };
        let dump = captured.as_ref().map(|(_, path)| path).or(self.named_dump());
        self.names = args.resolve(dump, &self.model, truth, clip, folder)?;
        Ok(self)
    }

    pub(super) fn comparison(&self) -> Result<(Comparison, Sides)> {
        let model = &self.model;
        let batch = self.batch;
        let what = match &self.candidate {
            Participant::Npz(_) => Some("a dump"),
            Participant::Python(_) => Some("a live model"),
            Participant::Onnx(_) => Some("an ONNX file"),
            Participant::Engine(_) => None,
        };
        if let (Some(fault), Some(what)) = (&self.inject, what) {
            bail!(
                "--inject {fault}: the candidate is {what}; faults can only be planted in engines"
            );
        }
        let open = |participant: &Participant| match participant {
            Participant::Npz(path) => {
                let named = self.named_dump() == Some(path);
                let map = if named { self.names.map.clone() } else { NameMap::default() };
                Dump::open_as(path, model, batch, &map).map(Some)
            }
            _ => Ok(None),
        };
        let (recorded, mut reference) = (open(&self.candidate)?, open(&self.reference)?);
        let dump = recorded.as_ref().or(reference.as_ref());
        let batch = dump.map_or(batch, |dump| dump.batch);
        if let (Some(a), Some(b)) = (&recorded, &reference)
            && a.batch != b.batch
        {
            bail!(
                "the candidate's dump holds {} clips and the reference's {}; dump the same clips",
                a.batch,
                b.batch
            );
        }
        let (clip, clip_from) = self.clip(dump, batch)?;
        if clip.is_empty() {
            bail!("{clip_from}: a batch of 0 clips compares nothing; give at least one clip");
        }
        let broken = clip.iter().filter(|value| !value.is_finite()).count();
        if broken > 0 {
            bail!(
                "{clip_from}: {broken} of {} values of the clip are NaN or infinite, and so is what is computed from \
                 them; give a clip of numbers",
                clip.len()
            );
        }
        if let Participant::Onnx(path) = &self.reference {
            reference = Some(self.recording(path, &clip)?);
        }
        let (candidate, precision) = match recorded {
            Some(dump) => {
                let format = coarser(Some(&dump), reference.as_ref());
                (Side::Dump(dump), self.precision.unwrap_or(format))
            }
            None => {
                if let Some(change) = self.injected()? {
                    let at = &self.model.module(change.site).name;
                    announce!("injected at {at}: {}", change.what);
                }
                self.live(&clip, coarser(None, reference.as_ref()))?
            }
        };
        let clip = precision.round(clip);
        self.compare(candidate, reference, (clip, clip_from), precision)
    }

    /// The comparison of a candidate with the truth, or with the dump `reference`.
    pub(super) fn compare(
        &self,
        candidate: Side,
        reference: Option<Dump>,
        (clip, clip_from): (Tensor, String),
        precision: Precision,
    ) -> Result<(Comparison, Sides)> {
        let described = match &candidate {
            Side::Engine(engine) => engine.describe(),
            Side::Dump(_) => named(&self.candidate),
        };
        let (model, load) = (self.model.clone(), |precision| self.load(precision));
        let mut comparison = Comparison::new(model, candidate, clip, precision, load)?;
        comparison.selection = models::selection(&self.model, &self.layers)?;
        comparison.reference = reference;
        let sides = Sides {
            candidate: described,
            reference: match &comparison.reference {
                Some(_) => named(&self.reference),
                None => comparison.truth.describe(),
            },
            yardstick: comparison.yardstick.describe(),
            weights: self.weights_in_words(),
            input: clip_from,
            seeds: self.seeds(),
            batch: comparison.input.shape[0],
            device: self.python.1,
        };
        Ok((comparison, sides))
    }

    /// The seeds of the formulas, by purpose.
    fn seeds(&self) -> BTreeMap<String, u64> {
        let mut seeds = BTreeMap::new();
        if let Source::Formula(seed) = self.source {
            seeds.insert("weights".to_owned(), seed);
        }
        if let Some(InputSource::Formula(seed)) = self.input {
            seeds.insert("input".to_owned(), seed);
        }
        seeds
    }

    pub(super) fn load(&self, precision: Precision) -> Result<Box<dyn Engine>> {
        let model = self.model.clone();
        let engine =
            engines::load_reference(self.truth, model, &self.weights, precision, self.device)?;
        Ok(match &self.requantised {
            Some(made) => made.engine(engine),
            None => engine,
        })
    }

    /// The clip and its source: that of `--input`, or the clip in the dump, or formula:0.
    fn clip(&self, dump: Option<&Dump>, batch: usize) -> Result<(Tensor, String)> {
        if let Some(source) = &self.input {
            if let Some(found) = self.clip_of_decord(source, dump)? {
                return Ok(found);
            }
            let clip = input::load(source, &self.model, batch)?;
            if clip.shape[0] != batch && dump.is_some() {
                bail!(
                    "--input {source} holds {} clips, the dump {batch}; give the clip that the \
                     dump was made from",
                    clip.shape[0]
                );
            }
            return Ok((clip, source.to_string()));
        }
        let Some(dump) = dump else {
            let source = InputSource::Formula(0);
            return Ok((input::load(&source, &self.model, batch)?, source.to_string()));
        };
        if let Some((clip, name)) = dump.input(&self.model) {
            return Ok((clip, format!("the array `{name}` of the dump")));
        }
        match dump.why_no_input(&self.model) {
            Some(why) => bail!(
                "the dump's clip does not fit the model and the batch of the layers, {}: {why}; check --frames, \
                 --size and the batch, or name the clip that the dump was made from with --input",
                reports::count(batch, "clip")
            ),
            None => bail!(
                "none of the dump's {} arrays is the clip; save it as the array `input` {:?}, or \
                 name the clip that the dump was made from with --input (the default clip is \
                 formula:0)",
                dump.arrays.len(),
                self.model.input_shape(batch)
            ),
        }
    }

    /// The clip of the frames that decord takes, if the input is a video on which its seeks miss and the
    /// candidate's dump holds just those.
    fn clip_of_decord(
        &self,
        source: &InputSource,
        dump: Option<&Dump>,
    ) -> Result<Option<(Tensor, String)>> {
        let (Participant::Npz(path), InputSource::File(video)) = (&self.candidate, source) else {
            return Ok(None);
        };
        if !dump.is_some_and(|dump| dump.before_network) {
            return Ok(None);
        }
        let Some(views) = input::views(source, &self.model)? else { return Ok(None) };
        let film = Film { ffmpeg: &input::find_ffmpeg()?, path: video };
        let found = preprocessing::clip_of_decord(path, film, &views)?;
        Ok(found.map(|(clip, why)| {
            (Tensor::f32(self.model.input_shape(1), clip), format!("{source} ({why})"))
        }))
    }

    /// The mistake of `--inject`.
    fn injected(&self) -> Result<Option<faults::Change>> {
        self.inject.as_ref().map(|text| faults::parse(&self.model, text)).transpose()
    }

    /// The candidate as an engine, with the mistake of `--inject` planted in it, and the precision in which
    /// it is judged: that of `--precision`, or that of a live model, or the given one.
    pub(super) fn live(&self, clip: &Tensor, precision: Precision) -> Result<(Side, Precision)> {
        if let Participant::Python(name) = &self.candidate {
            let live = self.python(name, clip)?;
            let precision = self.precision.unwrap_or(live.precision());
            return Ok((Side::Engine(Box::new(live)), precision));
        }
        if let Participant::Onnx(path) = &self.candidate {
            let file = OnnxFile::start(&self.onnx(path), clip)?;
            let precision = self.precision.unwrap_or(file.precision());
            return Ok((Side::Engine(Box::new(file)), precision));
        }
        let precision = self.precision.unwrap_or(precision);
        let (mut model, mut weights) = (self.model.clone(), self.weights.clone());
        let change = self.injected()?;
        if let Some(change) = &change {
            change.apply(&mut model, &mut weights);
        }
        let Participant::Engine(name) = self.candidate else {
            bail!("{} is a dump, which cannot be run; name an engine", self.candidate);
        };
        let engine = engines::load(name, model, &weights, precision, self.device)?;
        let engine: Box<dyn Engine> = match change {
            Some(change) => Box::new(Edited { engine, change, weights }),
            None => engine,
        };
        Ok((Side::Engine(engine), precision))
    }

    /// An ONNX file's recipe.
    pub(super) fn onnx<'a>(&'a self, path: &'a Path) -> onnx::Recipe<'a> {
        let (runtime, threads) = &self.onnx;
        onnx::Recipe {
            path,
            runtime: &runtime.run,
            python: &self.python.0.run,
            model: &self.model,
            weights: &self.weights,
            threads: *threads,
            device: self.python.1.to_string(),
        }
    }

    /// What an ONNX file computes, as a dump to compare with.
    fn recording(&self, path: &Path, clip: &Tensor) -> Result<Dump> {
        let mut file = OnnxFile::start(&self.onnx(path), clip)?;
        let folder = files::Folder::new().context("a temporary folder cannot be created")?;
        let at = folder.path().join("reference.npz");
        onnx::record(&mut file, &self.model, clip, &at)?;
        file.notes().iter().for_each(|note| announce!("{note}"));
        Dump::open(&at, &self.model, clip.shape[0])
    }

    fn python(&self, name: &LiveName, clip: &Tensor) -> Result<Live> {
        Live::start(&self.recipe(name), clip)
    }

    fn recipe<'a>(&'a self, name: &'a LiveName) -> Recipe<'a> {
        let (args, device) = &self.python;
        Recipe {
            name,
            args,
            model: &self.model,
            weights: &self.weights,
            source: &self.source,
            names: &self.names.map,
            device: device.to_string(),
        }
    }

    /// A temporary folder and the dump in it of a live model, if names are to be proposed for its modules.
    fn captured(&self, name: &LiveName, args: &NameArgs) -> Result<(files::Folder, PathBuf)> {
        let folder = files::Folder::new().context("a temporary folder cannot be created")?;
        let path = folder.path().join(format!("{}.npz", name.function));
        if args.suggest_map.is_some() {
            let (clip, _) = self.clip(None, self.batch)?;
            live::capture(&self.recipe(name), &clip, &path)?;
        }
        Ok((folder, path))
    }
}

/// A file that is compared with itself passes whatever it holds.
fn refuse_the_same_file(candidate: &Participant, reference: &Participant) -> Result<()> {
    let file = |side: &Participant| match side {
        Participant::Npz(path) | Participant::Onnx(path) => path.canonicalize().ok(),
        Participant::Engine(_) | Participant::Python(_) => None,
    };
    let (Some(one), Some(other)) = (file(candidate), file(reference)) else { return Ok(()) };
    if one == other {
        bail!(
            "--reference {reference}: this is the candidate's file, and a file agrees with itself whatever it \
             holds; name another one, or leave out --reference"
        );
    }
    if are_equal(&one, &other) {
        announce!(
            "candidate and reference are copies of each other, which agree whatever they hold"
        );
    }
    Ok(())
}

/// A dump holds one input, so that there is nothing to run the others on. An ONNX file as the reference is
/// recorded on one input, too.
fn refuse_clips_of_dumps(args: &DiffArgs) -> Result<()> {
    if let (Participant::Onnx(path), Some(_)) = (&args.reference, &args.clips.clips) {
        bail!(
            "--clips: --reference onnx:{} is run on one input only; make the ONNX file the candidate",
            path.display()
        );
    }
    let dump = [Some(&args.reference), args.candidate.as_ref()]
        .into_iter()
        .flatten()
        .find(|side| side.dump().is_some());
    match (dump, &args.clips.clips) {
        (Some(dump), Some(_)) => bail!(
            "--clips: {dump} is a dump, which cannot be run on other inputs; give an engine, or compare \
             a dump of each input by itself"
        ),
        _ => Ok(()),
    }
}

/// The ONNX file that a participant is.
fn onnx_file(participant: &Participant) -> Option<&Path> {
    match participant {
        Participant::Onnx(path) => Some(path),
        _ => None,
    }
}

/// The coarser of the number formats of two dumps, so that rounding to it does not count as an error.
fn coarser(candidate: Option<&Dump>, reference: Option<&Dump>) -> Precision {
    let dumps = candidate.into_iter().chain(reference);
    let formats = dumps.map(|dump| dump.format.0);
    let coarsest = formats.max_by(|a, b| a.epsilon().total_cmp(&b.epsilon()));
    coarsest.unwrap_or(Precision::F32)
}

/// The name of a side in records and on the terminal.
pub(super) fn named(participant: &Participant) -> String {
    match participant {
        Participant::Engine(EngineName::Torch) => "libtorch".to_owned(),
        other => other.to_string(),
    }
}

/// Whether two files have the same content. What cannot be read is reported where it is needed.
fn are_equal(one: &Path, other: &Path) -> bool {
    let length = |path: &Path| std::fs::metadata(path).map(|data| data.len()).ok();
    if length(one) != length(other) {
        return false;
    }
    let (Ok(a), Ok(b)) = (std::fs::File::open(one), std::fs::File::open(other)) else {
        return false;
    };
    let (mut a, mut b) = (BufReader::new(a), BufReader::new(b));
    loop {
        let (Ok(left), Ok(right)) = (a.fill_buf(), b.fill_buf()) else { return false };
        let count = left.len().min(right.len());
        if left[..count] != right[..count] {
            return false;
        }
        if count == 0 {
            return left.len() == right.len();
        }
        a.consume(count);
        b.consume(count);
    }
}
