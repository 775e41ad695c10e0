//! The JSON schema of records, for programs that read them.

use serde_json::{Map, Value, json};

use crate::{FAILURE, Failure, Record, SCHEMA};

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
        add_failure(top);
    }
    schema
}

/// Adds what a run leaves that failed, as one more kind.
fn add_failure(top: &mut Map<String, Value>) {
    let mut failure = schemars::schema_for!(Failure).to_value();
    let Some(fields) = failure.as_object_mut() else { return };
    let definitions = fields.remove("$defs");
    fields.retain(|name, _| !matches!(name.as_str(), "$schema" | "title"));
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.insert("kind".to_owned(), json!({ "const": FAILURE, "type": "string" }));
    }
    if let Some(Value::Array(required)) = fields.get_mut("required") {
        required.insert(0, json!("kind"));
    }
    if let Some(Value::Array(kinds)) = top.get_mut("oneOf") {
        kinds.push(failure);
    }
    if let (Some(Value::Object(all)), Some(Value::Object(more))) =
        (top.get_mut("$defs"), definitions)
    {
        all.extend(more);
    }
}
