//! Kernels without tiles: import, depthwise convolution, max-pool, average pool.

use cuda::device::host::SCHEDULES;
use cuda::kernels::{File, Variant, average_pool, depthwise, import, maxpool};
use spec::Precision;

use crate::bands;
use crate::lab::{self, Lab, PRECISIONS};

/// Images, height, width, channels.
const SHAPES: [(usize, usize, usize, usize); 5] =
    [(1, 1, 1, 1), (1, 2, 2, 3), (2, 5, 7, 19), (3, 9, 4, 8), (1, 16, 17, 70)];

#[test]
fn import_turns_planes_into_pixels() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        let in_groups = [(2, 2, 2, 3, 2), (3, 6, 20, 48, 2)];
        let alone =
            SHAPES.map(|(images, height, width, planes)| (images, height, width, planes, 1));
        for (images, height, width, planes, group) in alone.into_iter().chain(in_groups) {
            let (pixels, pitch) = (height * width, lab::pitch(precision, planes));
            let values = lab::pseudo_random(images * planes * pixels, 1);
            let clip = lab::upload_f32(lab.device(), &values);
            let out = lab::allocate(lab.device(), precision, images * pixels * pitch);
            let args = import::Args {
                clip: clip.address,
                out: out.address,
                images: images as i32,
                pixels: pixels as i32,
                planes: planes as i32,
                pitch: pitch as i32,
                width: width as i32,
                group: group as i32,
            };
            let variant = Variant::new(File::Import, precision);
            lab::run(lab.device(), &variant, import::grid(&args), &args).unwrap();
            let at = |pixel: usize, plane: usize| {
                values[(pixel / pixels * planes + plane) * pixels + pixel % pixels]
            };
            let positions = (0..images * pixels).flat_map(|p| (0..planes).map(move |c| (p, c)));
            let want: Vec<f64> = positions
                .map(|(p, c)| lab::stored(precision, f64::from(at(p, c) as f32)))
                .collect();
            let want = bands::grouped(&want, (height, width), group, planes);
            let want: Vec<(f64, f64)> = want.into_iter().map(|v| (v, 0.0)).collect();
            let got = lab::download_stored(lab.device(), precision, &out);
            lab::compare(&format!("{precision}"), &got, &want, planes, pitch);
        }
    }
}

#[test]
fn depthwise_sums_four_pixels_of_each_channel() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        for (images, height, width, channels) in SHAPES {
            if height < 2 || width < 2 {
                continue;
            }
            let pitch = lab::pitch(precision, channels);
            let (oh, ow) = (height / 2, width / 2);
            let x = lab::pseudo_random(images * height * width * channels, 1);
            let x: Vec<f64> = x.into_iter().map(|v| lab::stored(precision, v)).collect();
            let w: Vec<f64> = lab::pseudo_random(4 * channels, 2)
                .into_iter()
                .map(|v| f64::from(v as f32))
                .collect();
            let from = lab::upload_stored(
                lab.device(),
                precision,
                &lab::pad_channels(&x, channels, pitch),
            );
            let weights = lab::upload_f32(lab.device(), &lab::pad_channels(&w, channels, pitch));
            let out = lab::allocate(lab.device(), precision, images * oh * ow * pitch);
            let args = depthwise::Args {
                x: from.address,
                weights: weights.address,
                images: images as i32,
                height: height as i32,
                width: width as i32,
                out_height: oh as i32,
                out_width: ow as i32,
                unused: 0,
                epilogue: lab::epilogue_to(&out, channels, pitch, oh * ow),
            };
            let variant = Variant::new(File::Depthwise, precision);
            lab::run(lab.device(), &variant, depthwise::grid(&args, precision), &args).unwrap();
            let positions = (0..images * oh * ow).flat_map(|p| (0..channels).map(move |c| (p, c)));
            let want: Vec<(f64, f64)> = positions
                .map(|(p, c)| {
                    let (image, y, x0) = (p / (oh * ow), p / ow % oh * 2, p % ow * 2);
                    let term = |i: usize| {
                        let at = (image * height + y + i / 2) * width + x0 + i % 2;
                        x[at * channels + c] * w[i * channels + c]
                    };
                    let sum: f64 = (0..4).map(term).sum();
                    let size = (0..4).map(|i| term(i).abs()).sum();
                    (sum, lab::tolerance(precision, 4, size, sum))
                })
                .collect();
            let got = lab::download_stored(lab.device(), precision, &out);
            lab::compare(&format!("{precision}"), &got, &want, channels, pitch);
        }
    }
}

