//! Questions and texts of one statement that are collected, asked together, and found by the statement afterwards.
//!
//! A server evaluates a function row by row. While a collection is active on a thread, functions that would call a model
//! look into it; in a collecting pass they note what is missing and go on with a placeholder.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{self, Reservation};
use mysql_ml_base::role::Role;

use super::asking::{failed_too_often, is_of_the_input, SetOptions};
use super::call::Call;
use super::pipeline::questions::{Asking, Questions, QUESTIONS};
use super::pipeline::texts::Texts;
use super::pipeline::work::Work;
use super::pipeline::Pipeline;
use super::Engine;
use crate::ai::{Answer, Task};
use crate::providers::chat::Message;
use crate::providers::image::Images;

/// Requests for the inputs that the first pass may note, as many as are sent at once, and the most inputs that any pass
/// may note. Each pass may note twice as many as the one before, so that a statement with LIMIT asks little more than it needs.
const FIRST_WINDOW: usize = QUESTIONS as usize;
const LARGEST_WINDOW: usize = 65_536;

/// The most bytes of images that a pass may note. The requests with them need memory, too.
const MAX_IMAGES: usize = 64 << 20;

/// Overhead of an input, bytes.
const BESIDE_AN_INPUT: usize = 256;

/// What identifies an input: model, task, text and images.
type Key = [u8; 32];

/// The value of an input.
#[derive(Debug, Clone)]
pub enum Known {
    /// The answer to a question.
    Answer(Answer),
    /// The vector of a text, as the bytes of a VECTOR.
    Vector(Arc<[u8]>),
    /// The error of the input.
    Failed(Error),
    /// The input is left to the statement itself, which asks singly.
    Single,
}

/// What is found for an input.
pub enum Found {
    /// Its value.
    Known(Known),
    /// Nothing yet; it was noted.
    Noted,
    /// Nothing: call the model.
    Unknown,
}

/// Inputs of one model and one task.
struct Group {
    call: Call,
    kind: GroupKind,
    inputs: Vec<(Key, Message)>,
    /// The memory of the images.
    images: Reservation,
}

/// Whether the caches keep the answers of a group; `None`: the model's option.
type Keep = Option<bool>;

#[derive(Clone)]
enum GroupKind {
    Questions(Arc<Task>, Keep),
    Texts(Role),
}

#[derive(Default)]
struct State {
    known: HashMap<Key, Known>,
    noted: HashMap<Key, ()>,
    groups: HashMap<Key, Group>,
    window: usize,
    /// Bytes of the images that this pass has noted.
    images: usize,
    collecting: bool,
    asked: u64,
    failed: u64,
    share: Reservation,
    /// The statement was killed: a pass that still runs must not call a model.
    ended: bool,
}

/// The inputs of one statement and their values.
#[derive(Default)]
pub struct Collection(Mutex<State>);

thread_local! {
    static ACTIVE: RefCell<Option<Arc<Collection>>> = const { RefCell::new(None) };
}

/// A collection that is active on this thread until it is dropped.
pub struct Active(Option<Arc<Collection>>);

impl Active {
    /// Makes `collection` the active one.
    pub fn set(collection: Arc<Collection>) -> Self {
        Active(ACTIVE.with(|active| active.borrow_mut().replace(collection)))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let previous = self.0.take();
        ACTIVE.with(|active| *active.borrow_mut() = previous);
    }
}

/// The collection that is active on this thread.
pub(super) fn active() -> Option<Arc<Collection>> {
    ACTIVE.with(|active| active.borrow().clone())
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It noted nothing: every input is known.
    Complete,
    /// It noted inputs, or ended early because it noted as many as it may.
    Noted,
}

impl Collection {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a collecting pass. `rows`: inputs of one request.
    pub fn begin_pass(&self, rows: usize) {
        let mut state = self.state();
        state.window = state.window.saturating_mul(2).clamp(FIRST_WINDOW.saturating_mul(rows), LARGEST_WINDOW);
        state.images = 0;
        state.collecting = true;
    }

    /// Ends it. `ran`: how the statement ended. Its error does not count while inputs are missing: a placeholder may have
    /// caused it, and if not, the next pass or the statement itself has it again. A KILL counts.
    pub fn end_pass(&self, ran: Result<()>) -> Result<Pass> {
        let mut state = self.state();
        state.collecting = false;
        match ran {
            Err(error) if matches!(error.kind(), Kind::Interrupted(_) | Kind::Timeout) => {
                state.ended = true;
                return Err(error);
            }
            Err(error) if state.noted.is_empty() => return Err(error),
            _ => {}
        }
        Ok(if state.noted.is_empty() { Pass::Complete } else { Pass::Noted })
    }

    /// Whether a pass is under way.
    pub(super) fn is_collecting(&self) -> bool {
        self.state().collecting
    }

