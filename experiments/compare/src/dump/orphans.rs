//! Arrays of unknown names that may hold the output of a module of which the dump seems to have none.

use spec::names::canonical_module;
use spec::{Model, Module, ModuleId, Selection, Tensor};

use super::layout::Order;
use super::names::Meaning;
use super::{Dump, MapOrder, State};

impl Dump {
    /// The arrays of unknown names that have the shape of the network's output, with their values.
    pub fn like_the_output(&self, model: &Model) -> Vec<(String, Tensor)> {
        let shape = model.module(model.output()).batch_shape(self.batch);
        let unknown = self.arrays.iter().filter(|array| {
            matches!(array.state, State::Unknown) && array.meaning == Meaning::Unknown
        });
        let alike =
            unknown.filter(|array| self.npz.shape(&array.name).is_ok_and(|found| found == shape));
        let read = |name: &String| self.npz.read(name, shape.iter().product()).ok()?.ok();
        alike.filter_map(|array| Some((array.name.clone(), read(&array.name)?))).collect()
    }
}

/// A selected module that an array with an unknown name may show: no array bears the module's name, and this one
/// has its shape. The array's name must also end with the module's, behind the prefix of some wrapper, unless names
/// are in a map, which then has to say something of every array.
pub(super) fn may_show<'m>(
    dump: &Dump,
    model: &'m Model,
    index: usize,
    selection: &Selection,
) -> Option<&'m Module> {
    let array = &dump.arrays[index];
    if array.meaning != Meaning::Unknown {
        return None;
    }
    let shape = dump.npz.shape(&array.name).ok()?;
    let canonical = canonical_module(&array.name);
    let named = |module: &Module| canonical.ends_with(&format!(".{}", module.name));
    let lacking = |id: ModuleId| dump.arrays.iter().all(|other| other.meaning.module() != Some(id));
    let channels_last = dump.order == MapOrder::Nhwc;
    let fits = |module: &Module| {
        Order::detect(&shape, &module.batch_shape(dump.batch), channels_last).is_some()
    };
    let candidates = model.modules().iter().filter(|m| m.id != model.input);
    let mut candidates = candidates.filter(|m| dump.mapped || named(m));
    candidates.find(|m| selection.contains(m.id) && lacking(m.id) && fits(m))
}
