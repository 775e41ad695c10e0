//! Decides which module each node with weights is: by its weights, and where these fit several modules or
//! none, by its neighbours.

use std::collections::{BTreeMap, BTreeSet};

use checkpoint::Weights;
use rayon::prelude::*;
use spec::{Kind, Model};

use super::anchors::{Anchor, Content};
use super::places::Place;
use super::weigh::{self, Likeness, Norm};

/// What is known about an anchor and a place of the same shape.
pub type Evidence = BTreeMap<(usize, usize), Likeness>;

/// The places of the anchors.
pub struct Alignment {
    /// The place of each anchor, by index; None if it has none.
    pub places: Vec<Option<usize>>,
    /// The likeness of each anchor to every place of its shape.
    pub evidence: Evidence,
    /// Whether the place was decided by the neighbours although the weights are others.
    pub by_graph: BTreeSet<usize>,
}

/// Aligns the anchors of a file with the places of a model.
pub fn align(anchors: &[Anchor], places: &[Place], model: &Model, weights: &Weights) -> Alignment {
    let evidence = evidence(anchors, places, model, weights);
    let mut found =
        Alignment { places: vec![None; anchors.len()], evidence, by_graph: BTreeSet::new() };
    let near = Near::new(places);
    for strength in (1..=3).rev() {
        found.by_weights(strength);
        found.by_neighbours(anchors, places, &near, strength);
    }
    found.by_neighbours(anchors, places, &near, 0);
    found.exchange(anchors, &near);
    found
}

fn evidence(anchors: &[Anchor], places: &[Place], model: &Model, weights: &Weights) -> Evidence {
    let norms: BTreeMap<usize, Norm> =
        (0..places.len()).filter_map(|at| Some((at, norm(&places[at], model, weights)?))).collect();
    let compare = |(a, anchor): (usize, &Anchor)| {
        let mut found = vec![];
        for (p, place) in places.iter().enumerate() {
            let likeness = match &anchor.content {
                Content::Product { shape, values, .. } if *shape == place.shape => {
                    let name = format!("{}.weight", model.module(place.id).name);
                    let Some(param) = weights.get(&name) else { continue };
                    weigh::products(shape, values, &param.to_f64(), anchor.format)
                }
                Content::Norm { scale, shift, parts }
                    if place.kind == Kind::BatchNorm && scale.len() == place.shape[0] =>
                {
                    let Some(ours) = norms.get(&p) else { continue };
                    // The mean of a normalisation may be subtracted elsewhere, which is not the normalisation.
                    if is_shift(anchor) && ours.scale().iter().any(|s| *s != 1.0) {
                        continue;
                    }
                    weigh::norms(scale, shift, parts, ours, anchor.format)
                }
                _ => continue,
            };
            found.push(((a, p), likeness));
        }
        found
    };
    let found: Vec<Vec<_>> = anchors.par_iter().enumerate().map(compare).collect();
    found.into_iter().flatten().collect()
}

pub(super) fn norm(place: &Place, model: &Model, weights: &Weights) -> Option<Norm> {
    let name = &model.module(place.id).name;
    let part = |leaf: &str| Some(weights.get(&format!("{name}.{leaf}"))?.to_f64());
    let parts = [part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?];
    (place.kind == Kind::BatchNorm).then_some(Norm { parts, eps: spec::model::BN_EPS })
}

/// The neighbours of each place. A batch normalisation may be folded away, so what is behind one counts
/// as a neighbour, too.
struct Near {
    before: Vec<BTreeSet<usize>>,
    after: Vec<BTreeSet<usize>>,
}

impl Near {
    fn new(places: &[Place]) -> Self {
        let widened = |of: fn(&Place) -> &BTreeSet<usize>| {
            let wide = |place: &Place| {
                let mut near = of(place).clone();
                for &at in of(place) {
                    if places[at].kind == Kind::BatchNorm {
                        near.extend(of(&places[at]));
                    }
                }
                near
            };
            places.iter().map(wide).collect()
        };
        Near { before: widened(|place| &place.before), after: widened(|place| &place.after) }
    }
}

impl Alignment {
    fn taken(&self) -> BTreeSet<usize> {
        self.places.iter().flatten().copied().collect()
    }

