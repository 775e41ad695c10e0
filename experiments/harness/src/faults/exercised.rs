//! Which known mistakes a run could not have seen.

use spec::{Config, Model, ModuleId};

use super::catalogue::Fault;
use super::edit::Change;
use super::ground::Ground;
use super::reach::first_shown;

/// A mistake that would have changed no compared value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotExercised {
    /// Its word in the catalogue.
    pub word: &'static str,
    /// The mistake in words.
    pub what: &'static str,
    /// A frame size, HxW, at which it would change a value.
    pub try_size: Option<String>,
}

/// Frame sizes that between them exercise what depends on the size: odd maps and maps of one pixel,
/// even maps, and maps that fit the embedding or do not.
pub const SIZES: [(usize, usize); 6] =
    [(57, 65), (64, 64), (72, 88), (96, 96), (224, 224), (225, 225)];

/// Every mistake of the catalogue that changes no value in this model, or none that was compared.
/// Where only values tell whether a mistake changes something (ReLU6), it counts as exercised; one
/// that this network cannot have at any size (align_corners on, where it is) is left out.
pub fn not_exercised(model: &Model, compared: &dyn Fn(ModuleId) -> bool) -> Vec<NotExercised> {
    let ground = Ground::new(model);
    let seen = |change: &Change| first_shown(&ground, change, compared).is_some();
    let mut found = vec![];
    for fault in Fault::ALL {
        let places = fault.places_on(&ground);
        let size = if places.is_empty() { try_size(fault, model) } else { None };
        // What this network has a place for was not compared; what it has none for may have one at
        // another size.
        if size.is_some() || (!places.is_empty() && !places.iter().any(seen)) {
            found.push(NotExercised { word: fault.word, what: fault.what, try_size: size });
        }
    }
    found
}

/// The first frame size, other than the model's own, at which a mistake would change a result.
pub fn try_size(fault: &Fault, model: &Model) -> Option<String> {
    let others = SIZES.into_iter().filter(|size| *size != model.config.size);
    let model_of = |size| Model::new(Config { size, ..model.config.clone() }).ok();
    let fits = |size: &(usize, usize)| {
        model_of(*size).is_some_and(|model| !fault.places(&model).is_empty())
    };
    let (height, width) = others.into_iter().find(fits)?;
    Some(format!("{height}x{width}"))
}
