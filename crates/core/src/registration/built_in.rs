//! Built-in transforms of Cloud SQL and AlloyDB that a registration may name. They are not called; they select the
//! model's wire format.

use crate::catalog::model::ProviderId;

/// The argument for which a built-in function is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Makes headers.
    Header,
    /// Makes the request.
    Input,
    /// Reads the answer.
    Output,
}

/// A built-in function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// Its name without the schema.
    name: &'static str,
    /// Its argument.
    pub role: Role,
    /// Its wire format.
    pub api: ProviderId,
}

impl BuiltIn {
    /// Whether it is for embedding models; otherwise it is for language models.
    pub fn embeds(&self) -> bool {
        self.name.contains("embedding")
    }
}

const FUNCTIONS: [BuiltIn; 14] = [
    function("cloudsql_ml_text_embedding_input_transform", Role::Input, ProviderId::Google),
    function("cloudsql_ml_text_embedding_output_transform", Role::Output, ProviderId::Google),
    function("vertexai_text_embedding_input_transform", Role::Input, ProviderId::Google),
    function("vertexai_text_embedding_output_transform", Role::Output, ProviderId::Google),
    function("vertexai_text_embedding_batch_input_transform", Role::Input, ProviderId::Google),
    function("vertexai_text_embedding_batch_output_transform", Role::Output, ProviderId::Google),
    function("openai_text_embedding_input_transform", Role::Input, ProviderId::OpenAi),
    function("openai_text_embedding_output_transform", Role::Output, ProviderId::OpenAi),
    function("gemini_llm_input_transform", Role::Input, ProviderId::Google),
    function("gemini_llm_output_transform", Role::Output, ProviderId::Google),
    function("gemini_llm_batch_input_transform", Role::Input, ProviderId::Google),
    function("gemini_llm_batch_output_transform", Role::Output, ProviderId::Google),
    function("anthropic_claude_header_gen_fn", Role::Header, ProviderId::Anthropic),
    function("ml_anthropic_claude_header_gen_fn", Role::Header, ProviderId::Anthropic),
];

const fn function(name: &'static str, role: Role, api: ProviderId) -> BuiltIn {
    BuiltIn { name, role, api }
}

/// The built-in function of this name, in the schema `mysql` or, as AlloyDB writes them, `google_ml`.
pub fn find(text: &str) -> Option<&'static BuiltIn> {
    let text = text.trim().replace('`', "").to_ascii_lowercase();
    let (schema, name) = text.split_once('.')?;
    if !matches!(schema.trim(), "mysql" | "google_ml") {
        return None;
    }
    FUNCTIONS.iter().find(|f| f.name == name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_librarys_own_schemas_hold_them() {
        let f = find("mysql.cloudsql_ml_text_embedding_output_transform").unwrap();
        assert_eq!((f.role, f.api), (Role::Output, ProviderId::Google));
        assert!(find("google_ml.anthropic_claude_header_gen_fn").is_some());
        assert!(find("`mysql`.`ml_anthropic_claude_header_gen_fn`").is_some());
        assert!(find("app.anthropic_claude_header_gen_fn").is_none());
        assert!(find("anthropic_claude_header_gen_fn").is_none());
    }
}
