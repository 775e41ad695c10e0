//! Sums of which the blocks of a cluster have a part each: with the bits of the reduction by another
//! launch, which is compared with float64 in `conv.rs`.

use cuda::device::host::SCHEDULES;
use cuda::device::{Device, Host};
use cuda::kernels::args::Epilogue;
use cuda::kernels::tile::{CLUSTERS, TILES, Tile, Tiling};
use cuda::run::cluster_check::clusters_are_right;
use lower::{Activation, Stage};
use spec::Precision;

use crate::conv::{CASE, CASES, Case, Values, expected_outputs, outputs, upload};
use crate::ctl::Block;
use crate::dense::Map;
use crate::lab::{self, Lab, PRECISIONS};

fn bits(values: Vec<f64>) -> Vec<u64> {
    values.into_iter().map(f64::to_bits).collect()
}

/// A long K, and results of one pixel, of odd sizes, and of more than one tile.
fn cases() -> Vec<Case> {
    let long = Case { inputs: 300, outputs: 19, ..CASE };
    let mut cases = CASES.to_vec();
    cases.extend([
        long,
        Case { images: 3, size: (5, 7), kernel: 3, gated: true, ..long },
        Case { images: 2, size: (9, 9), outputs: 70, ..long },
    ]);
    cases
}

/// Everything that an epilogue has, with an observer of each stage: results, and what was observed.
fn whole_epilogue(
    device: &mut dyn Device,
    case: &Case,
    precision: Precision,
    (tile, splits): (Tile, usize),
) -> Vec<Vec<u64>> {
    let mut values = Values::new(case, precision);
    let middle = values.x.len() / 2;
    values.x[middle] = f64::NAN;
    let uploaded = upload(device, case, precision, &values);
    let (pixels, pitch) = (case.pixels(), lab::pitch(precision, case.outputs));
    let vector = |seed| lab::pseudo_random(pixels * pitch, seed);
    let [scale, bias, factor, addend] =
        [4, 5, 6, 7].map(|seed| lab::upload_f32(device, &vector(seed)));
    let residual = lab::upload_stored(device, precision, &vector(8));
    let observed = Stage::OBSERVABLE.map(|_| lab::allocate(device, Precision::F32, pixels * pitch));
    let full = |epilogue: Epilogue| Epilogue {
        scale: scale.address,
        bias: bias.address,
        factor: factor.address,
        addend: addend.address,
        residual: residual.address,
        activation: Activation::Sigmoid as i32,
        observed: observed.each_ref().map(|memory| memory.address),
        ..epilogue
    };
    let tiling = Tiling { tile, splits };
    let out = outputs(device, case, precision, tiling, (uploaded.source, None), full).unwrap();
    let seen = observed.iter().map(|memory| bits(lab::download_f32(device, memory)));
    std::iter::once(bits(out)).chain(seen.collect::<Vec<_>>()).collect()
}

#[test]
fn a_cluster_gives_the_bits_of_the_reduction_over_edge_shapes() {
    let (Some(mut clusters), Some(mut without)) = (Lab::open(), Lab::open()) else { return };
    without.leave_clusters();
    for precision in PRECISIONS {
        for (at, case) in cases().into_iter().enumerate() {
            // Every tile with every number of splits, not all of them for every shape.
            for (tile, splits) in TILES.into_iter().zip(CLUSTERS.into_iter().cycle().skip(at % 3)) {
                let how = (tile, splits);
                let got = whole_epilogue(clusters.device(), &case, precision, how);
                let want = whole_epilogue(without.device(), &case, precision, how);
                assert!(got == want, "{precision} {case:?} {tile:?} {splits}");
            }
        }
    }
    assert_eq!(clusters.bank_conflicts(), 0, "bank conflicts of ldmatrix");
}

#[test]
fn a_cluster_is_right_and_the_schedule_changes_no_bit() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in [Precision::F32, Precision::Bf16] {
        for (case, splits) in cases()[CASES.len()..].iter().zip(CLUSTERS) {
            let values = Values::new(case, precision);
            let want = expected_outputs(case, precision, &values);
            let uploaded = upload(lab.device(), case, precision, &values);
            let tiling = Tiling { tile: TILES[4], splits };
            let mut first = None;
            for schedule in SCHEDULES {
                lab.set_schedule(schedule);
                let sources = (uploaded.source, None);
                let got = outputs(lab.device(), case, precision, tiling, sources, |e| e).unwrap();
                let what = format!("{precision} {case:?} {splits} {schedule:?}");
                let pitch = lab::pitch(precision, case.outputs);
                lab::compare(&what, &got, &want, case.outputs, pitch);
                let got = bits(got);
                assert!(first.get_or_insert_with(|| got.clone()) == &got, "{what}");
            }
        }
    }
}

#[test]
fn the_schedule_changes_no_bit_of_a_fused_block_in_a_cluster() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in [Precision::F32, Precision::Bf16] {
        for (splits, inputs) in CLUSTERS.into_iter().zip([19, 150, 70]) {
            let shape = ((5, 7), 2, inputs, 38);
            let block = Block::upload(lab.device(), precision, shape);
            let tiling = Tiling { tile: TILES[4], splits };
            let mut run = |schedule| {
                lab.set_schedule(schedule);
                bits(block.run(lab.device(), tiling).unwrap())
            };
            let first = run(SCHEDULES[0]);
            assert!(SCHEDULES[1..].iter().all(|schedule| run(*schedule) == first), "{shape:?}");
        }
    }
}

#[test]
fn the_check_before_clusters_are_used_passes() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        assert!(clusters_are_right(lab.device(), precision).unwrap(), "{precision}");
    }
}

mod faults {
    use super::*;
    use crate::faults::{Edit, Noticed, edit, notice};

