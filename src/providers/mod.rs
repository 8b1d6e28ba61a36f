//! One file per provider: request JSON from inputs, outputs from response JSON. No I/O and no clock.

pub mod custom;
pub mod dummy;
pub mod numbers;
pub mod open_ai;
pub mod template;

use crate::error::Result;
use crate::models::model::{Model, ModelType, ProviderId};

/// What a provider knows about its own API.
pub trait Provider: Sync {
    /// The endpoint where a registration names none.
    fn default_url(&self, _model_type: ModelType) -> Option<&'static str> {
        None
    }

    /// The endpoint for a registered URL, which may be the API's base.
    fn complete_url(&self, url: &str, _model_type: ModelType) -> String {
        url.to_owned()
    }

    /// Checks a registration for what this provider needs; ids, enumerations, URL syntax and secrets were checked.
    fn check(&self, model: &Model) -> Result<()>;

    /// The vector itself, where no endpoint is needed.
    fn embed_here(&self, _model: &Model, _text: &str) -> Option<Result<Vec<f32>>> {
        None
    }

    /// The request body for one text.
    fn embedding_request(&self, model: &Model, text: &str) -> Result<Vec<u8>>;

    /// The vector in the answer to one text.
    fn read_embedding(&self, model: &Model, answer: &[u8]) -> Result<Vec<f32>>;

    /// The request body of a generic call.
    fn predict_request(&self, model: &Model, body: &str) -> Result<Vec<u8>>;
}

/// The provider's code.
pub fn provider(id: ProviderId) -> &'static dyn Provider {
    match id {
        ProviderId::OpenAi => &open_ai::OpenAi,
        ProviderId::Custom => &custom::Custom,
        ProviderId::Dummy => &dummy::Dummy,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::models::model::{Model, ModelType, ProviderId};
    use crate::models::options::ModelOptions;
    use crate::server::caller::Account;

    /// A model with nothing but its kind.
    pub(crate) fn model(provider: &str, model_type: &str) -> Model {
        Model {
            model_id: "m".into(),
            request_url: None,
            provider: ProviderId::parse(provider).unwrap(),
            model_type: ModelType::parse(model_type).unwrap(),
            qualified_name: None,
            auth_type: None,
            auth_id: None,
            header_fn: None,
            input: None,
            output: None,
            options: ModelOptions::default(),
            definer: Account::library(),
            fingerprint: [0; 32],
        }
    }
}
