//! Floats in JSON: numbers when finite, otherwise the strings `"NaN"`, `"inf"` and `"-inf"`.
//!
//! JSON has no numbers for these values, and `null` already means "not measured", while a NaN is a
//! measured error.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The type of such a float in the JSON schema: a number or one of the three strings.
pub struct Number;

impl JsonSchema for Number {
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number; if it is not finite, one of the strings NaN, inf and -inf.",
            "anyOf": [{ "type": "number" }, { "enum": ["NaN", "inf", "-inf"] }]
        })
    }
}

/// A float with the serialisation of this module.
struct Float(f64);

/// The string for a float that JSON cannot express as a number.
fn special_name(value: f64) -> Option<&'static str> {
    match value {
        v if v.is_nan() => Some("NaN"),
        f64::INFINITY => Some("inf"),
        f64::NEG_INFINITY => Some("-inf"),
        _ => None,
    }
}

impl Serialize for Float {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match special_name(self.0) {
            Some(name) => serializer.serialize_str(name),
            None => serializer.serialize_f64(self.0),
        }
    }
}

struct FloatVisitor;

impl Visitor<'_> for FloatVisitor {
    type Value = Float;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"NaN\", \"inf\" or \"-inf\"")
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Float, E> {
        Ok(Float(v))
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Float, E> {
        Ok(Float(v as f64))
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Float, E> {
        Ok(Float(v as f64))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Float, E> {
        match v {
            "NaN" => Ok(Float(f64::NAN)),
            "inf" => Ok(Float(f64::INFINITY)),
            "-inf" => Ok(Float(f64::NEG_INFINITY)),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(v), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FloatVisitor)
    }
}

/// Serialises one float; for `#[serde(with = "float")]`.
///
/// # Errors
///
/// Those of the serialiser.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Float(*value).serialize(serializer)
}

/// Deserialises one float; for `#[serde(with = "float")]`.
///
/// # Errors
///
/// If the value is neither a number nor one of the three strings.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Float::deserialize(deserializer).map(|float| float.0)
}

/// Lists of floats; for `#[serde(with = "float::list")]`.
pub mod list {
    use super::Float;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Serialises a list of floats.
    ///
    /// # Errors
    ///
    /// Those of the serialiser.
    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|&value| Float(value)))
    }

    /// Deserialises a list of floats.
    ///
    /// # Errors
    ///
    /// If an entry is neither a number nor one of the three strings.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let floats = Vec::<Float>::deserialize(deserializer)?;
        Ok(floats.into_iter().map(|float| float.0).collect())
    }
}

/// An optional name with a value and the ends of its interval; for `#[serde(with = "float::named")]`.
pub mod named {
    use super::Float;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type Named<T> = Option<(String, [T; 3])>;

    /// Serialises the name and the three floats.
    ///
    /// # Errors
    ///
    /// Those of the serialiser.
    pub fn serialize<S: Serializer>(value: &Named<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        let value = value.as_ref().map(|(name, floats)| (name, floats.map(Float)));
        value.serialize(serializer)
    }

    /// Deserialises the name and the three floats.
    ///
    /// # Errors
    ///
    /// If the value is not `null` or a pair of a string and three floats.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Named<f64>, D::Error> {
        let value = Named::<Float>::deserialize(deserializer)?;
        Ok(value.map(|(name, floats)| (name, floats.map(|float| float.0))))
    }
}
