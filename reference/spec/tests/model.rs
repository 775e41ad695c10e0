//! The description of the network against the paper and the published programs.

use spec::{Config, ConfigError, Model, PosEmbed, Selection};

fn model(config: Config) -> Model {
    Model::new(config).unwrap()
}

#[test]
fn default_has_the_published_size() {
    let m = model(Config::default());
    assert_eq!(format!("{:.2}", m.backbone_params() as f64 / 1e6), "28.89");
    assert_eq!(format!("{:.3}", m.macs() as f64 / 1e9), "5.483");
}

#[test]
fn multiplications_are_distributed_as_published() {
    let m = model(Config::default());
    let share = |leaf: &str| {
        let hit = m.modules().iter().filter(|x| x.name.ends_with(leaf));
        100.0 * hit.map(|x| x.macs).sum::<u64>() as f64 / m.macs() as f64
    };
    assert_eq!(format!("{:.1}", share("short_conv")), "33.7");
    assert_eq!(format!("{:.1}", share("conv3")), "15.0");
    assert_eq!(format!("{:.1}", share("shortcut_conv.0")), "6.6");
    assert_eq!(format!("{:.1}", share("temporal_conv")), "3.7");
    assert_eq!(format!("{:.1}", share("glo_conv.3")), "3.2");
}

#[test]
fn ctl_aliases_count_in_order_of_execution() {
    let m = model(Config::default());
    let alias = |name: &str| m.find(name).unwrap().alias.clone();
    assert_eq!(alias("layer1.2.conv2").as_deref(), Some("ctl3"));
    assert_eq!(alias("layer4.2.conv2").as_deref(), Some("ctl16"));
    assert_eq!(m.ctls().count(), 16);
    let basic = model(Config { depth: 18, ..Config::default() });
    assert_eq!(basic.find("layer1.0.conv1").unwrap().alias.as_deref(), Some("ctl1"));
    assert_eq!(basic.ctls().count(), 16);
}

#[test]
fn widths_truncate_as_python_int_does() {
    let m = model(Config { width: 0.3, ..Config::default() });
    let widths: Vec<usize> = (0..4).map(|stage| m.config.channels(stage)).collect();
    assert_eq!(widths, [19, 38, 76, 153]);
}

#[test]
fn first_ctl_of_a_basic_block_has_pos_dim_7() {
    let m = model(Config { depth: 18, ..Config::default() });
    let dims: Vec<usize> = m.ctls().map(|c| c.spatial_conv.pos_embed.dim).collect();
    assert_eq!(dims[..6], [7, 56, 7, 56, 7, 28]);
}

#[test]
fn every_depth_builds_at_odd_sizes_and_ids_are_indices() {
    for (depth, ..) in spec::config::DEPTHS {
        for size in [(57, 65), (29, 29), (224, 31)] {
            let m = model(Config { depth, size, ..Config::default() });
            assert!(m.modules().iter().enumerate().all(|(at, x)| x.id.0 == at));
            assert!(m.modules().iter().all(|x| x.shape.iter().all(|&s| s > 0)), "{depth} {size:?}");
        }
    }
}

#[test]
fn an_input_that_is_too_small_is_refused() {
    let error = Model::new(Config { size: (28, 224), ..Config::default() }).unwrap_err();
    assert!(matches!(error, ConfigError::TooSmall { map_h: 1, .. }), "{error}");
    assert!(error.to_string().contains("28x224"), "{error}");
}

#[test]
fn numbers_out_of_range_are_refused() {
    for config in [
        Config { depth: 51, ..Config::default() },
        Config { width: f64::NAN, ..Config::default() },
        Config { width: 1e9, ..Config::default() },
        Config { width: 0.001, ..Config::default() },
        Config { frames: 0, ..Config::default() },
        Config { size: (0, 9), ..Config::default() },
        Config { classes: usize::MAX, ..Config::default() },
        Config { pos_dim: [0, 1, 1, 1], ..Config::default() },
    ] {
        assert!(Model::new(config.clone()).is_err(), "{config:?}");
    }
}

#[test]
fn modules_are_selected_by_name_prefix_alias_and_block() {
    let m = model(Config::default());
    let pick = |names: &[&str]| Selection::by_names(m.modules(), names.iter().copied());
    assert_eq!(pick(&["conv1"]).unwrap().len(), 1);
    assert_eq!(pick(&["ctl3"]).unwrap(), pick(&["layer1.2.conv2"]).unwrap());
    assert_eq!(pick(&["logits"]).unwrap(), pick(&["fc"]).unwrap());
    assert!(pick(&["layer1"]).unwrap().len() > pick(&["layer1.0"]).unwrap().len());
    assert_eq!(pick(&["stem"]).unwrap().len(), 4);
    let error = pick(&["clt3"]).unwrap_err().to_string();
    assert!(error.contains("did you mean ctl3"), "{error}");
    let error = pick(&["layer1.0.conv2.spatial_con"]).unwrap_err().to_string();
    assert!(error.contains("layer1.0.conv2.spatial_conv"), "{error}");
}

#[test]
fn settings_are_parsed() {
    let mut semantics = spec::Semantics::default();
    semantics.set("pos_embed=flax").unwrap();
    assert_eq!(semantics.pos_embed, PosEmbed::Flax);
    semantics.set("tfc=off").unwrap();
    assert!(!semantics.tfc);
    assert!(semantics.set("tfc=maybe").unwrap_err().to_string().contains("tfc=maybe"));
}
