//! Plants faults in the kernel of two 1x1 convolutions (`hopper_pair.cu`). The emulated GPU must notice every one of
//! them.

use cuda::run::pair_check::pairs_are_right;
use spec::Precision;

use crate::band_faults::all_are_noticed;
use crate::faults::{Edit, Noticed, edit, notice};
use crate::lab;
use crate::pair::{Network, SHAPES, Shape};

/// Runs both convolutions with edited sources, with a residual and more chunks in a block than there are stages.
fn edited(shape: Shape, edit: Edit) -> Option<Noticed> {
    let mut network = Network::new(shape, Precision::Bf16);
    network.values[0].x[5] = f64::INFINITY;
    notice(edit, |host| {
        let results = network.fused(host)?;
        Ok([results.wide, results.out, results.sums].concat())
    })
}

/// The part of the message by which a fault must be noticed is empty where a result may differ instead.
const FAULTS: [(&str, Edit, &str); 17] = [
    (
        "maps that are loaded before earlier kernels have ended",
        edit!(
            "hopper_pair.cu",
            "    wait_for_earlier_kernels();\n    if (thread == LOADS_BANDS)",
            "    if (thread == LOADS_BANDS)"
        ),
        "without a wait for earlier kernels",
    ),
    (
        "a chunk that products and stores do not see",
        edit!(
            "hopper_pair.cu",
            "        fence_for_async();\n        sync_warp();",
            "        sync_warp();"
        ),
        "without fence.proxy.async",
    ),
    (
        "a residual that lands in a stage in use",
        edit!(
            "hopper_pair.cu",
            "m.stages.await(ring, landed);",
            "barrier_expect(landed, CHUNK_BYTES);"
        ),
        "",
    ),
    (
        "a residual that is read before it has landed",
        edit!(
            "hopper_pair.cu",
            "barrier_wait(m.landed(stage.slot), stage.parity);",
            "barrier_wait(m.landed(stage.slot), stage.parity ^ 1);"
        ),
        "",
    ),
    (
        "a stage that is given back before the store has read it",
        edit!(
            "hopper_pair.cu",
            "        store_box_wait();\n        barrier_arrive",
            "        barrier_arrive"
        ),
        "",
    ),
    (
        "a store that does not wait for its chunk",
        edit!(
            "hopper_pair.cu",
            "        barrier_wait(m.stages.full(ring.slot), ring.parity);\n",
            ""
        ),
        "",
    ),
    (
        "products that wait for the wrong phase of a stage",
        edit!(
            "hopper_pair.cu",
            "barrier_wait(m.stages.full(stage.slot), stage.parity);",
            "barrier_wait(m.stages.full(stage.slot), stage.parity ^ 1);"
        ),
        "",
    ),
    (
        "a slot that waits for the wrong phase",
        edit!(
            "hopper_pair.cu",
            "barrier_wait(empty(ring.slot), ring.parity ^ 1);",
            "barrier_wait(empty(ring.slot), ring.parity);"
        ),
        "deadlock",
    ),
    (
        "fewer bytes than land",
        edit!(
            "hopper_pair.cu",
            "barrier_expect(filled, bytes);",
            "barrier_expect(filled, bytes - 128);"
        ),
        "bytes are missing",
    ),
    (
        "bands that are given back after the first chunk",
        edit!(
            "hopper_pair.cu",
            "if (last) w.release(m.bands.empty(band.slot));",
            "if (chunk == 0) w.release(m.bands.empty(band.slot));"
        ),
        "",
    ),
    (
        "products that do not wait for a band",
        edit!(
            "hopper_pair.cu",
            "            barrier_wait(m.bands.full(band.slot), band.parity);\n",
            ""
        ),
        "",
    ),
    (
        "products that are read before the wait",
        edit!("hopper_pair.cu", "            wait_products<0>(acc);\n", ""),
        "",
    ),
    (
        "products without a fence",
        edit!(
            "hopper_pair.cu",
            "            products_fence();\n            multiply(acc[0], m.expand",
            "            multiply(acc[0], m.expand"
        ),
        "no wgmma.fence",
    ),
    (
        "results that are put where a store still reads",
        edit!("hopper_pair.cu", "    if (first) store_box_wait();\n    named", "    named"),
        "",
    ),
    (
        "results that are stored without a fence",
        edit!(
            "hopper_pair.cu",
            "    fence_for_async();\n    named_barrier<1, 128>();\n",
            "    named_barrier<1, 128>();\n"
        ),
        "without fence.proxy.async",
    ),
    (
        "results that are stored before all threads have put them there",
        edit!(
            "hopper_pair.cu",
            "    fence_for_async();\n    named_barrier<1, 128>();\n",
            "    fence_for_async();\n"
        ),
        "",
    ),
    (
        "a block that ends before its stores have read",
        edit!("hopper_pair.cu", "    }\n    store_box_wait();\n}\n", "    }\n}\n"),
        "before its stores had read",
    ),
];

