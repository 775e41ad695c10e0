//! `harness train mini`: trains a small network on the built-in data set.

use anyhow::{Result, bail};
use checkpoint::OutFormat;
use record::Record;
use record::TrainRecord;
use video::dataset::Dataset;

use super::args::TrainArgs;
use crate::command_line::CommandLine;
use crate::machine::{Sides, Started};
use crate::models;
use crate::outcome::Outcome;
use crate::publish;
use crate::train::{Settings, Videos, train};
use crate::{engines, input, stop};

/// Trains a network, and writes the model, the record and the report.
pub fn run(args: &TrainArgs) -> Result<Outcome> {
    if args.dataset != Dataset::Mini {
        bail!("the harness cannot train on `{}`; use mini", args.dataset);
    }
    let started = Started::now();
    stop::gently("no epoch of this run has ended, and the same command starts again");
    let device = engines::open_device(&args.on)?;
    let ffmpeg = input::find_ffmpeg()?;
    let settings = Settings {
        config: args.model.over(models::mini_config())?,
        epochs: args.epochs,
        batch: args.batch,
        rate: args.rate,
        warm_up: 2.0,
        seed: args.seed,
        videos: args.videos,
    };
    let folder = args.out.clone().unwrap_or_else(|| started.folder("train"));
    let videos = Videos::load(&ffmpeg, &args.data, settings.videos)?;
    let again = CommandLine::this().with("--out", &folder.display().to_string());
    let kept = format!("the finished epochs are kept, and this goes on: {}", again.in_words());
    let trained = train(&settings, &videos, device, &folder, &kept)?;
    let model_file = folder.join("model.safetensors");
    checkpoint::write(&trained.weights, &model_file, OutFormat::Safetensors)?;
    let last = trained.epochs.last().copied();
    let sides = Sides {
        candidate: format!("libtorch f32 on {}", args.on.device),
        reference: String::new(),
        yardstick: String::new(),
        weights: format!("drawn from seed {}", args.seed),
        input: "mini".to_owned(),
        seeds: [("training".to_owned(), args.seed), ("videos".to_owned(), video::mini::SEED)]
            .into(),
        batch: args.batch,
        device: args.on.device,
    };
    let record = TrainRecord {
        dataset: args.dataset.to_string(),
        settings: settings.describe(),
        epochs: trained.epochs,
        finished: trained.finished,
        run: started.finish(&settings.config, sides),
    };
    let published = publish::publish(&Record::Train(Box::new(record)), &folder, &args.report);
    announce!("model {}", model_file.display());
    if let Some(epoch) = last {
        let line = format!(
            "validation accuracy {:.1} % ({} of {}), 95 % interval {:.1} to {:.1} %",
            100.0 * epoch.val.share(),
            epoch.val.hits,
            epoch.val.of,
            100.0 * epoch.val.low,
            100.0 * epoch.val.high
        );
        publish::print_result(&line, &args.report);
    }
    published?;
    Ok(if trained.finished { Outcome::Passed } else { Outcome::Stopped })
}
