//! Where the numbers of a kernel's argument lie, to compare Rust with C++ field by field.

/// A type of which arguments consist.
pub trait Fields {
    /// Appends the path and the offset in bytes of each number in a value, for a value that has
    /// this path and this offset itself.
    fn append(path: &str, at: usize, out: &mut Vec<(String, usize)>);
}

/// The path and the offset in bytes of each number in a struct.
pub fn offsets<T: Fields>() -> Vec<(String, usize)> {
    let mut out = vec![];
    T::append("", 0, &mut out);
    out
}

macro_rules! number {
    ($($type:ty),*) => {
        $(impl Fields for $type {
            fn append(path: &str, at: usize, out: &mut Vec<(String, usize)>) {
                out.push((path.to_owned(), at));
            }
        })*
    };
}

number!(u64, i32, f32);

impl<T: Fields, const N: usize> Fields for [T; N] {
    fn append(path: &str, at: usize, out: &mut Vec<(String, usize)>) {
        for index in 0..N {
            T::append(&format!("{path}[{index}]"), at + index * size_of::<T>(), out);
        }
    }
}

/// Appends the numbers of the field `name` of a struct `S`; the closure only says which type it has.
pub fn append_field<S, T: Fields>(
    _: impl Fn(&S) -> &T,
    (path, name): (&str, &str),
    at: usize,
    out: &mut Vec<(String, usize)>,
) {
    let dot = if path.is_empty() { "" } else { "." };
    T::append(&format!("{path}{dot}{name}"), at, out);
}

/// Implements [`Fields`] for a struct, of which it must name every field, as in C++.
macro_rules! fields {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::kernels::fields::Fields for $name {
            fn append(path: &str, at: usize, out: &mut Vec<(String, usize)>) {
                // This does not compile if a field is missing.
                let _ = |$name { $($field: _),* }: $name| ();
                $({
                    let at = at + core::mem::offset_of!($name, $field);
                    let names = (path, stringify!($field));
                    $crate::kernels::fields::append_field(|all: &$name| &all.$field, names, at, out);
                })*
            }
        }
    };
}
pub(crate) use fields;