#[test]
fn max_pool_takes_the_largest_of_nine_and_zero_and_keeps_nan() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        for (images, height, width, channels) in SHAPES {
            let pitch = lab::pitch(precision, channels);
            let (oh, ow) = (height.div_ceil(2), width.div_ceil(2));
            let x = lab::pseudo_random(images * height * width * channels, 1);
            let mut x: Vec<f64> = x.into_iter().map(|v| lab::stored(precision, v)).collect();
            let middle = x.len() / 2;
            x[middle] = f64::NAN;
            x[0] = f64::INFINITY;
            let from = lab::upload_stored(
                lab.device(),
                precision,
                &lab::pad_channels(&x, channels, pitch),
            );
            let out = lab::allocate(lab.device(), precision, images * oh * ow * pitch);
            let args = maxpool::Args {
                x: from.address,
                images: images as i32,
                height: height as i32,
                width: width as i32,
                out_height: oh as i32,
                out_width: ow as i32,
                unused: 0,
                epilogue: lab::epilogue_to(&out, channels, pitch, oh * ow),
            };
            let variant = Variant::new(File::MaxPool, precision);
            lab::run(lab.device(), &variant, maxpool::grid(&args, precision), &args).unwrap();
            let positions = (0..images * oh * ow).flat_map(|p| (0..channels).map(move |c| (p, c)));
            let want: Vec<(f64, f64)> = positions
                .map(|(p, c)| {
                    let (image, row, column) = (p / (oh * ow), p / ow % oh, p % ow);
                    let mut maximum = 0.0f64;
                    for y in (2 * row).saturating_sub(1)..(2 * row + 2).min(height) {
                        for at in (2 * column).saturating_sub(1)..(2 * column + 2).min(width) {
                            let v = x[((image * height + y) * width + at) * channels + c];
                            maximum = if v.is_nan() || maximum.is_nan() {
                                f64::NAN
                            } else {
                                maximum.max(v)
                            };
                        }
                    }
                    (maximum, 0.0)
                })
                .collect();
            let got = lab::download_stored(lab.device(), precision, &out);
            lab::compare(&format!("{precision} {height}x{width}"), &got, &want, channels, pitch);
        }
    }
}

#[test]
fn mean_is_right_and_its_bits_do_not_depend_on_the_schedule() {
    let Some(mut lab) = Lab::open() else { return };
    for precision in PRECISIONS {
        for (images, height, width, channels) in SHAPES {
            let (pixels, pitch) = (height * width, lab::pitch(precision, channels));
            let x = lab::pseudo_random(images * pixels * channels, 1);
            let x: Vec<f64> = x.into_iter().map(|v| lab::stored(precision, v)).collect();
            let from = lab::upload_stored(
                lab.device(),
                precision,
                &lab::pad_channels(&x, channels, pitch),
            );
            let want: Vec<(f64, f64)> = (0..images * channels)
                .map(|at| {
                    let (image, c) = (at / channels, at % channels);
                    let all = (0..pixels).map(|p| x[(image * pixels + p) * channels + c]);
                    let size: f64 = all.clone().map(f64::abs).sum::<f64>() / pixels as f64;
                    let mean = all.sum::<f64>() / pixels as f64;
                    (mean, lab::tolerance(Precision::F32, pixels, size, mean))
                })
                .collect();
            let mut run = |schedule| {
                lab.set_schedule(schedule);
                let out = lab::allocate(lab.device(), Precision::F32, images * pitch);
                let args = average_pool::Args {
                    x: from.address,
                    out: out.address,
                    pixels: pixels as i32,
                    pitch: pitch as i32,
                };
                let variant = Variant::new(File::AveragePool, precision);
                lab::run(
                    lab.device(),
                    &variant,
                    average_pool::grid(&args, images, precision),
                    &args,
                )
                .unwrap();
                lab::download_f32(lab.device(), &out)
            };
            let first = run(SCHEDULES[0]);
            lab::compare(&format!("{precision}"), &first, &want, channels, pitch);
            for schedule in &SCHEDULES[1..] {
                assert_eq!(run(*schedule), first, "{precision} {schedule:?}");
            }
        }
    }
}
