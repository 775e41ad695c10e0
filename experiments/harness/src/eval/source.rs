//! Finds the videos of a run: reads the list, and checks which files are in the folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use spec::Config;
use video::dataset::Dataset;
use video::decode::Limits;
use video::decord::Counting;
use video::ffmpeg::Ffmpeg;
use video::list::{self, Entry, List};
use video::mini::{self, Part};
use video::protocol::Protocol;

use crate::flags::{MINI_FOLDER, Shard, VideoArgs};
use crate::{input, progress, stop};
use video::order::Order;

/// The videos of a run.
pub struct Videos {
    /// Data set to which the videos belong.
    pub dataset: Dataset,
    /// Name of the list: its file, or the part of `mini`.
    pub list: String,
    /// Folder that holds the files.
    pub folder: PathBuf,
    /// All entries of the list.
    pub entries: Vec<Entry>,
    /// Indexes in the list of the videos to evaluate, in order.
    pub wanted: Vec<usize>,
    /// Indexes in the list of the videos that are not in the folder.
    pub missing: Vec<usize>,
    /// How clips are made of a video.
    pub protocol: Protocol,
    /// Order of the frames of a clip.
    pub order: Order,
    /// Time and memory that decoding one file may take.
    pub limits: Limits,
    /// The ffmpeg that decodes the files.
    pub ffmpeg: Ffmpeg,
}

impl Videos {
    /// Reads the list and checks which files exist; fails if some are missing, unless that is allowed.
    pub fn open(
        dataset: Dataset,
        args: &VideoArgs,
        config: &Config,
        counting: Counting,
        shard: Option<Shard>,
    ) -> Result<Self> {
        let ffmpeg = input::find_ffmpeg()?;
        let protocol = Protocol { counting, ..dataset.protocol(args.protocol) };
        check(&protocol, config)?;
        let (list, folder, entries) = match dataset {
            Dataset::Mini => embedded(&ffmpeg, args)?,
            _ => listed(dataset, args, config.classes)?,
        };
        let last = if args.limit == 0 { entries.len() } else { args.limit.min(entries.len()) };
        let ours = |at: &usize| shard.is_none_or(|shard| at % shard.of == shard.number - 1);
        let places: Vec<usize> = (0..last).filter(ours).collect();
        let there = |at: &usize| list::file_of(&folder, &entries[*at]).is_some();
        let (wanted, missing): (Vec<usize>, Vec<usize>) = places.into_iter().partition(there);
        let seconds = Duration::try_from_secs_f64(args.time_limit).ok().filter(|t| !t.is_zero());
        let time = seconds.with_context(|| {
            format!("--time-limit {}: give a number of seconds above 0", args.time_limit)
        })?;
        let limits = Limits { time, ..Limits::default() };
        let order = args.order;
        let videos = Videos {
            dataset,
            list,
            folder,
            entries,
            wanted,
            missing,
            protocol,
            order,
            limits,
            ffmpeg,
        };
        videos.report_missing(args.allow_missing)?;
        Ok(videos)
    }

    /// The path of a video's file. For a missing file it is the one that the list gives.
    pub fn file(&self, place: usize) -> PathBuf {
        let entry = &self.entries[place];
        list::file_of(&self.folder, entry).unwrap_or_else(|| self.folder.join(&entry.path))
    }

    /// Whether at least one of the videos to evaluate has a label.
    pub fn have_labels(&self) -> bool {
        self.wanted.iter().any(|&place| self.entries[place].label.is_some())
    }

