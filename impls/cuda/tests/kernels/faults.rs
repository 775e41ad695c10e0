//! Plants faults in the kernels. The emulated GPU must notice every one of them.

use cuda::device::host::SCHEDULES;
use cuda::device::{Device, Host};
use cuda::kernels::tile::{TILES, Tiling};
use cuda::kernels::{File, Variant, average_pool};
use spec::{EngineError, Precision};

use crate::conv::{CASES, Case, Values, outputs, upload};
use crate::dense::{self, Layer, Map};
use crate::lab;

/// From the name and the text of a source to the text that is compiled.
pub type Edit = fn(&str, &str) -> String;

/// How edited kernels differ from the right ones, over all schedules.
#[derive(Debug, Default)]
pub struct Noticed {
    pub errors: Vec<String>,
    pub differs: bool,
    pub conflicts: u64,
}

/// Runs something with the right kernels and, under all schedules, with edited ones. If no GPU can
/// be emulated, reports the skip and returns None.
pub fn notice(
    edit: Edit,
    run: impl Fn(&mut Host) -> Result<Vec<f64>, EngineError>,
) -> Option<Noticed> {
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let right = bits(&run(&mut lab::emulated()?).unwrap());
    let mut host = lab::emulated()?.edited(edit);
    let mut noticed = Noticed::default();
    for schedule in SCHEDULES {
        host.schedule = schedule;
        match run(&mut host) {
            Ok(got) => noticed.differs |= bits(&got) != right,
            Err(error) => noticed.errors.push(error.to_string()),
        }
    }
    noticed.conflicts = host.conflicts;
    Some(noticed)
}

/// Runs a convolution whose sources are edited.
fn conv(edit: Edit) -> Option<Noticed> {
    conv_of(CASES[2], edit)
}

/// As [`conv`], with an infinite gate for the last image of a gated case.
fn conv_of(case: Case, edit: Edit) -> Option<Noticed> {
    let precision = Precision::Bf16;
    let mut values = Values::new(&case, precision);
    *values.gate.last_mut().unwrap() = f64::INFINITY;
    let tiling = Tiling { tile: TILES[4], splits: 1 };
    notice(edit, |host| {
        let uploaded = upload(host, &case, precision, &values);
        outputs(host, &case, precision, tiling, (uploaded.source, None), |e| e)
    })
}

/// Replaces `from`, which must occur in the text exactly once.
pub fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "`{from}` must occur in the source exactly once");
    text.replace(from, to)
}

macro_rules! edit {
    ($file:literal, $from:literal, $to:literal) => {
        |name, text| match name == $file {
            true => $crate::faults::replace(text, $from, $to),
            false => text.to_owned(),
        }
    };
}
pub(crate) use edit;

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
        conv(edit!("mainloop.cuh", "start_copies(slots + free)", "start_copies(slots + full)"))
    else {
        return;
    };
    assert!(noticed.differs, "{noticed:?}");
}

#[test]
fn a_lost_swizzle_shows_as_bank_conflicts() {
    let Some(noticed) = conv(edit!("loader.cuh", "(vector ^ (row % 8))", "vector")) else {
        return;
    };
    assert!(noticed.conflicts > 0 && !noticed.differs, "{noticed:?}");
}

#[test]
fn a_bit_of_the_padding_that_is_off_by_one_is_noticed() {
    let edits: [fn(&str, &str) -> String; 2] = [
        edit!("loader.cuh", "at < 0 ? -at : 0", "at < 0 ? -at - 1 : 0"),
        edit!("loader.cuh", "end = size - at < kernel ?", "end = size - at > kernel ?"),
    ];
    for edit in edits {
        let Some(noticed) = conv(edit) else { return };
        assert!(noticed.differs || !noticed.errors.is_empty(), "{noticed:?}");
    }
}

#[test]
fn a_window_whose_next_row_or_pixel_comes_too_late_is_noticed() {
    let edits: [fn(&str, &str) -> String; 2] = [
        edit!("loader.cuh", "(source.width - source.kernel)", "(source.width - source.kernel + 1)"),
        edit!("loader.cuh", "while (left <= 0)", "while (left < 0)"),
    ];
    for edit in edits {
        let Some(noticed) = conv(edit) else { return };
        assert!(noticed.differs || !noticed.errors.is_empty(), "{noticed:?}");
    }
}

#[test]
fn a_gate_that_is_lost_or_rounded_or_early_or_on_padding_is_noticed() {
    let edits: [fn(&str, &str) -> String; 5] = [
        edit!("loader.cuh", "pack(v), inside", "read_16(vector), inside"),
        edit!(
            "loader.cuh",
            "mul(v.v[i], factor.v[i])",
            "mul(v.v[i], widen(round_16(factor.v[i])))"
        ),
        edit!("loader.cuh", "pack(v), inside(pass, gated)", "pack(v), true"),
        edit!("loader.cuh", "image[pass] * (source.pitch / 4)", "image[0] * (source.pitch / 4)"),
        edit!("mainloop.cuh", "wait<SLOTS - 2>();\n        if (Gate", "if (Gate"),
    ];
    for edit in edits {
        let Some(noticed) = conv_of(Case { images: 40, ..CASES[1] }, edit) else { return };
        assert!(noticed.differs, "{noticed:?}");
    }
}

#[test]
fn reading_beyond_the_weights_is_noticed() {
    let Some(noticed) =
        conv(edit!("loader.cuh", "output < outputs ? output : outputs - 1", "output"))
    else {
        return;
    };
    assert!(noticed.errors.iter().any(|e| e.contains("outside of a buffer")), "{noticed:?}");
}

