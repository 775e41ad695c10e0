//! Faults planted in the kernels: the emulation must notice every one of them.

use cuda::device::Host;
use cuda::device::host::SCHEDULES;
use cuda::kernels::tile::{Cut, TILES};
use cuda::kernels::{File, Variant, mean};
use spec::Precision;

use crate::conv::{CASES, Values, outputs, place};
use crate::lab;

/// What an edited convolution does under all schedules.
#[derive(Debug, Default)]
struct Noticed {
    errors: Vec<String>,
    differs: bool,
    conflicts: u64,
}

fn conv(edit: fn(&str, &str) -> String) -> Option<Noticed> {
    let (case, precision) = (CASES[2], Precision::Bf16);
    let values = Values::new(&case, precision);
    let cut = Cut { tile: TILES[4], splits: 1 };
    let run = |host: &mut Host| {
        let placed = place(host, &case, precision, &values);
        outputs(host, &case, precision, cut, (placed.source, None), |e| e)
    };
    let right = run(&mut lab::emulated()?).unwrap();
    let mut host = lab::emulated()?.edited(edit);
    let mut noticed = Noticed::default();
    for schedule in SCHEDULES {
        host.schedule = schedule;
        match run(&mut host) {
            Ok(got) => noticed.differs |= got != right,
            Err(error) => noticed.errors.push(error.to_string()),
        }
    }
    noticed.conflicts = host.conflicts;
    Some(noticed)
}

/// The text with one piece replaced, which must be there once.
fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "`{from}` stands once in the source");
    text.replace(from, to)
}

macro_rules! edit {
    ($file:literal, $from:literal, $to:literal) => {
        |name, text| if name == $file { replace(text, $from, $to) } else { text.to_owned() }
    };
}

#[test]
fn a_missing_barrier_is_noticed() {
    let Some(noticed) = conv(edit!(
        "mainloop.cuh",
        "the step before.\n        sync_threads();",
        "the step before.\n"
    )) else {
        return;
    };
    assert!(noticed.differs, "{noticed:?}");
}

#[test]
fn a_wait_that_is_too_weak_is_noticed() {
    let Some(noticed) = conv(edit!("mainloop.cuh", "wait<STEPS - 2>", "wait<STEPS - 1>")) else {
        return;
    };
    assert!(noticed.differs, "{noticed:?}");
}

#[test]
fn a_slot_that_is_written_too_early_is_noticed() {
    let Some(noticed) =
        conv(edit!("mainloop.cuh", "(step - first + STEPS - 1) % STEPS", "(step - first) % STEPS"))
    else {
        return;
    };
    assert!(noticed.differs, "{noticed:?}");
}

#[test]
fn a_lost_swizzle_shows_as_bank_conflicts() {
    let Some(noticed) = conv(edit!("mainloop.cuh", "(chunk ^ (row / 2 % 4))", "chunk")) else {
        return;
    };
    assert!(noticed.conflicts > 0 && !noticed.differs, "{noticed:?}");
}

#[test]
fn reading_beyond_the_weights_is_noticed() {
    let Some(noticed) =
        conv(edit!("mainloop.cuh", "output < outputs && k", "output < outputs + 9 && k"))
    else {
        return;
    };
    assert!(noticed.errors.iter().any(|e| e.contains("outside of a buffer")), "{noticed:?}");
}

#[test]
fn leaving_shared_memory_is_noticed() {
    let Some(noticed) = conv(edit!(
        "mainloop.cuh",
        "multiply(sums, shared + (step - first) % STEPS * SLOT)",
        "multiply(sums, shared + ((step - first) % STEPS + STEPS) * SLOT)"
    )) else {
        return;
    };
    assert!(noticed.errors.iter().any(|e| e.contains("outside of a buffer")), "{noticed:?}");
}

#[test]
fn misaligned_access_is_noticed() {
    let Some(noticed) = conv(edit!(
        "epilogue.cuh",
        "e.pitch + channel;\n    if (e.from",
        "e.pitch + channel + 1;\n    if (e.from"
    )) else {
        return;
    };
    assert!(noticed.errors.iter().any(|e| e.contains("misaligned")), "{noticed:?}");
}

#[test]
fn a_barrier_that_not_everybody_reaches_is_noticed() {
    let Some(noticed) = conv(edit!(
        "tile.cuh",
        "    sync_threads();\n    constexpr",
        "    if (thread_index() < 40) sync_threads();\n    constexpr"
    )) else {
        return;
    };
    assert!(noticed.errors.iter().any(|e| e.contains("never reach")), "{noticed:?}");
}

#[test]
fn an_output_that_nobody_writes_is_noticed() {
    let Some(noticed) =
        conv(edit!("tile.cuh", "pixel < extent.pixels &&", "pixel < extent.pixels - 1 &&"))
    else {
        return;
    };
    assert!(noticed.differs, "{noticed:?}");
}

#[test]
fn a_race_in_a_tree_of_sums_shows_under_some_schedule() {
    let run = |host: &mut Host| {
        let x = lab::narrow(host, Precision::F32, &lab::numbers(200 * 8, 1));
        let out = lab::room(host, Precision::F32, 8);
        let args = mean::Args { x: x.address, out: out.address, pixels: 200, pitch: 8 };
        let variant = Variant::new(File::Mean, Precision::F32);
        lab::run(host, &variant, mean::grid(&args, 1, Precision::F32), &args).unwrap();
        lab::wide_values(host, &out)
    };
    let Some(mut host) = lab::emulated() else { return };
    let right = run(&mut host);
    let mut host = lab::emulated().unwrap().edited(edit!(
        "mean.cu",
        "sums);\n        sync_threads();",
        "sums);\n"
    ));
    let seen = SCHEDULES.map(|schedule| {
        host.schedule = schedule;
        run(&mut host)
    });
    assert!(seen.iter().any(|sums| *sums != right));
}
