//! Google models that can be called without a registration, as in Cloud SQL and AlloyDB.
//!
//! They are called with the server's own Google identity, in its own project.

use crate::registration::Registration;

/// The models that Google documents as ready to use. Other names in Google's patterns work as well. Google may have
/// retired one.
pub const BUILT_IN: [&str; 16] = [
    "gemini-embedding-001",
    "gemini-embedding-2",
    "text-embedding-005",
    "text-embedding-004",
    "text-embedding-preview-0815",
    "text-embedding-large-exp-03-07",
    "text-multilingual-embedding-002",
    "textembedding-gecko",
    "textembedding-gecko@001",
    "textembedding-gecko@003",
    "text-embedding-gecko@001",
    "text-embedding-gecko@003",
    "multimodalembedding@001",
    "gemini-1.5-pro:streamGenerateContent",
    "gemini-1.5-pro:generateContent",
    "gemini-1.0-pro:generateContent",
];

/// Type and API of a Google model, from its name; `None` for other names.
fn model_type(name: &str) -> Option<&'static str> {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
    if begins(&["multimodalembedding@"]) {
        Some("multimodal_embedding")
    } else if begins(&["gemini-embedding", "text-embedding-0", "text-multilingual-embedding-", "textembedding-gecko"])
        || begins(&["text-embedding-gecko", "text-embedding-preview-", "text-embedding-large-exp-"])
    {
        Some("text_embedding")
    } else if begins(&["semantic-ranker-"]) {
        Some("reranking")
    } else if begins(&["gemini-"]) {
        Some("llm")
    } else {
        None
    }
}

/// The registration of an unregistered Google model: `gemini-embedding-001`, or with project and location
/// `projects/P/locations/L/publishers/google/models/M`.
pub fn find(model_id: &str) -> Option<Registration> {
    let resource: Vec<&str> = model_id.split('/').collect();
    let name = match resource.as_slice() {
        ["projects", project, "locations", location, "publishers", "google", "models", name]
            if !project.is_empty() && !location.is_empty() =>
        {
            name
        }
        [name] => name,
        _ => return None,
    };
    Some(Registration {
        model_id: model_id.to_owned(),
        provider: Some("google".into()),
        model_type: Some(model_type(name)?.into()),
        qualified_name: Some(model_id.to_owned()),
        auth_type: Some("auth_type_cloudsql_service_agent_iam".into()),
        ..Registration::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_model_is_found() {
        for name in BUILT_IN {
            assert!(find(name).is_some(), "{name}");
        }
        for (id, wanted) in [
            ("gemini-2.5-flash", "llm"),
            ("gemini-embedding-exp-03-07", "text_embedding"),
            ("multimodalembedding@001", "multimodal_embedding"),
            ("semantic-ranker-default-003", "reranking"),
            ("projects/p/locations/us-central1/publishers/google/models/text-embedding-005", "text_embedding"),
        ] {
            assert_eq!(find(id).unwrap().model_type.as_deref(), Some(wanted), "{id}");
        }
        for id in
            ["gpt-4o", "text-embedding-3-small", "text-embedding-ada-002", "my-gemini-x", "projects/p/gemini-1", ""]
        {
            assert!(find(id).is_none(), "{id}");
        }
    }
}