#[test]
fn access_outside_shared_memory_is_noticed() {
    let Some(noticed) = conv(edit!(
        "mainloop.cuh",
        "multiply(acc, slots + full)",
        "multiply(acc, slots + full + SLOTS * SLOT_BYTES)"
    )) else {
        return;
    };
    assert!(noticed.errors.iter().any(|e| e.contains("outside of a buffer")), "{noticed:?}");
}

#[test]
fn misaligned_access_is_noticed() {
    let Some(noticed) = conv(edit!(
        "tile.cuh",
        "to = static_cast<uint4*>(e.out)",
        "to = 8 + static_cast<u8*>(e.out)"
    )) else {
        return;
    };
    assert!(noticed.errors.iter().any(|e| e.contains("misaligned")), "{noticed:?}");
}

#[test]
fn a_barrier_that_some_threads_skip_is_noticed() {
    let Some(noticed) = conv(edit!(
        "tile.cuh",
        "sync_threads();\n        for (int first",
        "if (thread_index() < 40) sync_threads();\n        for (int first"
    )) else {
        return;
    };
    assert!(noticed.errors.iter().any(|e| e.contains("never reach")), "{noticed:?}");
}

#[test]
fn a_tile_that_is_read_before_it_is_complete_is_noticed() {
    let Some(noticed) =
        conv(edit!("tile.cuh", "sync_threads();\n        for (int first", "for (int first"))
    else {
        return;
    };
    assert!(noticed.differs, "{noticed:?}");
}

#[test]
fn padded_channels_that_keep_their_values_are_noticed() {
    let Some(noticed) = conv(edit!("epilogue.cuh", "out.w & terms.live.w", "out.w")) else {
        return;
    };
    assert!(noticed.differs, "{noticed:?}");
}

#[test]
fn an_output_that_is_never_written_is_noticed() {
    let Some(noticed) = conv(edit!(
        "tile.cuh",
        "extent.pixels - pixel + ROWS - 1",
        "extent.pixels - pixel + ROWS - 2"
    )) else {
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
fn faults_of_a_product_with_a_map_are_noticed() {
    let (layer, pixels) = (Layer::new((9, 100, 37)), 40);
    let run = |host: &mut Host| {
        let uploaded = layer.upload(host);
        let map = dense::map_of(host, &layer, Precision::Bf16, pixels);
        dense::product(host, Precision::Bf16, &uploaded.args, (&map, pixels), (8, 2))
    };
    let edits: [Edit; 6] = [
        // Gates replace inputs that another warp still multiplies.
        edit!("dense.cu", "    if (args.map) sync_threads();\n", ""),
        // Pixels are multiplied before another warp has made their gates.
        edit!(
            "dense.cu",
            "    if (!args.map) return;\n    sync_threads();",
            "    if (!args.map) return;"
        ),
        // The gates of another image, of other channels.
        edit!("dense.cu", "pixel / args.map_pixels * CHANNELS + column", "column"),
        edit!("dense.cu", "* CHANNELS + column;\n        UNROLL", "* CHANNELS;\n        UNROLL"),
        // One part is multiplied twice, another not at all.
        edit!(
            "dense.cu",
            "int at = block_z() * 256 + thread_index(); at < count",
            "int at = thread_index(); at < count"
        ),
        // Channels beyond the map.
        edit!(
            "dense.cu",
            "        if (channel >= args.out_pitch) continue;\n        i64 from",
            "        i64 from"
        ),
    ];
    for (at, edit) in edits.into_iter().enumerate() {
        let Some(noticed) = notice(edit, run) else { return };
        assert!(noticed.differs || !noticed.errors.is_empty(), "edit {at}: {noticed:?}");
    }
}

#[test]
fn a_missing_or_late_wait_for_earlier_kernels_is_noticed() {
    let layer = Layer::new((9, 1100, 5));
    let run = |host: &mut Host| {
        let uploaded = layer.upload(host);
        dense::results(host, &uploaded.args, 8)
    };
    let edits: [(Edit, &str); 3] = [
        (
            edit!("dense.cu", "    wait_for_earlier_kernels();\n", ""),
            "access to memory without a wait for earlier kernels",
        ),
        (
            edit!(
                "dense.cu",
                "    wait_for_earlier_kernels();\n",
                "    fill<IMAGES>(args, x, CHUNK, 0, 4);\n    wait_for_earlier_kernels();\n"
            ),
            "access to memory without a wait for earlier kernels",
        ),
        (
            edit!(
                "dense.cu",
                "    wait_for_earlier_kernels();\n",
                "    if (warp_index() > 6) return;\n    wait_for_earlier_kernels();\n"
            ),
            "a thread ended without a wait",
        ),
    ];
    for (edit, reason) in edits {
        let Some(noticed) = notice(edit, run) else { return };
        assert_eq!(noticed.errors.len(), SCHEDULES.len(), "{reason}: {noticed:?}");
        assert!(noticed.errors.iter().all(|error| error.contains(reason)), "{noticed:?}");
    }
    // Constants are read before, and never written.
    let Some(mut host) = lab::emulated() else { return };
    let [x, out] = [(); 2].map(|()| lab::upload_f32(&mut host, &[1.0; 8]));
    host.freeze(&out).unwrap();
    let args = average_pool::Args { x: x.address, out: out.address, pixels: 1, pitch: 8 };
    let variant = Variant::new(File::AveragePool, Precision::F32);
    let grid = average_pool::grid(&args, 1, Precision::F32);
    let error = lab::run(&mut host, &variant, grid, &args).unwrap_err().to_string();
    assert!(error.contains("write to a constant"), "{error}");
}

#[test]
fn faults_of_sums_of_tiles_are_noticed() {
    let tiling = Tiling { tile: TILES[4], splits: 3 };
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
