//! Plants faults in the kernels that run in bands (`bands.cuh`). The emulated GPU must notice every
//! one of them.

use cuda::device::Host;
use cuda::kernels::tile::BandSupport;
use cuda::run::check::{Trial, bands_are_right, right_bands};
use spec::Precision;

use crate::bands::{Extra, Input, outputs, product, some_divisions};
use crate::conv::{CASE, Case, Values};
use crate::faults::{Edit, Noticed, edit, notice};
use crate::{lab, stem};

/// Runs a convolution with a residual whose sources are edited, in many tiles for each block.
fn edited(edit: Edit) -> Option<Noticed> {
    let precision = Precision::Bf16;
    let case = Case { images: 5, size: (6, 6), inputs: 72, outputs: 24, kernel: 3, ..CASE };
    let values = Values::new(&case, precision);
    notice(edit, |host| {
        let input = Input::upload(host, &case, precision, &values);
        let product = product(&case, &[input.shape]);
        let division = some_divisions(&product)[0];
        let residual = lab::pseudo_random(5 * 36 * 24, 9);
        let residual = lab::upload_stored(host, precision, &residual);
        let extra = Extra { residual: residual.address, ..Extra::default() };
        outputs(host, &case, precision, division, (&[&input], &extra), |e| e)
    })
}

/// Each edit, and the part of the message by which it must be noticed; where that is empty, by a
/// result that differs or by any message.
const FAULTS: [(&str, Edit, &str); 17] = [
    (
        "loads that do not wait for earlier kernels",
        edit!(
            "hopper_conv.cu",
            "    wait_for_earlier_kernels();\n",
            "    if (thread_index() < 256) wait_for_earlier_kernels();\n"
        ),
        "without a wait for earlier kernels",
    ),
    (
        "warps of a warpgroup that multiply different operands",
        edit!(
            "bands.cuh",
            "NARROW ? these : pixels, add || i > 0);",
            "(NARROW ? these : pixels) + (w.warp == 1 ? 2 : 0), add || i > 0);"
        ),
        "different operands",
    ),
    (
        "a warp that calls another operation of the warpgroup",
        edit!(
            "bands.cuh",
            "        commit_products();",
            "        if (w.warp == 1) products_fence();\n        commit_products();"
        ),
        "different operations",
    ),
    (
        "a product that is read before the wait",
        edit!("bands.cuh", "    wait_products<0>(acc);\n    release();", "    release();"),
        "",
    ),
    (
        "a slot that is given back before the product has read it",
        edit!(
            "bands.cuh",
            "        wait_products<1>(acc);\n        add = true;\n        release();\n        read_weights = w.weights.slot;\n        read_bands = bands;",
            "        add = true;\n        read_weights = w.weights.slot;\n        read_bands = bands;\n        release();\n        wait_products<1>(acc);"
        ),
        "",
    ),
    (
        "a missing wait for weights",
        edit!(
            "bands.cuh",
            "        barrier_wait(w.barriers.weights_full(w.weights.slot), w.weights.parity);\n",
            ""
        ),
        "",
    ),
    (
        "a wait for the wrong phase",
        edit!(
            "bands.cuh",
            "barrier_wait(barriers.band_empty(ring.slot), ring.parity ^ 1);",
            "barrier_wait(barriers.band_empty(ring.slot), ring.parity);"
        ),
        "deadlock",
    ),
    (
        "fewer bytes than land",
        edit!(
            "bands.cuh",
            "barrier_expect(full, WEIGHT_BYTES);",
            "barrier_expect(full, WEIGHT_BYTES - 128);"
        ),
        "bytes are missing",
    ),
    (
        "an arrival too many",
        edit!(
            "bands.cuh",
            "        if (lane == 0) barrier_arrive(barrier);",
            "        if (lane < 2) barrier_arrive(barrier);"
        ),
        "",
    ),
    (
        "a barrier that is never initialised",
        edit!("bands.cuh", "barrier_init(barriers.residual(group), 1);", ";"),
        "never initialised",
    ),
    (
        "results that are stored without a fence",
        edit!("results.cuh", "    fence_for_async();\n    meet(w);\n}", "    meet(w);\n}"),
        "without fence.proxy.async",
    ),
    (
        "results that are stored before all threads have put them there",
        edit!(
            "results.cuh",
            "    fence_for_async();\n    meet(w);\n}",
            "    fence_for_async();\n}"
        ),
        "",
    ),
    (
        "a residual that lands where a store still reads",
        edit!(
            "results.cuh",
            "    if (thread_index() % 128) return;\n    store_box_wait();",
            "    if (thread_index() % 128) return;"
        ),
        "",
    ),
    (
        "products without a fence",
        edit!("bands.cuh", "        products_fence();\n", ""),
        "no wgmma.fence",
    ),
    (
        "a block that ends before its stores have read",
        edit!("hopper_conv.cu", "    }\n    store_box_wait();\n", "    }\n"),
        "before its stores had read",
    ),
    (
        "a band that is shifted by one row too many",
        edit!("bands.cuh", "first_row + at.ky * b.pitch", "first_row + (at.ky + 1) * b.pitch"),
        "",
    ),
    (
        "more registers than there are",
        edit!("hopper_conv.cu", "take_registers<224>", "take_registers<232>"),
        "more registers",
    ),
];

