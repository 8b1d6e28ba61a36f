//! Any JSON service. Templates are applied here; transform functions are called by the engine.

use super::usage::of_answer;
use super::{Capabilities, Cloud, Embeddings, Provider, Role};
use crate::catalog::model::{InputTransform, Model, OutputTransform};
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::memory::Reservation;

/// The provider `custom`.
pub struct Custom;

impl Provider for Custom {
    fn capabilities(&self) -> Capabilities {
        Capabilities { embedding: true, generate: true, rerank: true, image: true }
    }

    fn endpoint(&self, model: &Model, _cloud: &Cloud) -> Result<String> {
        model
            .request_url
            .clone()
            .ok_or_else(|| Error::invalid("model_request_url is required; give the endpoint's https URL"))
    }

    fn check(&self, model: &Model) -> Result<()> {
        if model.request_url.is_none() {
            return Err(Error::invalid(
                "model_request_url is required for provider custom; give the endpoint's https URL",
            ));
        }
        if model.model_type.embeds() && (model.input.is_none() || model.output.is_none()) {
            return Err(Error::invalid(
                "a custom text_embedding model needs an input and an output transform; name two stored functions, or give 'json:{\"prompt\":[\"{{input}}\"]}' and 'path:$[0]'",
            ));
        }
        Ok(())
    }

    fn embedding_request(&self, model: &Model, texts: &[&str], _role: Role) -> Result<Vec<u8>> {
        match (&model.input, texts) {
            (Some(InputTransform::Template(template)), [text]) => {
                let name = super::name_of(model);
                // A template may name its input any number of times.
                let _share = Reservation::take(template.bytes_for(text.len(), name.len()), "the request")?;
                Ok(template.render(text, name))
            }
            _ => Err(Error::internal("a custom model without an input template")),
        }
    }

    fn read_embeddings(&self, model: &Model, answer: &[u8], _count: usize) -> Result<Embeddings> {
        let Some(OutputTransform::Path(path)) = &model.output else {
            return Err(Error::internal("a custom model without an output path"));
        };
        Ok(Embeddings {
            vectors: vec![path.find_vector(answer)?],
            tokens: of_answer(answer).ok().and_then(|usage| usage.input),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::{model, request};

    #[test]
    fn templates_make_the_request_and_read_the_answer() {
        let mut m = model("custom", "text_embedding");
        m.input = Some(InputTransform::parse(r#"json:{"prompt":["{{input}}"]}"#).unwrap());
        m.output = Some(OutputTransform::parse("path:$[0]").unwrap());
        assert_eq!(request(&m, &["hi"], Role::Document), r#"{"prompt":["hi"]}"#);
        assert_eq!(Custom.read_embeddings(&m, b"[[1,2]]", 1).unwrap().vectors, [[1.0, 2.0]]);
        assert!(Custom.read_embeddings(&m, b"{}", 1).is_err());
        assert!(Custom.read_embeddings(&m, b"[[1", 1).is_err());
    }
}
