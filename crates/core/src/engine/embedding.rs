//! `ml_embedding`, `ml_image_embedding`: the vector of a text or an image.

use std::sync::Arc;
use std::time::Instant;

use surface::functions;

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::role::Role;

use super::backends::{check_width, of_text};
use super::cached::CacheLookup;
use super::call::{Call, Input};
use super::collected::{active, Found, Known};
use super::store::Routine;
use super::Engine;
use crate::catalog::model::{Model, ModelType, ProviderId};
use crate::providers::image::Image;
use crate::providers::table::provider;

impl Engine {
    /// The vector of `text`, as the bytes of a VECTOR; `None` while the texts of a statement are collected. The caller
    /// needs EXECUTE on `function`.
    pub fn embedding(
        &self,
        function: Routine,
        model_id: &str,
        text: &str,
        role: Role,
        interrupt: &dyn Interrupt,
    ) -> Result<Option<Arc<[u8]>>> {
        let call = self.call_beside(function, model_id, text, interrupt)?;
        call.model().must_embed()?;
        if let Some(collection) = active() {
            match collection.text(&call, role, text)? {
                Found::Known(Known::Vector(vector)) => return Ok(Some(vector)),
                Found::Known(Known::Failed(error)) => return Err(error),
                Found::Noted => return Ok(None),
                Found::Known(Known::Answer(_) | Known::Single) | Found::Unknown => {}
            }
        }
        self.embedded(&call, Input::Text(text), role, interrupt).map(Some)
    }

    /// The vector of an image, as the bytes of a VECTOR.
    pub fn image_embedding(&self, model_id: &str, image: &Image, interrupt: &dyn Interrupt) -> Result<Arc<[u8]>> {
        let call = self.call(functions::ml_image_embedding, model_id, interrupt)?;
        must_embed_images(call.model())?;
        self.embedded(&call, Input::Image(image), Role::Document, interrupt)
    }

    fn embedded(&self, call: &Call, input: Input<'_>, role: Role, interrupt: &dyn Interrupt) -> Result<Arc<[u8]>> {
        call.meter.called();
        let lookup = self.lookup(call, input, role)?;
        let compute = |limit| self.embed(call, input, role, limit, interrupt);
        let vector = self.embeddings.get(&lookup, || self.store.caller(), call, interrupt, compute);
        vector.map_err(|e| e.context(&format!("model '{}'", call.model().model_id)))
    }

    /// The request to the caches.
    pub(super) fn lookup(&self, call: &Call, input: Input<'_>, role: Role) -> Result<CacheLookup> {
        self.embeddings.lookup(call, input, role, || self.local.stamp(call.model()))
    }

    /// Computes the vector without the caches; counts an error. `limit`: latest deadline; set when this call has
    /// already waited for another session's request.
    pub(super) fn embed(
        &self,
        call: &Call,
        input: Input<'_>,
        role: Role,
        limit: Option<Instant>,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<u8>> {
        let model = call.model();
        let text = match input {
            Input::Text(text) => Some(text),
            Input::Image(_) => None,
        };
        let computed = || {
            let _text = Reservation::take(text.map_or(0, str::len).saturating_mul(3), "the text")?;
            let bytes = self.embedder(model).embed(call, input, role, limit, interrupt)?;
            check_width(&bytes, model.options.dimensions).map(|()| bytes)
        };
        call.counted(computed()).map_err(|error| match text {
            Some(text) => of_text(error, text),
            None => error,
        })
    }
}

/// An error for a model that embeds no images.
fn must_embed_images(model: &Model) -> Result<()> {
    let custom = model.api == ProviderId::Custom && model.model_type.embeds();
    if custom || (model.model_type == ModelType::MultimodalEmbedding && provider(model.api).capabilities().image) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "model '{}' of provider {} has model_type {}, which embeds no images; register one of model_type multimodal_embedding",
        model.model_id,
        model.provider.as_str(),
        model.model_type.as_str()
    )))
}
