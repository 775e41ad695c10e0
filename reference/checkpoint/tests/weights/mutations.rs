//! A checkpoint with one wrong tensor is refused, or loads with exactly the wrong values of that tensor.

use checkpoint::Weights;
use spec::{Config, Model, ParamSpec};

use crate::fixtures::safetensors;
use crate::writers::{Named, bare_pth, npz};

fn specs() -> Vec<ParamSpec> {
    // The network is small, because its checkpoint is read some ten thousand times.
    let config = Config {
        depth: 10,
        width: 0.0625,
        frames: 2,
        size: (40, 33),
        classes: 5,
        pos_dim: [5, 4, 3, 2],
        ..Config::default()
    };
    Model::new(config).unwrap().parameters().to_vec()
}

/// A change of the tensor at an index; `None` if the change does not apply to that tensor.
type Mutation = fn(&mut Vec<Named>, usize) -> Option<()>;

/// The name of each mutation, whether the file may load (with only that tensor changed), and the
/// mutation.
const MUTATIONS: [(&str, bool, Mutation); 13] = [
    ("dropped", false, |all, at| {
        all.remove(at);
        Some(())
    }),
    ("renamed", false, |all, at| {
        all[at].0.push_str("_old");
        Some(())
    }),
    ("put into an unknown container", false, |all, at| {
        all[at].0.insert_str(0, "extra.");
        Some(())
    }),
    ("swapped", true, |all, at| {
        let same = |n: usize| all[n].1 == all[at].1 && all[n].2 != all[at].2;
        let other = (0..all.len()).find(|&n| same(n))?;
        let values = all[at].2.clone();
        all[at].2 = std::mem::replace(&mut all[other].2, values);
        Some(())
    }),
    ("transposed", false, |all, at| {
        let [a, b, ..] = all[at].1[..] else { return None };
        (a != b).then(|| all[at].1.swap(0, 1))
    }),
    ("transposed in a square", true, |all, at| {
        let [a, b, rest @ ..] = &all[at].1[..] else { return None };
        let (n, kernel) = (*a, rest.iter().product::<usize>());
        if a != b || *a == 1 {
            return None;
        }
        let old = all[at].2.clone();
        for (y, x) in (0..n).flat_map(|y| (0..n).map(move |x| (y, x))) {
            let (to, from) = ((y * n + x) * kernel, (x * n + y) * kernel);
            all[at].2[to..to + kernel].copy_from_slice(&old[from..from + kernel]);
        }
        Some(())
    }),
    ("scaled", true, |all, at| {
        all[at].2.iter_mut().for_each(|x| *x *= 1.001);
        Some(())
    }),
    ("with one NaN", false, |all, at| {
        let middle = all[at].2.len() / 2;
        all[at].2[middle] = f32::NAN;
        Some(())
    }),
    ("zeroed", true, |all, at| {
        all[at].2.fill(0.0);
        Some(())
    }),
    ("emptied", false, |all, at| {
        (all[at].1, all[at].2) = (vec![0], vec![]);
        Some(())
    }),
    ("of a wrong rank", false, |all, at| {
        all[at].1.insert(0, 1);
        Some(())
    }),
    ("doubled under another prefix", false, |all, at| {
        let (name, shape, values) = all[at].clone();
        let values = values.iter().map(|x| x * 2.0).collect();
        all.push((format!("backbone.net.{name}"), shape, values));
        Some(())
    }),
    ("doubled under another prefix, before it", false, |all, at| {
        let (name, shape, values) = all[at].clone();
        let values = values.iter().map(|x| x * 2.0).collect();
        all.insert(0, (format!("module.{name}"), shape, values));
        Some(())
    }),
];

fn write_all(tensors: &[Named]) -> [(&'static str, Vec<u8>); 3] {
    let list: Vec<_> =
        tensors.iter().map(|(n, s, v)| (n.as_str(), s.as_slice(), v.as_slice())).collect();
    [("safetensors", safetensors(&list)), ("npz", npz(tensors)), ("pth", bare_pth(tensors))]
}

#[test]
fn one_wrong_tensor_is_refused_or_loaded_as_it_is() {
    let specs = specs();
    let formula = Weights::formula(&specs, 0);
    let right: Vec<Named> = specs
        .iter()
        .map(|spec| {
            (spec.name.clone(), spec.shape.clone(), formula.get(&spec.name).unwrap().data.clone())
        })
        .collect();
    let load = |bytes: &[u8]| Weights::from_bytes(bytes, "FILE", None, &specs);
    for (format, file) in write_all(&right) {
        let weights = load(&file).unwrap_or_else(|why| panic!("{format}: {why}"));
        assert!(right.iter().all(|(n, _, v)| weights.get(n).unwrap().data == *v), "{format}");
    }
    let (mut refused, mut loaded) = (0, 0);
    for at in 0..right.len() {
        for (what, may_load, mutate) in MUTATIONS {
            let mut wrong = right.clone();
            if mutate(&mut wrong, at).is_none() {
                continue;
            }
            for (format, file) in write_all(&wrong) {
                let what = format!("{format}: {} {what}", right[at].0);
                match load(&file) {
                    Err(_) => refused += 1,
                    Ok(_) if !may_load => panic!("{what} was loaded"),
                    Ok(weights) => {
                        loaded += 1;
                        let same = |(name, _, values): &Named| {
                            weights.get(name).is_some_and(|found| found.data == *values)
                        };
                        assert!(wrong.iter().all(same), "{what}");
                        assert!(!right.iter().all(same), "{what} gave the right values");
                    }
                }
            }
        }
    }
    println!("{refused} refused, {loaded} loaded with the wrong values that they hold");
    assert!(refused > 2000 && loaded > 500, "{refused} refused, {loaded} loaded");
}