    /// Assigns every anchor whose weights fit exactly one free place, where no other anchor fits as well.
    fn by_weights(&mut self, strength: u32) {
        let taken = self.taken();
        let mut fits: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let mut claims: BTreeMap<usize, usize> = BTreeMap::new();
        for (&(a, p), likeness) in &self.evidence {
            let free = self.places[a].is_none() && !taken.contains(&p);
            if free && likeness.strength() >= strength {
                fits.entry(a).or_default().push(p);
                *claims.entry(p).or_default() += 1;
            }
        }
        for (a, fitting) in fits {
            if let [p] = fitting[..]
                && claims[&p] == 1
            {
                self.places[a] = Some(p);
            }
        }
    }

    /// How many neighbours of an anchor are where the neighbours of a place must be.
    fn agreement(&self, anchors: &[Anchor], near: &Near, a: usize, p: usize) -> usize {
        let count = |neighbours: &BTreeSet<usize>, wanted: &BTreeSet<usize>| {
            let placed = neighbours.iter().filter_map(|&n| self.places[n]);
            placed.filter(|place| wanted.contains(place)).count()
        };
        count(&anchors[a].before, &near.before[p]) + count(&anchors[a].after, &near.after[p])
    }

    /// Assigns the remaining anchors whose likeness is at least this strong to the free place that their
    /// neighbours agree on most, as long as any do.
    fn by_neighbours(&mut self, anchors: &[Anchor], places: &[Place], near: &Near, strength: u32) {
        loop {
            let taken = self.taken();
            let folded = self.folded(places);
            let mut best: Option<(usize, usize, usize)> = None;
            for (a, anchor) in anchors.iter().enumerate() {
                if self.places[a].is_some() || (strength == 0 && is_shift(anchor)) {
                    continue;
                }
                let mut scores: Vec<(usize, usize)> = vec![];
                for (&(_, p), likeness) in self.evidence.range((a, 0)..(a + 1, 0)) {
                    let free = !taken.contains(&p) && (strength > 0 || !folded.contains(&p));
                    if free && likeness.strength() >= strength {
                        scores.push((self.agreement(anchors, near, a, p), p));
                    }
                }
                scores.sort_unstable_by(|x, y| y.cmp(x));
                let second = scores.get(1).map_or(0, |(score, _)| *score);
                if let Some(&(score, p)) = scores.first()
                    && score > second
                    && best.is_none_or(|(most, ..)| score - second > most)
                {
                    best = Some((score - second, a, p));
                }
            }
            let Some((_, a, p)) = best else { return };
            self.places[a] = Some(p);
            if strength == 0 {
                self.by_graph.insert(a);
            }
        }
    }

    /// The batch normalisations that are folded into a convolution.
    fn folded(&self, places: &[Place]) -> BTreeSet<usize> {
        let mut folded = BTreeSet::new();
        for (a, p) in self.places.iter().enumerate() {
            if let Some(p) = *p
                && self.evidence.get(&(a, p)) == Some(&Likeness::Scaled)
                && let Some(norm) = places[p].norm
            {
                folded.extend(places.iter().position(|place| place.id == norm));
            }
        }
        folded
    }

    /// Moves anchors that have the weights of one module but stand where another one is: the weights of
    /// two modules are swapped.
    fn exchange(&mut self, anchors: &[Anchor], near: &Near) {
        let mut moves = vec![];
        for a in 0..anchors.len() {
            let Some(p) = self.places[a] else { continue };
            let own = self.agreement(anchors, near, a, p);
            for (b, q) in self.places.iter().enumerate().skip(a + 1) {
                let Some(q) = *q else { continue };
                if !self.evidence.contains_key(&(a, q)) || !self.evidence.contains_key(&(b, p)) {
                    continue;
                }
                let now = own + self.agreement(anchors, near, b, q);
                let mut other = Alignment {
                    places: self.places.clone(),
                    evidence: BTreeMap::new(),
                    by_graph: BTreeSet::new(),
                };
                other.places.swap(a, b);
                let then =
                    other.agreement(anchors, near, a, q) + other.agreement(anchors, near, b, p);
                if then > now {
                    moves.push((then - now, a, b));
                }
            }
        }
        moves.sort_unstable_by(|x, y| y.cmp(x));
        let mut moved = BTreeSet::new();
        for (_, a, b) in moves {
            if !moved.contains(&a) && !moved.contains(&b) {
                self.places.swap(a, b);
                self.by_graph.extend([a, b]);
                moved.extend([a, b]);
            }
        }
    }
}

/// Whether an anchor only adds numbers, as the sum with an embedding on a map of one pixel does.
fn is_shift(anchor: &Anchor) -> bool {
    match &anchor.content {
        Content::Norm { scale, parts, .. } => parts.len() == 1 && scale.iter().all(|s| *s == 1.0),
        Content::Product { .. } => false,
    }
}
