//! Any JSON service. Templates are applied here; transform functions are called by the engine.

use super::Provider;
use crate::error::{Error, Result};
use crate::models::model::{InputTransform, Model, ModelType, OutputTransform};

/// The provider `custom`.
pub struct Custom;

impl Provider for Custom {
    fn check(&self, model: &Model) -> Result<()> {
        if model.request_url.is_none() {
            return Err(Error::invalid(
                "model_request_url is required for provider custom; give the endpoint's https URL",
            ));
        }
        if model.model_type == ModelType::TextEmbedding && (model.input.is_none() || model.output.is_none()) {
            return Err(Error::invalid(
                "a custom text_embedding model needs an input and an output transform; name two stored functions, or give 'json:{\"prompt\":[\"{{input}}\"]}' and 'path:$[0]'",
            ));
        }
        Ok(())
    }

    fn embedding_request(&self, model: &Model, text: &str) -> Result<Vec<u8>> {
        match &model.input {
            Some(InputTransform::Template(template)) => {
                Ok(template.render(text, model.qualified_name.as_deref().unwrap_or(&model.model_id)))
            }
            _ => Err(Error::internal("a custom model without an input template")),
        }
    }

    fn read_embedding(&self, model: &Model, answer: &[u8]) -> Result<Vec<f32>> {
        let Some(OutputTransform::Path(path)) = &model.output else {
            return Err(Error::internal("a custom model without an output path"));
        };
        path.find_vector(answer)
    }

    fn predict_request(&self, _model: &Model, body: &str) -> Result<Vec<u8>> {
        Ok(body.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::model;

    #[test]
    fn templates_make_the_request_and_read_the_answer() {
        let mut m = model("custom", "text_embedding");
        m.input = Some(InputTransform::parse(r#"json:{"prompt":["{{input}}"]}"#).unwrap());
        m.output = Some(OutputTransform::parse("path:$[0]").unwrap());
        assert_eq!(Custom.embedding_request(&m, "hi").unwrap(), br#"{"prompt":["hi"]}"#);
        assert_eq!(Custom.read_embedding(&m, b"[[1,2]]").unwrap(), [1.0, 2.0]);
        assert!(Custom.read_embedding(&m, b"{}").is_err());
        assert!(Custom.read_embedding(&m, b"[[1").is_err());
    }
}
