//! `ml_image_embedding(model_id, image [, mime_type])`.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use surface::{functions, Function};

use super::model_call::LastCall;
use super::named::{bind, Bound};
use crate::jobs::engine;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{BytesFunction, SqlFunction};
use crate::mysql::sql::refuse_inside_user_functions;
use crate::mysql::statement::{ProcessState, StatementInterrupt};
use mysql_ml_base::error::Result;
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::vector::MAX_DIMENSIONS;
use mysql_ml_core::providers::image::Image;

/// Index of the parameter `image`.
const IMAGE: usize = 1;

/// `ml_image_embedding(model_id, image [, mime_type])`: the embedding of an image as VECTOR bytes. `image` is a
/// file's bytes (at most 20 MiB), their base64, or a `gs://` URI. A NULL `mime_type` is detected from the first
/// bytes. NULL for a NULL model or image, without a call. Follows AlloyDB's `google_ml.image_embedding`.
pub struct ImageEmbedding {
    bound: Bound,
    last: LastCall<Done>,
}

struct Done {
    model_id: String,
    /// SHA-256 of the argument.
    image: [u8; 32],
    mime_type: Option<String>,
    vector: Arc<[u8]>,
}

impl SqlFunction for ImageEmbedding {
    const FUNCTION: &'static Function = functions::ml_image_embedding;
    const IN_PASSES: bool = false;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, Self::FUNCTION)?;
        setup.returns_binary((MAX_DIMENSIONS * 4) as u32);
        Ok(ImageEmbedding { bound, last: LastCall::default() })
    }
}

impl BytesFunction for ImageEmbedding {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        let model_id = self.bound.text(args, 0)?;
        let mime_type = self.bound.text(args, 2)?;
        let (Some(model_id), Some(image)) = (model_id, self.bound.bytes(args, IMAGE)) else { return Ok(None) };
        refuse_inside_user_functions()?;
        let digest: [u8; 32] = Sha256::digest(image).into();
        let same = |l: &Done| l.model_id == model_id && l.mime_type.as_deref() == mime_type && l.image == digest;
        let done = self.last.or_call(Self::FUNCTION, same, || {
            let _state = ProcessState::set(c"waiting for a model: ml_image_embedding");
            // Copies: decoded, without white space, as base64, in the request, and copied from the request's buffer.
            let _copies = Reservation::take(image.len().saturating_mul(6), "the image")?;
            let read = Image::read(image, mime_type)?;
            let interrupt = StatementInterrupt::current();
            let vector = engine().image_embedding(model_id, &read, &interrupt)?;
            let (model_id, mime_type) = (model_id.to_owned(), mime_type.map(str::to_owned));
            Ok(Done { model_id, image: digest, mime_type, vector })
        })?;
        Ok(Some(done.vector.as_ref()))
    }
}