/// Plants each fault by `run`, and asserts that it is noticed as [`FAULTS`] says.
pub fn all_are_noticed(faults: &[(&str, Edit, &str)], run: impl Fn(Edit) -> Option<Noticed>) {
    for &(what, edit, message) in faults {
        let Some(noticed) = run(edit) else { return };
        let named = noticed.errors.iter().any(|error| error.contains(message));
        let seen = if message.is_empty() { noticed.differs || named } else { named };
        assert!(seen, "{what}: {noticed:?}");
    }
}

#[test]
fn a_gpu_that_computes_wrongly_in_bands_is_noticed_before_it_is_used() {
    let Some(mut host) = lab::emulated() else { return };
    for precision in [Precision::Bf16, Precision::F16] {
        for (kernel, stride, gated) in
            [(1, 1, false), (3, 1, false), (3, 1, true), (7, 1, true), (5, 2, false)]
        {
            for outputs in [72, 16] {
                let channels = if stride > 1 { 80 } else { 72 };
                let trial = Trial { channels, kernel, stride, gated, outputs };
                let right = bands_are_right(&mut host, precision, trial).unwrap();
                assert!(right, "{precision} {trial:?}");
            }
        }
    }
    assert_eq!(right_bands(&mut host, Precision::Bf16).unwrap(), BandSupport::Planes);
    // What remains of the bands on a GPU with a fault.
    let wrong: [(&str, Edit, BandSupport); 6] = [
        (
            "products of bands of planes start at the wrong row",
            edit!(
                "hopper_stem.cu",
                "ky / 2 * a.pitch * ROW_BYTES",
                "ky / 2 * a.pitch / 8 * 8 * ROW_BYTES"
            ),
            BandSupport::Shifted,
        ),
        (
            "products of other bands start at the wrong row",
            edit!(
                "bands.cuh",
                "first_row + at.ky * b.pitch",
                "first_row + at.ky * b.pitch / 8 * 8"
            ),
            BandSupport::Flat,
        ),
        (
            "products with few outputs start at the wrong row",
            edit!(
                "bands.cuh",
                "first_row + at.ky * b.pitch",
                "first_row + (NARROW ? at.ky * b.pitch / 8 * 8 : at.ky * b.pitch)"
            ),
            BandSupport::Flat,
        ),
        (
            "another row is multiplied by the gate",
            edit!("bands.cuh", "mul(v.v[j], gate.v[j])", "mul(v.v[j], gate.v[j ^ 1])"),
            BandSupport::Flat,
        ),
        (
            "a window of stride 2 begins elsewhere",
            edit!("bands.cuh", "source.first + first, at.x", "source.first / 2 + first, at.x"),
            BandSupport::Flat,
        ),
        (
            "the epilogue is wrong",
            edit!("results.cuh", "linear.activate(sum);", "linear.activate(sum + 1.0f);"),
            BandSupport::Off,
        ),
    ];
    for (what, edit, rest) in wrong {
        let mut host = lab::emulated().unwrap().edited(edit);
        assert_eq!(right_bands(&mut host, Precision::Bf16).unwrap(), rest, "{what}");
        assert_eq!(
            right_bands(&mut host, Precision::F32).unwrap(),
            BandSupport::Planes,
            "not asked"
        );
    }
}

#[test]
fn every_planted_fault_of_bands_is_noticed() {
    all_are_noticed(&FAULTS, edited);
}

