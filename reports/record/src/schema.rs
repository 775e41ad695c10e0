//! The JSON schema of records, for programs that read them.

use serde_json::{Value, json};

use crate::{Record, SCHEMA};

/// The JSON schema (draft 2020-12) of every kind of record. Its `$id` and the value that it wants in the
/// field `schema` carry the version [`SCHEMA`].
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Record).to_value();
    if let Some(top) = schema.as_object_mut() {
        let version = json!({ "description": "Version of the schema.", "const": SCHEMA });
        top.insert("$id".to_owned(), json!(format!("urn:squeezetime-harness:record:{SCHEMA}")));
        top.insert("title".to_owned(), json!("Run record of the SqueezeTime harness"));
        top.insert("properties".to_owned(), json!({ "schema": version }));
        top.insert("required".to_owned(), json!(["schema", "kind"]));
    }
    schema
}
