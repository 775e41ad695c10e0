//! Plants faults in the kernels. The emulated GPU must notice every one of them.

use cuda::device::Host;
use cuda::device::host::SCHEDULES;
use cuda::kernels::tile::{TILES, Tiling};
use cuda::kernels::{File, Variant, average_pool};
use spec::{EngineError, Precision};

use crate::conv::{CASES, Values, outputs, upload};
use crate::dense::{self, Layer, Map};
use crate::lab;

/// How an edited convolution differs from the right one, over all schedules.
#[derive(Debug, Default)]
struct Noticed {
    errors: Vec<String>,
    differs: bool,
    conflicts: u64,
}

/// Runs a convolution whose sources are edited. If no GPU can be emulated, reports the skip and
/// returns None.
fn conv(edit: fn(&str, &str) -> String) -> Option<Noticed> {
    let (case, precision) = (CASES[2], Precision::Bf16);
    let values = Values::new(&case, precision);
    let tiling = Tiling { tile: TILES[4], splits: 1 };
    let run = |host: &mut Host| {
        let uploaded = upload(host, &case, precision, &values);
        outputs(host, &case, precision, tiling, (uploaded.source, None), |e| e)
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

/// Replaces `from`, which must occur in the text exactly once.
fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "`{from}` must occur in the source exactly once");
    text.replace(from, to)
}

macro_rules! edit {
    ($file:literal, $from:literal, $to:literal) => {
        |name, text| if name == $file { replace(text, $from, $to) } else { text.to_owned() }
    };
}

#[test]
fn fields_of_an_argument_in_another_order_are_noticed() {
    let Some(noticed) = conv(edit!(
        "conv.cu",
        "int source_count;    // 1 or 2\n    int splits;",
        "int splits;\n    int source_count;"
    )) else {
        return;
    };
    let reason = "offsetof(KernelArgs, source_count) differs from the Rust side";
    assert!(noticed.errors.iter().all(|e| e.contains(reason)), "{noticed:?}");
    assert_eq!(noticed.errors.len(), SCHEDULES.len());
}

#[test]
fn a_missing_barrier_is_noticed() {
    let Some(noticed) = conv(edit!(
        "mainloop.cuh",
        "is filled next.\n        sync_threads();",
        "is filled next.\n"
    )) else {
        return;
    };
    assert!(noticed.differs, "{noticed:?}");
}

#[test]
fn a_wait_that_is_too_weak_is_noticed() {
    let Some(noticed) = conv(edit!("mainloop.cuh", "wait<SLOTS - 2>", "wait<SLOTS - 1>")) else {
        return;
    };
    assert!(noticed.differs, "{noticed:?}");
}

#[test]
fn a_slot_that_is_written_too_early_is_noticed() {
    let Some(noticed) =
        conv(edit!("mainloop.cuh", "(step - first + SLOTS - 1) % SLOTS", "(step - first) % SLOTS"))
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
fn access_outside_shared_memory_is_noticed() {
    let Some(noticed) = conv(edit!(
        "mainloop.cuh",
        "multiply(acc, shared + (step - first) % SLOTS * SLOT_BYTES)",
        "multiply(acc, shared + ((step - first) % SLOTS + SLOTS) * SLOT_BYTES)"
    )) else {
        return;
    };
    assert!(noticed.errors.iter().any(|e| e.contains("outside of a buffer")), "{noticed:?}");
}

#[test]
fn misaligned_access_is_noticed() {
    let Some(noticed) = conv(edit!(
        "epilogue.cuh",
        "e.pitch + channel;\n    if (e.from_stage",
        "e.pitch + channel + 1;\n    if (e.from_stage"
    )) else {
        return;
    };
    assert!(noticed.errors.iter().any(|e| e.contains("misaligned")), "{noticed:?}");
}

#[test]
fn a_barrier_that_some_threads_skip_is_noticed() {
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
fn an_output_that_is_never_written_is_noticed() {
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
        let x = lab::upload_stored(host, Precision::F32, &lab::pseudo_random(200 * 8, 1));
        let out = lab::allocate(host, Precision::F32, 8);
        let args = average_pool::Args { x: x.address, out: out.address, pixels: 200, pitch: 8 };
        let variant = Variant::new(File::AveragePool, Precision::F32);
        lab::run(host, &variant, average_pool::grid(&args, 1, Precision::F32), &args).unwrap();
        lab::download_f32(host, &out)
    };
    let Some(mut host) = lab::emulated() else { return };
    let right = run(&mut host);
    let mut host = lab::emulated().unwrap().edited(edit!(
        "average_pool.cu",
        "sums);\n        sync_threads();",
        "sums);\n"
    ));
    let sums = SCHEDULES.map(|schedule| {
        host.schedule = schedule;
        run(&mut host)
    });
    assert!(sums.iter().any(|sums| *sums != right), "no schedule shows the race");
}

/// Whether a kernel whose source is edited gives other results than the right one, or an error, under
/// some schedule. If no GPU can be emulated, reports the skip and returns None.
fn differs(
    run: impl Fn(&mut Host) -> Result<Vec<f64>, EngineError>,
    edit: fn(&str, &str) -> String,
) -> Option<bool> {
    let right = run(&mut lab::emulated()?).unwrap();
    let mut host = lab::emulated()?.edited(edit);
    let wrong = |schedule| {
        host.schedule = schedule;
        run(&mut host).map_or(true, |got| got != right)
    };
    Some(SCHEDULES.into_iter().any(wrong))
}

#[test]
fn faults_of_a_dense_layer_are_noticed() {
    let layer = Layer::new((9, 1100, 5));
    let run = |host: &mut Host| {
        let uploaded = layer.upload(host);
        dense::results(host, &uploaded.args, 8)
    };
    let edits: [fn(&str, &str) -> String; 3] = [
        // Inputs are multiplied before another warp has read them.
        edit!("dense.cu", "wait<0>();\n        sync_threads();", "wait<0>();"),
        // The next inputs overwrite those that another warp still multiplies.
        edit!("dense.cu", "if (begin > 0) sync_threads();", ""),
        // Inputs are multiplied before they have arrived.
        edit!("dense.cu", "wait<0>();", "wait<1>();"),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let Some(differs) = differs(run, edit) else { return };
        assert!(differs, "edit {at}");
    }
}

#[test]
fn faults_of_sums_of_tiles_are_noticed() {
    let tiling = Tiling { tile: TILES[4], splits: 2 };
    let run = |host: &mut Host| {
        let map = Map::new(host, &dense::MAPS[1], Precision::Bf16, tiling).expect("whole pixels");
        Ok(map.means(host, map.tile_sums, 1))
    };
    let edits: [fn(&str, &str) -> String; 2] = [
        // Pixels are summed before another warp has made them.
        edit!("split_k_reduce.cu", "return;\n    sync_threads();", "return;"),
        // The first tile of an image begins with another image.
        edit!("dense.cu", "tile > tiles.first ? 0 : tiles.segment", "0"),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let Some(differs) = differs(run, edit) else { return };
        assert!(differs, "edit {at}");
    }
}
