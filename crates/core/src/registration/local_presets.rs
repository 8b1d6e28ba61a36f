//! Models inside the server that can be called without a registration.

use super::Registration;
use crate::catalog::model::ProviderId;

/// Models callable without a registration, most of them as in EDB's registry: name, type, repository.
const BUILT_IN: [(&str, &str, &str); 4] = [
    ("bert_local", "text_embedding", "sentence-transformers/all-MiniLM-L6-v2"),
    ("clip_local", "multimodal_embedding", "openai/clip-vit-base-patch32"),
    ("t5_local", "llm", "t5-small"),
    ("bert_rerank_local", "reranking", "cross-encoder/ms-marco-MiniLM-L6-v2"),
];

/// The default repository of a registration without place and model.
pub fn default_model(provider: ProviderId) -> Option<&'static str> {
    match provider {
        ProviderId::StaticLocal => Some("minishlab/potion-base-8M"),
        other => BUILT_IN.iter().find(|(name, ..)| *name == other.as_str()).map(|(.., model)| *model),
    }
}

/// The registration of an unregistered local model.
pub fn find(model_id: &str) -> Option<Registration> {
    let (name, model_type, model) = BUILT_IN.iter().find(|(name, ..)| *name == model_id)?;
    Some(Registration {
        model_id: model_id.to_owned(),
        provider: Some((*name).to_owned()),
        model_type: Some((*model_type).to_owned()),
        qualified_name: Some((*model).to_owned()),
        ..Registration::default()
    })
}

#[cfg(test)]
mod tests {
    use mysql_ml_base::account::Account;

    use super::*;
    use crate::providers::table::provider;

    #[test]
    fn built_in_models_pass_their_own_check() {
        for (name, ..) in BUILT_IN {
            let registration = find(name).unwrap();
            let made = registration.to_model(None, Account::library(), "").unwrap();
            if cfg!(feature = "local") {
                provider(made.provider).check(&made).unwrap();
            }
            assert_eq!(default_model(made.provider), made.qualified_name.as_deref());
        }
        assert!(find("static_local").is_none() && find("BERT_LOCAL").is_none());
    }
}
