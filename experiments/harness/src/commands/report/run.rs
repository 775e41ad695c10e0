//! `harness report`: makes reports again from records.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use record::{BenchRecord, Record};

use super::args::ReportArgs;
use super::pdf::Printer;
use crate::outcome::Outcome;
use crate::publish;

/// Name of the record in the folder of a run.
const RECORD: &str = "record.json";

/// Writes an HTML report for each record, an index if there are several, and a comparison of two.
pub fn run(args: &ReportArgs) -> Result<Outcome> {
    let runs = records(&args.runs)?;
    if args.compare && runs.len() != 2 {
        bail!("--compare compares two runs, and {} were given", runs.len());
    }
    let bench = args.published.as_deref().map(bench).transpose()?;
    let printer = args.pdf.then(Printer::find).transpose()?;
    let read = |run: &PathBuf| Ok(with_current_kernels(record::read_record(run)?));
    let records = runs.iter().map(read).collect::<Result<Vec<Record>>>()?;
    if bench.is_some() && !records.iter().any(reports::has_published) {
        bail!(
            "--published: none of the records is an evaluation on k400, and only their reports have plots of \
             published methods; name such a record, too"
        );
    }
    if let ([a, b], true) = (records.as_slice(), args.compare)
        && a.kind() != b.kind()
    {
        bail!("--compare compares two runs of one kind, not {} with {}", a.kind(), b.kind());
    }
    let mut entries = vec![];
    for (at, (run, record)) in runs.iter().zip(records).enumerate() {
        let html = place(run, args.out.as_deref(), at);
        if let Some(folder) = html.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{}: cannot be created", folder.display()))?;
        }
        let parquet = html.with_extension("parquet");
        match &bench {
            Some(bench) => {
                reports::write_report_with_bench(&record, bench, &html, Some(&parquet))?;
            }
            None => reports::write_report(&record, &html, Some(&parquet))?,
        }
        publish::print(&html.display().to_string());
        print_pdf(printer.as_ref(), &html)?;
        entries.push((record, html));
    }
    let folder = args.out.clone().unwrap_or_default();
    if let ([(before, a), (after, b)], true) = (entries.as_slice(), args.compare) {
        let page = folder.join("comparison.html");
        let name = |path: &Path| path.display().to_string();
        reports::write_comparison((&name(a), before), (&name(b), after), &page)?;
        publish::print(&page.display().to_string());
        print_pdf(printer.as_ref(), &page)?;
    }
    if entries.len() > 1 {
        let index = folder.join("index.html");
        let listed: Vec<_> = entries
            .into_iter()
            .map(|(record, html)| {
                let link = html.strip_prefix(&folder).unwrap_or(&html).display().to_string();
                reports::IndexEntry::new(&record, &link, &link)
            })
            .collect();
        reports::write_index(&listed, &index)?;
        publish::print(&index.display().to_string());
    }
    Ok(Outcome::Passed)
}

/// Prints a page as PDF next to it.
fn print_pdf(printer: Option<&Printer>, html: &Path) -> Result<()> {
    let Some(printer) = printer else { return Ok(()) };
    let pdf = html.with_extension("pdf");
    printer.print(html, &pdf)?;
    publish::print(&pdf.display().to_string());
    Ok(())
}

/// The record of the bench whose times go into the plots of published methods.
fn bench(path: &Path) -> Result<Box<BenchRecord>> {
    match record::read_record(path)? {
        Record::Bench(bench) => Ok(bench),
        other => bail!(
            "--published {}: this is a record of harness {}; give one of harness bench",
            path.display(),
            other.kind()
        ),
    }
}

/// The records that the arguments stand for: files and folders of runs as they are, and the runs in other
/// folders in the order of their names. A file that is no JSON is left out, because shells expand `*` to all
/// files of a folder.
fn records(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let (mut found, mut others) = (vec![], vec![]);
    let mut seen = BTreeSet::new();
    for path in given {
        // `runs/*` names the last run twice, also as runs/latest.
        if !path.canonicalize().is_ok_and(|place| seen.insert(place)) && path.exists() {
            continue;
        }
        let json = path.extension().is_some_and(|extension| extension == "json");
        if path.is_file() && !json {
            others.push(path.display());
        } else if path.is_dir() && !path.join(RECORD).exists() {
            let mut runs = runs_in(path)?;
            if runs.is_empty() {
                bail!(
                    "{}: the folder holds no {RECORD}, and neither do the folders in it",
                    path.display()
                );
            }
            found.append(&mut runs);
        } else {
            found.push(path.clone());
        }
    }
    if let ([], [first, ..]) = (found.as_slice(), others.as_slice()) {
        bail!("{first}: this is not a record; name a {RECORD} or its folder");
    }
    others.iter().for_each(|path| announce!("{path}: this is not a record, so it is left out"));
    Ok(found)
}

/// The folders of runs in a folder.
fn runs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("{}: cannot be read", folder.display());
    let mut runs = vec![];
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        // runs/latest is one of the other folders.
        if path.join(RECORD).exists() && !path.is_symlink() {
            runs.push(path);
        }
    }
    runs.sort();
    Ok(runs)
}

/// Adds the current digests of the kernels to the record of a `gpu-check`, so that its report shows which
/// kernels have changed since.
#[cfg_attr(not(feature = "cuda"), allow(unused_mut))]
fn with_current_kernels(mut record: Record) -> Record {
    #[cfg(feature = "cuda")]
    if let Record::Gpu(gpu) = &mut record {
        let current = cuda::kernels::digests();
        for kernel in &mut gpu.kernels {
            let found = current.iter().find(|(file, _)| *file == kernel.file);
            kernel.current = found.map_or("gone".to_owned(), |(_, digest)| digest.clone());
        }
    }
    record
}

/// The path of a report: next to the record, or in the folder `out` under the run's name.
fn place(run: &Path, out: Option<&Path>, at: usize) -> PathBuf {
    let Some(out) = out else {
        return if run.is_dir() { run.join("report.html") } else { run.with_extension("html") };
    };
    let name = run.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| "run".to_owned());
    out.join(format!("{:02}-{name}.html", at + 1))
}