/// The same where weights stay in shared memory.
const KEPT: [(&str, Edit, &str); 1] = [(
    "kept weights that are waited for again",
    edit!(
        "hopper_pair.cu",
        "m.expand.full(weights.slot), a.resident ? 0 : weights.parity",
        "m.expand.full(weights.slot), weights.parity"
    ),
    "deadlock",
)];

/// The same where weights are loaded for each tile, and there are two groups of outputs.
const LOADED: [(&str, Edit, &str); 6] = [
    (
        "loaded weights of the first phase of a slot",
        edit!(
            "hopper_pair.cu",
            "m.reduce.full(weights.slot), a.resident ? 0 : weights.parity",
            "m.reduce.full(weights.slot), 0"
        ),
        "",
    ),
    (
        "the weights of the first group of outputs for both",
        edit!(
            "hopper_pair.cu",
            "m.reduce.at(weights.slot) + group * EXPAND_BYTES",
            "m.reduce.at(weights.slot)"
        ),
        "",
    ),
    (
        "the weights of the first chunk for all",
        edit!("hopper_pair.cu", "&a.reduce_weights, chunk * CHUNK, 0,", "&a.reduce_weights, 0, 0,"),
        "",
    ),
    (
        "more registers than there are",
        edit!("hopper_pair.cu", "take_registers<224>", "take_registers<232>"),
        "more registers",
    ),
    (
        "loaded weights that are used before they have landed",
        edit!(
            "hopper_pair.cu",
            "            barrier_wait(m.reduce.full(weights.slot), a.resident ? 0 : weights.parity);\n",
            ""
        ),
        "",
    ),
    (
        "weights that land where products still read",
        edit!(
            "hopper_pair.cu",
            "            wait_products<0>(acc);\n            w.release(m.expand.empty(weights.slot));\n            if (last) w.release(m.bands.empty(band.slot));\n            weights.advance();\n            band.advance();\n        }\n",
            "            wait_products<1>(acc);\n            w.release(m.expand.empty(weights.slot));\n            if (last) w.release(m.bands.empty(band.slot));\n            weights.advance();\n            band.advance();\n        }\n        wait_products<0>(acc);\n"
        ),
        "",
    ),
];

/// The same with two stages.
const TIGHT: [(&str, Edit, &str); 2] = [
    (
        "a stage that only waits for its store",
        edit!("hopper_pair.cu", "stages.init(WARPS, WARPS + 1)", "stages.init(WARPS, 1)"),
        "",
    ),
    (
        "a stage that is given back before the products have read it",
        edit!(
            "hopper_pair.cu",
            "wait_products<0>(acc[group]);\n            w.release(m.stages.empty(stage.slot));\n            w.release(m.reduce.empty(weights.slot));\n            stage.advance();\n            weights.advance();\n        }\n",
            "wait_products<1>(acc[group]);\n            w.release(m.stages.empty(stage.slot));\n            w.release(m.reduce.empty(weights.slot));\n            stage.advance();\n            weights.advance();\n        }\n        UNROLL for (int group = 0; group < OUTPUT_GROUPS; group++) wait_products<0>(acc[group]);\n"
        ),
        "",
    ),
];

#[test]
fn every_planted_fault_of_two_convolutions_is_noticed() {
    all_are_noticed(&FAULTS, |edit| edited(SHAPES[3], edit));
    all_are_noticed(&KEPT, |edit| edited(SHAPES[3], edit));
    all_are_noticed(&LOADED, |edit| edited(SHAPES[6], edit));
    all_are_noticed(&TIGHT, |edit| edited(SHAPES[9], edit));
}

/// Infinity times the weights of a padded channel, which are zeros, is NaN.
#[test]
fn padded_channels_between_two_convolutions_must_be_zeros() {
    let edit: Edit = edit!("results.cuh", "if (channel >= e.channels) v[odd] = 0.0f;", "");
    let Some(noticed) = edited(SHAPES[2], edit) else { return };
    assert!(noticed.differs, "{noticed:?}");
}

#[test]
fn a_gpu_that_computes_two_convolutions_wrongly_is_noticed_before_it_is_used() {
    let Some(mut host) = lab::emulated() else { return };
    for precision in [Precision::Bf16, Precision::F16] {
        assert!(pairs_are_right(&mut host, precision).unwrap(), "{precision}");
    }
    let wrong: [Edit; 4] = [
        edit!("hopper_pair.cu", "m.reduce.at(weights.slot) + group", "m.reduce.at(0) + group"),
        edit!(
            "hopper_pair.cu",
            "&source.weights, first, chunk * CHUNK",
            "&source.weights, 0, chunk * CHUNK"
        ),
        edit!("hopper_pair.cu", "a.expand, a.has_residual);", "a.expand, false);"),
        edit!("results.cuh", "linear.activate(sum);", "linear.activate(sum + 1.0f);"),
    ];
    for (at, edit) in wrong.into_iter().enumerate() {
        let mut host = lab::emulated().unwrap().edited(edit);
        assert!(!pairs_are_right(&mut host, Precision::Bf16).unwrap(), "edit {at}");
        assert!(pairs_are_right(&mut host, Precision::F32).unwrap(), "not asked");
    }
}