    fn report_missing(&self, allowed: bool) -> Result<()> {
        let (here, gone) = (self.wanted.len(), self.missing.len());
        announce!(
            "{}: {here} of {} found in {}",
            files::printable(&self.list),
            reports::count(here + gone, "video"),
            self.folder.display()
        );
        if gone == 0 {
            return Ok(());
        }
        let first: Vec<&str> =
            self.missing.iter().take(3).map(|&at| self.entries[at].path.as_str()).collect();
        let first = files::printable(&first.join(", "));
        if !allowed || here == 0 {
            bail!(
                "{gone} of the {} of {} not found in {} ({first}{}); get them, give another \
                 --data or --list, or continue without them with --allow-missing",
                reports::count(here + gone, "video"),
                self.list,
                self.folder.display(),
                if gone > 3 { ", …" } else { "" },
            );
        }
        announce!(
            "{} missing: {first}{}",
            reports::count(gone, "video"),
            if gone > 3 { ", …" } else { "" }
        );
        Ok(())
    }
}

/// Fails if the protocol's clips do not have the shape that the model takes.
fn check(protocol: &Protocol, config: &Config) -> Result<()> {
    let side = protocol.crop;
    if config.size != (side, side) || config.frames != protocol.frames {
        bail!(
            "the protocol gives {} frames of {side}x{side} pixels, but the model takes {} of {}x{}; \
             leave out --frames and --size",
            protocol.frames,
            config.frames,
            config.size.0,
            config.size.1
        );
    }
    Ok(())
}

/// The name of a list, the folder of its files, and its entries.
type Listed = (String, PathBuf, Vec<Entry>);

fn embedded(ffmpeg: &Ffmpeg, args: &VideoArgs) -> Result<Listed> {
    if let Some(list) = &args.list {
        bail!("--list {}: mini has its own list; leave out --list", list.display());
    }
    let part = args.part;
    let folder = args.data.clone().unwrap_or_else(|| MINI_FOLDER.into());
    provide(ffmpeg, &folder, part, args.limit)?;
    // All of them, whatever the limit: a run with another limit is the same run.
    Ok((format!("mini, part {}", part.name()), folder, part.entries()))
}

/// The first `most` entries of a part of `mini`, or all if `most` is 0. Files that do not exist are made.
pub fn provide(ffmpeg: &Ffmpeg, folder: &Path, part: Part, most: usize) -> Result<Vec<Entry>> {
    let bar = progress::bar(&format!("encoding {}", part.name()), part.videos() as u64);
    let most = if most == 0 { part.videos() } else { most };
    let made = |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    let entries = mini::provide(ffmpeg, folder, part, most, &made, &stop::asked);
    bar.finish_and_clear();
    Ok(entries?)
}

fn listed(dataset: Dataset, args: &VideoArgs, classes: usize) -> Result<Listed> {
    let Some(folder) = args.data.clone() else {
        bail!(
            "{dataset}: give the folder of its videos with --data DIR (and the list with --list FILE)"
        );
    };
    if !folder.is_dir() {
        bail!("--data {}: this is not a folder", folder.display());
    }
    let list = match &args.list {
        Some(list) => list.clone(),
        None => published(dataset, &folder).with_context(|| {
            format!(
                "no {} was found in {} or in the folder above it; give the list with --list FILE",
                dataset.lists().join(" or "),
                folder.display()
            )
        })?,
    };
    let List { entries, remarks } = list::read(&list, &folder, classes)?;
    for remark in remarks {
        announce!("{}: {remark}", files::printable(&list.display().to_string()));
    }
    Ok((list.display().to_string(), folder, entries))
}

/// The list in or above the folder, under its published name.
fn published(dataset: Dataset, folder: &Path) -> Option<PathBuf> {
    dataset.lists().iter().find_map(|name| list::find(folder, name))
}

/// All entries of the list that the arguments name, for messages; `None` if it cannot be read.
pub fn entries(dataset: Dataset, args: &VideoArgs, classes: usize) -> Option<Vec<Entry>> {
    if dataset == Dataset::Mini {
        return Some(args.part.entries());
    }
    let folder = args.data.clone().unwrap_or_default();
    let list = args.list.clone().or_else(|| published(dataset, &folder))?;
    list::read(&list, &folder, classes).ok().map(|list| list.entries)
}