#[test]
fn faults_of_a_gate_in_place_are_noticed() {
    let precision = Precision::Bf16;
    let case =
        Case { images: 5, size: (3, 4), inputs: 72, outputs: 24, kernel: 3, gated: true, ..CASE };
    let mut values = Values::new(&case, precision);
    *values.gate.last_mut().unwrap() = f64::INFINITY;
    let extra = Extra { sums: true, ..Extra::default() };
    let run = |host: &mut Host| {
        let input = Input::upload(host, &case, precision, &values);
        let division = some_divisions(&product(&case, &[input.shape]))[0];
        outputs(host, &case, precision, division, (&[&input], &extra), |e| e)
    };
    let edits: [(&str, Edit, &str); 7] = [
        (
            "a band that is multiplied before it has landed",
            edit!(
                "bands.cuh",
                "barrier_wait(barriers.band_full(ring.slot), ring.parity);\n                if",
                "if"
            ),
            "",
        ),
        (
            "products that do not wait for the gate",
            edit!("bands.cuh", "GATED ? band_gated(slot) : band_full(slot)", "band_full(slot)"),
            "",
        ),
        (
            "products that do not see what the gaters wrote",
            edit!(
                "bands.cuh",
                "at, first);\n                    fence_for_async();",
                "at, first);"
            ),
            "fence",
        ),
        (
            "a gate on the border",
            edit!(
                "bands.cuh",
                "static_cast<u32>(at.y + y - b.halo) < static_cast<u32>(b.height)",
                "true"
            ),
            "",
        ),
        (
            "the gate of the first image for all",
            edit!(
                "bands.cuh",
                "(at.image + image) * source.gate_pitch",
                "at.image * source.gate_pitch"
            ),
            "",
        ),
        (
            "a band of another chunk's gate",
            edit!("bands.cuh", "int channel = first + chunk * VEC", "int channel = chunk * VEC"),
            "",
        ),
        (
            "a gater that does not arrive",
            edit!(
                "bands.cuh",
                "barrier_arrive(barriers.band_gated(ring.slot));",
                "if (thread_index() > FIRST_GATER) barrier_arrive(barriers.band_gated(ring.slot));"
            ),
            "deadlock",
        ),
    ];
    all_are_noticed(&edits, |edit| notice(edit, run));
}

#[test]
fn faults_of_products_whose_rows_are_pixels_are_noticed() {
    let precision = Precision::Bf16;
    let case = Case { images: 3, size: (14, 9), inputs: 72, outputs: 16, kernel: 3, ..CASE };
    let values = Values::new(&case, precision);
    let run = |host: &mut Host| {
        let input = Input::upload(host, &case, precision, &values);
        let division = *product(&case, &[input.shape]).divisions().last().unwrap();
        outputs(host, &case, precision, division, (&[&input], &Extra::default()), |e| e)
    };
    let edits: [(&str, Edit, &str); 4] = [
        (
            "every block of pixels multiplied as the first",
            edit!("bands.cuh", "of_band[i] + block * to_next_block[i]", "of_band[i]"),
            "",
        ),
        (
            "a step that does not exist and reads beyond the weights",
            edit!("bands.cuh", "to_next_block[i] = 0;", "to_next_block[i] = 64 * ROW_BYTES / 16;"),
            "",
        ),
        (
            "weights as rows and pixels as columns",
            edit!("bands.cuh", "NARROW ? pixels : these, NARROW ? these : pixels", "these, pixels"),
            "",
        ),
        (
            "results of another block of pixels",
            edit!("results.cuh", "acc[NARROW ? group : 0][at]", "acc[0][at]"),
            "",
        ),
    ];
    all_are_noticed(&edits, |edit| notice(edit, run));
}

#[test]
fn faults_of_a_halved_result_are_noticed() {
    let precision = Precision::Bf16;
    let case = Case { images: 9, size: (6, 8), inputs: 24, outputs: 24, ..CASE };
    let values = Values::new(&case, precision);
    let run = |host: &mut Host| {
        let input = Input::upload(host, &case, precision, &values);
        let division = product(&case, &[input.shape]).halved().unwrap().divisions();
        let division = *division.last().unwrap();
        let weights = lab::upload_f32(host, &lab::pseudo_random(4 * 24, 7));
        let residual = lab::pseudo_random(case.pixels() * 24, 9);
        let residual = lab::upload_stored(host, precision, &residual);
        let extra =
            Extra { residual: residual.address, halved: weights.address, ..Extra::default() };
        outputs(host, &case, precision, division, (&[&input], &extra), |e| e)
    };
    let edits: [(&str, Edit, &str); 3] = [
        (
            "results that are halved before all threads have put them there",
            edit!(
                "results.cuh",
                "    fence_for_async();\n    meet(w);\n}",
                "    fence_for_async();\n}"
            ),
            "",
        ),
        (
            "a residual that lands where results are still being halved",
            edit!("hopper_conv.cu", "if (HALVED || args.tile_sums.sums) meet(w);", ""),
            "",
        ),
        (
            "a last tile that is halved as if it were whole",
            edit!(
                "hopper_conv.cu",
                "(rest < b.result_pixels ? rest : b.result_pixels) / 4",
                "b.result_pixels / 4"
            ),
            "",
        ),
    ];
    all_are_noticed(&edits, |edit| notice(edit, run));
}

