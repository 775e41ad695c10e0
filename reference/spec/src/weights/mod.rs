//! Checkpoints. (Stand-in until the readers land.)
#![allow(missing_docs)]
use std::collections::BTreeMap;
use std::sync::Arc;
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSpec {
    pub name: String,
    pub shape: Vec<usize>,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}
#[derive(Debug, Clone, Default)]
pub struct Weights {
    map: BTreeMap<String, Arc<Param>>,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Formula(u64),
    File(std::path::PathBuf),
}
impl std::str::FromStr for Source {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Ok(match s.strip_prefix("formula:") {
            Some(n) => Source::Formula(n.parse().map_err(|_| "bad seed".to_string())?),
            None => Source::File(s.into()),
        })
    }
}
impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Formula(n) => write!(f, "formula:{n}"),
            Source::File(p) => write!(f, "{}", p.display()),
        }
    }
}
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WeightsError(String);
impl Weights {
    pub fn formula(specs: &[ParamSpec], seed: u64) -> Weights {
        Weights {
            map: specs
                .iter()
                .map(|s| {
                    (
                        s.name.clone(),
                        Arc::new(Param {
                            shape: s.shape.clone(),
                            data: formula::param(&s.name, &s.shape, seed),
                        }),
                    )
                })
                .collect(),
        }
    }
    pub fn load(source: &Source, specs: &[ParamSpec]) -> Result<Weights, WeightsError> {
        match source {
            Source::Formula(n) => Ok(Self::formula(specs, *n)),
            Source::File(_) => Err(WeightsError("not yet".into())),
        }
    }
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.map.get(name).map(|p| &**p)
    }
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Param> {
        self.map.get_mut(name).map(Arc::make_mut)
    }
    pub fn has_head(&self) -> bool {
        self.map.contains_key("fc.weight")
    }
}
pub mod formula {
    fn fnv(t: &str) -> u64 {
        t.bytes().fold(0xCBF29CE484222325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100000001B3))
    }
    pub fn uniform(name: &str, n: usize, seed: u64) -> Vec<f32> {
        let s = fnv(name) ^ seed;
        (0..n as u64)
            .map(|i| {
                let mut z = s
                    .wrapping_add(i.wrapping_mul(0x9E3779B97F4A7C15))
                    .wrapping_add(0x9E3779B97F4A7C15);
                z = (z ^ (z >> 30)).wrapping_mul(0xBF58476D1CE4E5B9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94D049BB133111EB);
                z ^= z >> 31;
                ((z >> 40) as f64 / (1u64 << 24) as f64) as f32
            })
            .collect()
    }
    pub fn input(n: usize, seed: u64) -> Vec<f32> {
        uniform("input", n, seed).into_iter().map(|u| (f64::from(u) * 4.0 - 2.0) as f32).collect()
    }
    pub fn param(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
        let full = match name.strip_prefix("fc.") {
            Some(l) => format!("cls_head.fc_cls.{l}"),
            None => format!("backbone.net.{name}"),
        };
        let leaf = name.rsplit('.').next().unwrap();
        let n: usize = shape.iter().product();
        let fan: usize = shape[1..].iter().product();
        uniform(&full, n, seed)
            .into_iter()
            .map(|u| {
                let u = f64::from(u);
                (if leaf == "running_var" || (leaf == "weight" && shape.len() == 1) {
                    0.5 + u
                } else if leaf == "pos_embed" {
                    (2.0 * u - 1.0) * 0.5
                } else if leaf == "weight" {
                    (2.0 * u - 1.0) * (3.0 / fan as f64).sqrt()
                } else {
                    (u - 0.5) * 0.2
                }) as f32
            })
            .collect()
    }
}
pub mod names;
