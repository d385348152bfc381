//! An evaluator's error as a sentence for who publishes. It says what the schema asks for; of the payload it
//! repeats no more than the names on the way to the place.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

/// The longest part of a place, and the longest value of a schema in a sentence, in characters.
const SHOWN_CHARS_MAX: usize = 200;

/// A value of the payload that does not fit, by its path within the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    pub place: Vec<String>,
    pub message: String,
}

/// Returns the places of an error: most have one, and each property that may not be there is one.
pub fn misfits(error: &ValidationError<'_>) -> Vec<Misfit> {
    let place: Vec<String> = {
        let path = error.instance_path().as_str();
        path.split('/').skip(1).map(unescaped).collect()
    };
    let at = |name: &str, message: &str| Misfit {
        place: place.iter().cloned().chain([shortened(name)]).collect(),
        message: message.to_owned(),
    };
    match error.kind() {
        ValidationErrorKind::Required {
            property: Value::String(name),
        } => vec![at(name, "is required")],
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let names = unexpected.iter();
            names
                .map(|name| at(name, "is not in the schema, which allows no other members"))
                .collect()
        }
        ValidationErrorKind::FalseSchema if is_of_additional(error) => vec![Misfit {
            place,
            message: "has a member, and the schema allows none".to_owned(),
        }],
        kind => vec![Misfit {
            message: sentence(kind),
            place,
        }],
    }
}

/// Whether `additionalProperties: false` without `properties` refuses the members of an object.
fn is_of_additional(error: &ValidationError<'_>) -> bool {
    let keyword = error.schema_path().as_str().rsplit('/').next();
    keyword == Some("additionalProperties")
}

fn sentence(kind: &ValidationErrorKind) -> String {
    use ValidationErrorKind as Kind;
    match kind {
        Kind::Type {
            kind: TypeKind::Single(one),
        } => format!("must be {}", a_type(&one.to_string())),
        Kind::Type {
            kind: TypeKind::Multiple(types),
        } => {
            let types: Vec<String> = types.iter().map(|one| a_type(&one.to_string())).collect();
            format!("must be {}", types.join(" or "))
        }
        Kind::Enum { options } => format!("must be one of {}", of_schema(options)),
        Kind::Constant { expected_value } => format!("must be {}", of_schema(expected_value)),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::AdditionalItems { limit } => format!("must have at most {limit} items"),
        Kind::UnevaluatedItems { .. } => "has items that the schema does not allow".to_owned(),
        Kind::MinProperties { limit } => format!("must have at least {limit} members"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} members"),
        Kind::Pattern { pattern } => format!("must match the pattern {}", shortened(pattern)),
        Kind::UniqueItems => "must not have two items that are the same".to_owned(),
        Kind::Contains => "does not have the items that contains asks for".to_owned(),
        Kind::AnyOf { .. } => "fits none of the schemas in anyOf".to_owned(),
        Kind::OneOfNotValid { .. } => "fits none of the schemas in oneOf".to_owned(),
        Kind::OneOfMultipleValid { .. } => "fits more than one of the schemas in oneOf".to_owned(),
        Kind::Not { .. } => "fits the schema in not, and may not".to_owned(),
        Kind::FalseSchema => "may not be there".to_owned(),
        // References within the schema were followed before, so this is its `$schema`.
        Kind::Referencing(_) => {
            "names a $schema that is not one of the drafts 4, 6, 7, 2019-09 and 2020-12".to_owned()
        }
        Kind::PropertyNames { .. } => {
            "has a member whose name the schema does not allow".to_owned()
        }
        Kind::ContentEncoding { content_encoding } => {
            format!(
                "must be text in the encoding {}",
                shortened(content_encoding)
            )
        }
        Kind::ContentMediaType { content_media_type } => {
            format!("must be text of the type {}", shortened(content_media_type))
        }
        other => format!("does not fit the keyword {}", shortened(other.keyword())),
    }
}

fn a_type(name: &str) -> String {
    match name {
        "null" => "null".to_owned(),
        "boolean" => "true or false".to_owned(),
        "integer" => "a whole number".to_owned(),
        "array" | "object" => format!("an {name}"),
        _ => format!("a {name}"),
    }
}

fn of_schema(value: &Value) -> String {
    let text = match value {
        Value::Array(options) => {
            let options: Vec<String> = options.iter().take(50).map(Value::to_string).collect();
            options.join(", ")
        }
        other => other.to_string(),
    };
    shortened(&text)
}

fn unescaped(part: &str) -> String {
    shortened(&part.replace("~1", "/").replace("~0", "~"))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
