//! `ml_image_embedding`: the vector of an image.

use std::sync::Arc;
use std::time::Instant;

use super::status::Activity;
use super::{check_width, counted_as, Engine};
use crate::catalog::model::{check_id, Model, ModelType, ProviderId};
use crate::catalog::settings::Settings;
use crate::engine::store::{ResolvedModel, Routine};
use crate::providers::image::Image;
use crate::providers::provider;
use crate::providers::usage::Usage;
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::role::Role;
use mysql_ml_base::vector;

/// What an image costs a budget of tokens, before the provider counts: Gemini's figure for a small one.
const TOKENS: u64 = 258;

impl Engine {
    /// The vector of an image, as the bytes of a VECTOR.
    pub fn image_embedding(&self, model_id: &str, image: &Image, interrupt: &dyn Interrupt) -> Result<Arc<[u8]>> {
        check_id("model_id", model_id)?;
        let settings = self.settings(interrupt)?;
        let resolved =
            self.registry.model(self.store.as_ref(), Routine::IMAGE_EMBEDDING, model_id, &settings, interrupt)?;
        must_embed_images(&resolved.model)?;
        let activity = self.status.of(counted_as(&resolved.model));
        activity.called();
        self.looked_up_image(&resolved, image, &settings, &activity, interrupt)
            .map_err(|e| e.context(&format!("model '{model_id}'")))
    }

    pub(super) fn embed_image(
        &self,
        resolved: &Arc<ResolvedModel>,
        image: &Image,
        settings: &Arc<Settings>,
        activity: &Activity,
        limit: Option<Instant>,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<u8>> {
        let model = &resolved.model;
        if model.input.is_some() {
            // Transforms in a registration see the image as a text.
            return self.embed(resolved, &image.base64()?, Role::Document, settings, activity, limit, interrupt);
        }
        let requested = || {
            if super::local::is_here(model) {
                let mut vector = self.embed_image_locally(resolved, image, settings, activity, limit, interrupt)?;
                activity.used(1, Usage::default());
                if model.options.normalize == Some(true) {
                    vector::normalize(&mut vector);
                }
                return vector::to_bytes(&vector);
            }
            let api = provider(model.speaks);
            let body = api.image_request(model, image)?;
            let (headers, _) = self.functions(resolved, None, "", interrupt)?;
            let mut request = self.request(resolved, headers, body, TOKENS, settings)?;
            if let Some(limit) = limit {
                request.deadline = request.deadline.min(limit);
            }
            self.send(request, activity, interrupt, |answer| {
                let _unpacked = super::send::unpacked(&answer.body)?;
                let read = api.read_image_embedding(model, &answer.body)?;
                activity.used(1, Usage { input: read.tokens, output: None });
                let vector = read.vectors.into_iter().next();
                let mut vector = vector.ok_or_else(|| Error::response("the endpoint answered without a vector"))?;
                super::send::must_not_be_zero(&vector)?;
                if model.options.normalize == Some(true) {
                    vector::normalize(&mut vector);
                }
                Ok((vector::to_bytes(&vector)?, read.tokens))
            })
        };
        let bytes = requested().and_then(|bytes| check_width(&bytes, model.options.dimensions).map(|()| bytes));
        if let Err(error) = &bytes {
            activity.failed(error);
        }
        bytes
    }
}

/// An error for a model that embeds no images.
fn must_embed_images(model: &Model) -> Result<()> {
    let custom = model.speaks == ProviderId::Custom && model.model_type.embeds();
    if custom || (model.model_type == ModelType::MultimodalEmbedding && provider(model.speaks).abilities().image) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "model '{}' of provider {} has model_type {}, which embeds no images; register one of model_type multimodal_embedding",
        model.model_id,
        model.provider.as_str(),
        model.model_type.as_str()
    )))
}
