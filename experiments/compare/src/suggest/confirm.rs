//! What the readers of a module say about a pair by order.
//!
//! The truth runs once more without the pairs by order. If the port has another value at a module than
//! the truth, the modules that read it agree with the port only if they are fed the port's value. If
//! they agree without it, the port's value there is right, and the array is something else.

use anyhow::Result;
use spec::ModuleId;

use super::targets::{FACTOR, Scores};
use super::{Found, Ordered, Search};

/// A reader agrees if its correlation is at least this.
const AGREES: f64 = 0.999;

/// What the readers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// They agree only if they are fed the array.
    Yes,
    /// They agree without it.
    No,
    /// There are no readers, or they agree in neither case.
    Unknown,
}

impl Search<'_> {
    /// Asks the readers about every pair by order, and keeps those pairs that they confirm or that their
    /// place alone decides.
    pub(super) fn confirm(&mut self, mut found: Found) -> Result<Found> {
        let Some(fed) = found.scores.take() else { return Ok(found) };
        if found.ordered.is_empty() {
            return Ok(Found { scores: Some(fed), ..found });
        }
        let control = self.scores(&self.fed(&found, false))?;
        // Without the pairs by order some arrays may match better than with them.
        for (array, clear) in self.clear(&control) {
            if found.ordered.contains_key(&array) && !found.doubles.contains_key(&array) {
                found.clear.entry(array).or_insert(clear);
            }
        }
        found.ordered.retain(|array, _| !found.clear.contains_key(array));
        let before = found.ordered.clone();
        found.ordered.retain(|array, pair| {
            let answer = self.ask(pair.module, &found.clear, &before, (&fed, &control));
            pair.confirmed = answer == Answer::Yes;
            // An array with the values of another one is a double of that one, if nothing says more.
            let alone = pair.complete && !found.doubles.contains_key(array);
            pair.confirmed || (answer == Answer::Unknown && alone)
        });
        let refused = before.iter().filter(|(array, _)| !found.ordered.contains_key(array));
        self.refused.extend(refused.map(|(array, pair)| (*array, pair.module)));
        let scores = if before.len() == found.ordered.len() {
            fed
        } else {
            self.scores(&self.fed(&found, true))?
        };
        Ok(Found { scores: Some(scores), ..found })
    }

    /// What the modules that read `id` say. Readers without an array pass the question on.
    fn ask(
        &self,
        id: ModuleId,
        clear: &std::collections::BTreeMap<usize, super::Clear>,
        ordered: &std::collections::BTreeMap<usize, Ordered>,
        (fed, control): (&Scores, &Scores),
    ) -> Answer {
        let array_of = |module: ModuleId| {
            let by_value = clear.iter().find(|(_, c)| c.target.module() == module);
            let by_order = ordered.iter().find(|(_, pair)| pair.module == module);
            let by_name =
                self.arrays.items.iter().position(|item| item.known.first() == Some(&module));
            by_value.map(|(array, _)| *array).or(by_order.map(|(array, _)| *array)).or(by_name)
        };
        let mut queue = self.graph.readers(id).to_vec();
        let (mut seen, mut answers) = (std::collections::BTreeSet::new(), vec![]);
        while let Some(reader) = queue.pop() {
            if !seen.insert(reader) {
                continue;
            }
            match array_of(reader) {
                None => queue.extend(self.graph.readers(reader)),
                Some(array) => answers.push((fed.at(array, reader), control.at(array, reader))),
            }
        }
        let improves = |(with, without): &(f64, f64)| {
            *with >= AGREES && (1.0 - with) * FACTOR <= 1.0 - without
        };
        let agrees = |(_, without): &(f64, f64)| *without >= AGREES;
        match answers.is_empty() {
            true => Answer::Unknown,
            false if answers.iter().any(improves) => Answer::Yes,
            false if answers.iter().all(agrees) => Answer::No,
            false => Answer::Unknown,
        }
    }
}
