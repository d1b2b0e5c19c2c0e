//! The JSON schema of blueprints, made from the grammar, for editors and other programs.

use flujo_agents::AgentConfig;
use serde_json::{Map, Value as Json, json};

use crate::grammar::{BLUEPRINT, Need, STEP_KINDS, Section, Shape};

/// The JSON schema (draft 2020-12) of a blueprint.
pub fn json_schema() -> Json {
    let mut schema = section(&BLUEPRINT);
    let kinds: Vec<Json> = STEP_KINDS.iter().map(|(kind, keys)| step(kind, keys)).collect();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Flujo blueprint");
    schema["$defs"] = json!({
        "step": {"type": "object", "oneOf": kinds},
        "agent": {
            "description": "An agent's settings; which keys there are depends on its type.",
            "type": "object",
            "properties": {"type": {"enum": AgentConfig::TYPES}},
            "required": ["type"],
        },
    });
    schema
}

/// A step of one kind: the key `kind` tells the kinds apart.
fn step(kind: &str, keys: &Section) -> Json {
    let mut schema = section(keys);
    schema["properties"]["kind"] = json!({"const": kind});
    let mut required: Vec<Json> = schema["required"].as_array().cloned().unwrap_or_default();
    if !["step", "map", "loop"].contains(&kind) {
        required.push(json!("kind"));
    }
    schema["required"] = json!(required);
    schema["anyOf"] = json!([{"required": ["name"]}, {"required": ["step"]}]);
    schema
}

fn section(section: &Section) -> Json {
    let usable = || section.keys().filter(|key| key.need != Need::Later);
    let properties: Map<String, Json> = usable()
        .map(|key| {
            let mut schema = shape(key.shape);
            schema["description"] = json!(key.about);
            (key.name.to_owned(), schema)
        })
        .collect();
    let required: Vec<&str> = usable()
        .filter(|key| key.need == Need::Required)
        .map(|key| key.name)
        .collect();
    json!({
        "description": section.about,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn shape(shape_of: Shape) -> Json {
    match shape_of {
        Shape::Text | Shape::Template => json!({"type": "string"}),
        Shape::Expression => json!({"type": ["string", "boolean"]}),
        Shape::Name => json!({"type": ["string", "number", "boolean"]}),
        Shape::Flag => json!({"type": "boolean"}),
        Shape::Count(least) => json!({"type": "integer", "minimum": least, "maximum": u32::MAX}),
        Shape::Number(least) => json!({"type": "number", "minimum": least}),
        Shape::Seconds => json!({"type": "number", "exclusiveMinimum": 0}),
        Shape::Choice(words) => json!({"enum": words}),
        Shape::Data => json!({}),
        Shape::Section(keys) => section(keys),
        Shape::Named(inner) => json!({"type": "object", "additionalProperties": shape(*inner)}),
        Shape::List(inner) => json!({"type": "array", "items": shape(*inner)}),
        Shape::Either(shapes) => {
            json!({"anyOf": shapes.iter().map(|inner| shape(*inner)).collect::<Vec<_>>()})
        }
        Shape::Agent => json!({"$ref": "#/$defs/agent"}),
        Shape::Step => json!({"$ref": "#/$defs/step"}),
    }
}