    /// A convolution of more than one tile, and the means of its result.
    fn noticed(edit: Edit) -> Option<Noticed> {
        let case = Case { images: 3, size: (5, 7), inputs: 300, outputs: 61, ..CASE };
        let tiling = Tiling { tile: TILES[4], splits: 4 };
        notice(edit, |host: &mut Host| {
            let values = Values::new(&case, Precision::Bf16);
            let uploaded = upload(host, &case, Precision::Bf16, &values);
            let sources = (uploaded.source, None);
            let mut all = outputs(host, &case, Precision::Bf16, tiling, sources, |e| e)?;
            // `Map` panics where a launch fails; the line above has reported that.
            let map =
                Map::new(host, &case, Precision::Bf16, tiling).expect("a share is whole rows");
            all.extend(map.means(host, map.tile_sums, 1));
            Ok(all)
        })
    }

    #[test]
    fn a_gpu_whose_clusters_are_wrong_is_noticed_before_they_are_used() {
        let edits: [Edit; 3] = [
            // As code for a GPU without clusters: nothing is read.
            edit!("tile.cuh", "= read_peer(own + at, rank);", "= {};"),
            // The last block of the largest cluster is missing.
            edit!("tile.cuh", ": sum_of<8>(own)", ": sum_of<7>(own)"),
            // The device refuses the launch.
            edit!("fibers.hpp", "count > MAX_CLUSTER", "count > 4"),
        ];
        for (at, edit) in edits.into_iter().enumerate() {
            let Some(host) = lab::emulated() else { return };
            let mut host = host.edited(edit);
            assert!(!clusters_are_right(&mut host, Precision::Bf16).unwrap(), "edit {at}");
        }
    }

    #[test]
    fn faults_of_clusters_are_noticed() {
        let edits: [(&str, Edit); 9] = [
            (
                "parts are read before all blocks have made them",
                edit!(
                    "tile.cuh",
                    "    sync_cluster();\n    for_each",
                    "    sync_threads();\n    for_each"
                ),
            ),
            (
                "a block ends while others read its part",
                edit!("tile.cuh", "    }\n    sync_cluster();\n}", "    }\n}"),
            ),
            (
                "only one block waits for the others at the end",
                edit!(
                    "tile.cuh",
                    "    }\n    sync_cluster();\n}",
                    "    }\n    if (block_z() == 0) sync_cluster();\n}"
                ),
            ),
            (
                "a block of the cluster is left out",
                edit!("tile.cuh", "rank = 1; rank < N;", "rank = 2; rank < N;"),
            ),
            (
                "a block reads its own part only",
                edit!("tile.cuh", "read_peer(own + at, rank)", "read_peer(own + at, block_z())"),
            ),
            (
                "there is no such block",
                edit!("tile.cuh", "read_peer(own + at, rank)", "read_peer(own + at, rank + 1)"),
            ),
            (
                "shares overlap, so that a result is read as a part",
                edit!("tile.cuh", "begin = block_z() * rows;", "begin = block_z() * rows / 2;"),
            ),
            (
                "rows beyond the result are stored",
                edit!("tile.cuh", "if (place.pixel < extent.pixels && ", "if ("),
            ),
            (
                "rows are summed before another warp has made them",
                edit!(
                    "tile.cuh",
                    "if (tile_sums.sums && begin < pixels) {\n        sync_threads();",
                    "if (tile_sums.sums && begin < pixels) {"
                ),
            ),
        ];
        for (what, edit) in edits {
            let Some(noticed) = noticed(edit) else { return };
            assert!(noticed.differs || !noticed.errors.is_empty(), "{what}: {noticed:?}");
        }
    }

    #[test]
    fn faults_of_a_fused_block_in_a_cluster_are_noticed() {
        let tiling = Tiling { tile: TILES[4], splits: 4 };
        let run = |host: &mut Host| {
            let block = Block::upload(host, Precision::Bf16, ((5, 7), 2, 150, 38));
            block.run(host, tiling)
        };
        let edits: [(&str, Edit); 6] = [
            (
                "parts are read before all blocks have made them",
                edit!(
                    "ctl_cluster.cu",
                    "    sync_cluster();\n    for_each",
                    "    sync_threads();\n    for_each"
                ),
            ),
            (
                "a block ends while others read its parts",
                edit!("ctl_cluster.cu", "    });\n    sync_cluster();\n", "    });\n"),
            ),
            (
                "the parts of one convolution replace those of another",
                edit!("ctl_cluster.cu", "first_output, parts + PART)", "first_output, parts)"),
            ),
            (
                "slots are filled where parts are",
                edit!("ctl_cluster.cu", "PARTS_AT = SLOTS * SLOT_BYTES", "PARTS_AT = 0"),
            ),
            (
                "every block sums all of K",
                edit!("ctl_cluster.cu", "first = block_z() * share", "first = 0"),
            ),
            (
                "the last part of K is left out",
                edit!("ctl_cluster.cu", "if (first < total)", "if (first + share < total)"),
            ),
        ];
        for (what, edit) in edits {
            let Some(noticed) = notice(edit, run) else { return };
            assert!(noticed.differs || !noticed.errors.is_empty(), "{what}: {noticed:?}");
        }
    }

    #[test]
    fn sums_of_the_wrong_share_are_noticed() {
        let edits: [Edit; 2] = [
            edit!("tile.cuh", "first / count, first, rows", "first / BM, first, rows"),
            edit!("tile.cuh", "shared[(begin + row) * OUT_PITCH", "shared[row * OUT_PITCH"),
        ];
        for (at, edit) in edits.into_iter().enumerate() {
            let Some(noticed) = noticed(edit) else { return };
            assert!(noticed.differs, "edit {at}: {noticed:?}");
        }
    }
}
