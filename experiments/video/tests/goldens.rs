//! Compares real clips under the official protocols with the results of decord 0.6.0 and OpenCV 4.9, byte
//! for byte.

mod common;

use common::{Npz, clips, ffmpeg};
use files::sha256;
use video::dataset::{Dataset, Mode};
use video::decode::{Decoder, Limits};
use video::{normalize, views};

const CASES: [(&str, &str); 3] = [
    ("R6llTwEh07w.mp4", "golden_R6llTwEh07w.npz"),
    ("decord_video_90.mov", "golden_decord_video_90.npz"),
    ("paddle_example.avi", "golden_paddle_example.npz"),
];

#[test]
fn one_view_of_kinetics_is_the_same_bytes_at_every_step() {
    let (Some(clips), Some(ffmpeg)) = (clips(), ffmpeg()) else { return };
    for (clip, golden) in CASES {
        let mut golden = Npz::open(&clips.join(golden));
        let protocol = Dataset::K400.protocol(Mode::Val);
        let path = clips.join(clip);
        let views = views::load_whole(&ffmpeg, &path, &protocol, Limits::default()).unwrap();
        assert_eq!(views.frames, golden.numbers("total_frames")[0], "{clip}");
        assert_eq!(views.indexes[0], golden.numbers("val_frame_inds"), "{clip}");
        assert_eq!([views.resized.1, views.resized.0][..], golden.numbers("val_resized_hw"));
        assert_eq!([views.corners[0].0, views.corners[0].1][..], golden.numbers("val_crop_xy"));
        let hashes = |frames: &std::collections::BTreeMap<usize, video::Frame>| -> Vec<String> {
            views.indexes[0].iter().map(|index| sha256(&frames[index].data)).collect()
        };
        assert_eq!(hashes(&views.decoded), golden.hashes("val_decoded_sha256"), "{clip} decoded");
        assert_eq!(hashes(&views.small), golden.hashes("val_resized_sha256"), "{clip} resized");
        let pixels = views.pixels(0);
        assert!(pixels == golden.bytes("val_uint8_thwc"), "{clip}: the view differs");
        let mut input = vec![];
        normalize::append(&pixels, &mut input);
        let bytes: Vec<u8> = input.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!([sha256(&bytes)][..], golden.hashes("val_norm_cthw_sha256"), "{clip}");
    }
}

#[test]
fn every_view_of_the_other_protocols_is_the_same_bytes() {
    let (Some(clips), Some(ffmpeg)) = (clips(), ffmpeg()) else { return };
    let protocols = [
        ("k400test", Dataset::K400.protocol(Mode::Test)),
        ("hmdbval", Dataset::Hmdb51.protocol(Mode::Val)),
        ("hmdbtest", Dataset::Hmdb51.protocol(Mode::Test)),
    ];
    for (clip, golden) in CASES {
        let mut golden = Npz::open(&clips.join(golden));
        for (name, protocol) in &protocols {
            let path = clips.join(clip);
            let views = views::load(&ffmpeg, &path, protocol, Limits::default()).unwrap();
            let indexes: Vec<usize> = views.indexes.iter().flatten().copied().collect();
            assert_eq!(indexes, golden.numbers(&format!("{name}_frame_inds")), "{clip} {name}");
            let corners: Vec<usize> = views.corners.iter().flat_map(|&(x, y)| [x, y]).collect();
            assert_eq!(corners, golden.numbers(&format!("{name}_crop_xy")), "{clip} {name}");
            let hashes: Vec<String> =
                (0..views.len()).map(|view| sha256(&views.pixels(view))).collect();
            assert_eq!(hashes, golden.hashes(&format!("{name}_view_sha256")), "{clip} {name}");
        }
    }
}

/// The numbers of frames are those that `manifest.json` has for ffmpeg.
#[test]
fn every_clip_gives_all_of_its_frames() {
    let (Some(clips), Some(ffmpeg)) = (clips(), ffmpeg()) else { return };
    let frames = [
        ("R6llTwEh07w.mp4", 303, (340, 256)),
        ("TrumanShow_wave_f_nm_np1_fr_med_26.avi", 48, (432, 240)),
        ("decord_video_90.mov", 3, (320, 568)),
        ("mdn_water.webm", 90, (480, 360)),
        ("mp_fire2.mp4", 25, (1280, 720)),
        ("nasa_13013.mp4", 390, (480, 270)),
        ("derived_odd_341x255.avi", 20, (341, 255)),
        ("paddle_example.avi", 131, (320, 240)),
    ];
    for (clip, wanted, size) in frames {
        let mut decoder = Decoder::open(&ffmpeg, &clips.join(clip), Limits::default()).unwrap();
        let mut count = 0;
        while let Some(frame) = decoder.next_frame().unwrap() {
            assert_eq!((frame.width, frame.height), size, "{clip}");
            count += 1;
        }
        assert_eq!(count, wanted, "{clip}");
    }
}