#[test]
fn faults_of_the_stem_are_noticed() {
    let precision = Precision::Bf16;
    let case = Case { images: 3, size: (10, 62), inputs: 36, outputs: 40, ..stem::STEM };
    let values = Values::new(&case, precision);
    let edits: [(&str, Edit, &str); 13] = [
        (
            "planes that are read before earlier kernels have ended",
            edit!(
                "hopper_stem.cu",
                "    wait_for_earlier_kernels();\n",
                "    if (thread_index() < MULTIPLIERS) wait_for_earlier_kernels();\n"
            ),
            "without a wait for earlier kernels",
        ),
        (
            "a band that is made while the last one there is multiplied",
            edit!(
                "hopper_stem.cu",
                "            barrier_wait(barriers.empty(band), parity ^ 1);\n",
                ""
            ),
            "",
        ),
        (
            "a wait for the wrong phase",
            edit!(
                "hopper_stem.cu",
                "barriers.empty(band), parity ^ 1",
                "barriers.empty(band), parity"
            ),
            "deadlock",
        ),
        (
            "bands that products do not see",
            edit!("hopper_stem.cu", "            fence_for_async();\n", ""),
            "without fence.proxy.async",
        ),
        (
            "products that do not wait for a band",
            edit!("hopper_stem.cu", "        barrier_wait(barriers.full(band), parity);\n", ""),
            "",
        ),
        (
            "products that do not wait for the weights",
            edit!("hopper_stem.cu", "    barrier_wait(barriers.weights(), 0);\n", ""),
            "",
        ),
        (
            "fewer bytes of weights than land",
            edit!(
                "hopper_stem.cu",
                "barrier_expect(barriers.weights(), args.weight_rows * WEIGHT_BYTES)",
                "barrier_expect(barriers.weights(), args.weight_rows * WEIGHT_BYTES - 128)"
            ),
            "bytes are missing",
        ),
        (
            "a band that is given back before its products have ended",
            edit!("hopper_stem.cu", "            wait_products<1>(acc);\n", ""),
            "",
        ),
        (
            "accumulators that are read before the wait",
            edit!("hopper_stem.cu", "    wait_products<0>(acc);\n", ""),
            "",
        ),
        (
            "a border that is not zero",
            edit!("hopper_stem.cu", "static_cast<u32>(row) < static_cast<u32>(height)", "true"),
            "",
        ),
        (
            "planes behind the last",
            edit!("hopper_stem.cu", "inside && first_plane + p < a.planes", "inside"),
            "outside of a buffer",
        ),
        (
            "both warpgroups with the rows of the first",
            edit!("hopper_stem.cu", "thread_index() / 128 * PART_ROWS * a.pitch", "0 * a.pitch"),
            "",
        ),
        (
            "outputs of another lane",
            edit!(
                "hopper_stem.cu",
                "shuffle_xor(lane & bit ? v[i][odd] : v[i | bit][odd], bit)",
                "shuffle_xor(lane & bit ? v[i | bit][odd] : v[i][odd], bit)"
            ),
            "",
        ),
    ];
    all_are_noticed(&edits, |edit| {
        notice(edit, |host| stem::outputs(host, (&case, precision, &values), false, |e| e))
    });
}

#[test]
fn a_lost_swizzle_of_results_shows_as_bank_conflicts() {
    let Some(noticed) = edited(edit!(
        "results.cuh",
        "column * ROW_BYTES + (chunk ^ (column & 7)) * 16;",
        "column * ROW_BYTES + chunk * 16;"
    )) else {
        return;
    };
    assert!(noticed.conflicts > 0 && noticed.differs, "{noticed:?}");
}
