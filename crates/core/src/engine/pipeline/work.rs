//! The kinds of work that a pipeline does: what an input is, how it is sent, how its result is read.

use std::sync::Arc;

use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt};

use crate::catalog::model::Model;
use crate::engine::call::Call;
use crate::engine::Engine;
use crate::http::Answer;
use crate::providers::usage::Usage;
use crate::providers::BatchLimits;

/// What a thread of local models calls with one result an input.
pub type WhenDone<T> = Box<dyn FnOnce(Vec<Result<T>>) + Send>;

/// One kind of work. Its value lives on the statement's thread; what runs on workers takes no `self`.
pub trait Work: 'static {
    /// One input.
    type Input: Clone + Send + Sync + 'static;
    /// The place of its result in a cache.
    type Place: Send + 'static;
    /// The result as a worker reads it.
    type Raw: Send + 'static;
    /// The result.
    type Output;
    /// The form of a request, where a model may take one and refuse another.
    type Form: Copy + Send + 'static;

    /// The default number of concurrent requests.
    const CONCURRENCY: u64;

    /// Whether an answer to several inputs may be unusable by chance, so that one of them says nothing about the size.
    const ANSWERS_VARY: bool = false;

    /// Limits of one request.
    fn limits(&self, model: &Model) -> BatchLimits;

    /// Whether an input cannot share a request with others.
    fn alone(&self, _input: &Self::Input) -> bool {
        false
    }

    /// The input that shows whether the model or the caller's inputs are at fault, and its name for errors.
    fn probe(&self) -> (Self::Input, &'static str);

    /// An error for an input that is not worth a request.
    fn refused(&self, _call: &Call, _input: &Self::Input) -> Option<Error> {
        None
    }

    /// Whether inputs are computed one at a time on the statement's thread: by stored functions, or without a request.
    fn one_by_one(&self, model: &Model) -> bool;

    /// The place of an input's result, and the result if it is there.
    fn look_up(
        &self,
        engine: &Engine,
        call: &Call,
        input: &Self::Input,
        interrupt: &dyn Interrupt,
    ) -> Result<(Self::Place, Option<Self::Output>)>;

    /// Bytes of an input.
    fn bytes(input: &Self::Input) -> usize;

    /// The most bytes of an input in a request's JSON.
    fn encoded(input: &Self::Input) -> usize;

    /// The most bytes of the JSON of a request for several inputs, or one.
    fn encoded_together(inputs: &[&Self::Input]) -> usize {
        inputs.iter().map(|input| Self::encoded(input) + 64).sum()
    }

    /// Estimated tokens of an input for the rate limit.
    fn tokens(input: &Self::Input) -> u64;

    /// Computes one input on the statement's thread, and counts it.
    fn compute(
        &self,
        engine: &Engine,
        call: &Call,
        input: &Self::Input,
        interrupt: &dyn Interrupt,
    ) -> Result<Self::Raw>;

    /// Gives a batch to a local model.
    fn compute_locally(
        &self,
        engine: &Engine,
        call: &Call,
        inputs: Vec<Self::Input>,
        cancel: &CancelToken,
        done: WhenDone<Self::Raw>,
        interrupt: &dyn Interrupt,
    ) -> Result<()>;

    /// The body of a request for a batch, and its form.
    fn body(&self, engine: &Engine, call: &Call, inputs: &[&Self::Input]) -> Result<(Vec<u8>, Self::Form)>;

    /// The results in an answer, one an input and in order; runs on a worker.
    fn read(call: &Call, inputs: &[&Self::Input], answer: &Answer) -> Result<(Vec<Result<Self::Raw>>, Usage)>;

    /// Bytes of a result.
    fn size(raw: &Self::Raw) -> usize;

    /// Inputs to count for an answer to `inputs` of them.
    fn counted(inputs: usize) -> u64;

    /// Whether another form of a batch's request is to be sent after a refusal of the `used` one.
    fn adapt(
        &self,
        _engine: &Engine,
        _call: &Call,
        _inputs: &[&Self::Input],
        _used: Self::Form,
        _error: &Error,
    ) -> bool {
        false
    }

    /// Checks and keeps a result.
    fn finish(
        &mut self,
        engine: &Engine,
        call: &Call,
        input: &Self::Input,
        place: Option<&Self::Place>,
        raw: Self::Raw,
    ) -> Finished<Self::Input, Self::Output>;

    /// The error of an input, with a hint if there is one.
    fn explained(&self, error: Error, _input: &Self::Input) -> Error {
        error
    }
}

/// A result after [`Work::finish`].
pub enum Finished<I, O> {
    /// The result.
    Done(O),
    /// The input failed.
    Failed(Error),
    /// The input is sent once more, changed.
    Again(I),
}

/// A text that is shared between the caller, the queue and the request.
pub type Text = Arc<str>;