    /// The number of inputs that were asked about, and of those that failed.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.asked, state.failed)
    }

    /// Looks a question up.
    pub(super) fn question(&self, call: &Call, task: &Task, message: &Message, keep: Keep) -> Result<Found> {
        // Inputs that the caches keep are asked apart from those that they must not keep.
        let what = [task.digest().as_slice(), &[keep.map_or(2, u8::from)]].concat();
        self.look_up(call, &what, &message.text, &message.images, || GroupKind::Questions(Arc::new(task.clone()), keep))
    }

    /// Looks up the vector of a text.
    pub(super) fn text(&self, call: &Call, role: Role, text: &str) -> Result<Found> {
        self.look_up(call, &[role as u8], text, &Images::default(), || GroupKind::Texts(role))
    }

    fn look_up(
        &self,
        call: &Call,
        task: &[u8],
        text: &str,
        images: &Images,
        kind: impl FnOnce() -> GroupKind,
    ) -> Result<Found> {
        let group = key(&[&call.model().fingerprint, call.model().model_id.as_bytes(), task]);
        let key = key(&[&images.digest_with(group), text.as_bytes()]);
        let mut state = self.state();
        if state.ended {
            return Err(Error::interrupted(1317));
        }
        match state.known.get(&key) {
            Some(Known::Single) if state.collecting => return Ok(Found::Noted),
            Some(Known::Single) => return Ok(Found::Unknown),
            Some(known) => return Ok(Found::Known(known.clone())),
            None => {}
        }
        if !state.collecting {
            return Ok(Found::Unknown);
        }
        if state.noted.contains_key(&key) {
            return Ok(Found::Noted);
        }
        let images_beyond = !images.is_empty()
            && !state.noted.is_empty()
            && (state.images.saturating_add(images.bytes()) > MAX_IMAGES || memory::is_tight());
        if state.noted.len() >= state.window || images_beyond {
            return Err(Error::invalid("the pass has noted as many inputs as it may"));
        }
        state.share.spend(text.len() + BESIDE_AN_INPUT, "the inputs of a statement")?;
        let share = Reservation::take(images.bytes(), "the images of a statement")?;
        state.images = state.images.saturating_add(images.bytes());
        state.noted.insert(key, ());
        let group = state.groups.entry(group).or_insert_with(|| Group {
            call: call.clone(),
            kind: kind(),
            inputs: Vec::new(),
            images: Reservation::default(),
        });
        group.images.absorb(share);
        group.inputs.push((key, Message { text: text.into(), images: images.clone() }));
        Ok(Found::Noted)
    }

    /// Keeps the value of an input of `text` bytes, which is not needed any more.
    fn keep(&self, key: Key, value: Known, text: usize) -> Result<()> {
        let mut state = self.state();
        state.share.unspend(text + BESIDE_AN_INPUT);
        let bytes = match &value {
            Known::Answer(Answer::Text(text) | Answer::Json(text)) => text.len(),
            Known::Answer(_) | Known::Single => 0,
            Known::Vector(vector) => vector.len(),
            Known::Failed(error) => error.message().len(),
        };
        state.share.spend(bytes + BESIDE_AN_INPUT, "the answers of a statement")?;
        state.asked += 1;
        state.failed += u64::from(matches!(value, Known::Failed(_)));
        state.known.insert(key, value);
        Ok(())
    }
}

fn key(parts: &[&[u8]]) -> Key {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl Engine {
    /// Asks everything that the passes so far have noted. An error concerns all inputs of a model, or there are more
    /// failures than the options allow.
    pub fn ask_noted(&self, collection: &Collection, options: SetOptions, interrupt: &dyn Interrupt) -> Result<()> {
        let groups = {
            let mut state = collection.state();
            state.noted.clear();
            std::mem::take(&mut state.groups)
        };
        for group in groups.into_values() {
            match &group.kind {
                GroupKind::Questions(task, keep) => {
                    let work = Questions::new(Arc::clone(task), *keep);
                    let work = work.packed_where_possible(options.packing, group.call.model())?;
                    let task = Arc::clone(task);
                    let input = move |message| Asking::new(Arc::clone(&task), message);
                    self.ask_group(collection, group, work, input, Known::Answer, options, interrupt)?;
                }
                GroupKind::Texts(role) => {
                    let work = Texts::new(*role);
                    self.ask_group(collection, group, work, |message| message.text, Known::Vector, options, interrupt)?;
                }
            }
        }
        let (asked, failed) = collection.counts();
        match options.max_error_ratio {
            Some(most) if failed_too_often(failed, asked, most) => Err(Error::new(
                Kind::Response,
                format!("{failed} of {asked} inputs failed, more than max_error_ratio allows; run one alone to see its error"),
            )),
            _ => Ok(()),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn ask_group<W: Work>(
        &self,
        collection: &Collection,
        group: Group,
        work: W,
        input: impl Fn(Message) -> W::Input,
        known: impl Fn(W::Output) -> Known,
        options: SetOptions,
        interrupt: &dyn Interrupt,
    ) -> Result<()> {
        let Group { call, inputs, images: _images, .. } = group;
        let of_model = |error: Error| error.context(&format!("model '{}'", call.model().model_id));
        // As long as the provider asks: waiting loses no answer, and KILL ends it.
        let mut pipeline = Pipeline::new(self, call.clone(), work, options.concurrency, None, None)?;
        let mut unsent = inputs.iter().enumerate();
        loop {
            // A few batches ahead of what is under way.
            while pipeline.waiting() < pipeline.batch_size().saturating_mul(pipeline.concurrency()) {
                let Some((i, (_, message))) = unsent.next() else { break };
                pipeline.push(i as u64, input(message.clone()), interrupt)?;
            }
            let last = unsent.len() == 0;
            if last && pipeline.is_empty() {
                return Ok(());
            }
            let Some(done) = pipeline.advance(Duration::from_secs(1), last, interrupt).map_err(of_model)? else {
                continue;
            };
            let Some((key, message)) = usize::try_from(done.id).ok().and_then(|i| inputs.get(i)) else { continue };
            let text = &message.text;
            match done.result {
                Ok(value) => collection.keep(*key, known(value), text.len())?,
                Err(error) if is_of_the_input(&error) => {
                    collection.keep(*key, Known::Failed(of_model(error)), text.len())?;
                }
                // A text that is not sent with others, such as an empty one.
                Err(error) if error.kind() == Kind::Invalid => collection.keep(*key, Known::Single, text.len())?,
                Err(error) => return Err(of_model(error)),
            }
        }
    }
}
