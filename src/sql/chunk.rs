//! `ai_chunk(text [, options])`.

use surface::{functions, Function};

use super::model_call::LastCall;
use super::named::{bind, Bound};
use crate::jobs::engine;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{BytesFunction, SqlFunction};
use crate::mysql::sql::refuse_inside_user_functions;
use crate::mysql::statement::{ProcessState, StatementInterrupt};
use mysql_ml_base::error::Result;
use mysql_ml_base::memory::{Held, Reservation};

/// The chunks of a text as a JSON array of objects with `chunk`, and with `start` (from 1) and `length` in characters.
/// NULL for a NULL text; NULL options are the defaults.
pub struct Chunk {
    bound: Bound,
    last: LastCall<Done>,
}

/// The statement's last call and its result.
struct Done {
    text: String,
    options: Option<String>,
    result: Held<String>,
    _share: Reservation,
}

impl SqlFunction for Chunk {
    const FUNCTION: &'static Function = functions::ai_chunk;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        let bound = bind(setup, Self::FUNCTION)?;
        setup.returns_text(0x3fff_ffff)?;
        Ok(Chunk { bound, last: LastCall::default() })
    }
}

impl BytesFunction for Chunk {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        let Some(text) = self.bound.text(args, 0)? else { return Ok(None) };
        let options = self.bound.text(args, 1)?;
        refuse_inside_user_functions()?;
        let same = |done: &Done| done.options.as_deref() == options && done.text == text;
        let done = self.last.or_call(Self::FUNCTION, same, || {
            let _state = ProcessState::set(c"cutting a text: ai_chunk");
            let share = Reservation::take(text.len(), "the text")?;
            let result = engine().chunk(text, options, &StatementInterrupt::current())?;
            Ok(Done { text: text.to_owned(), options: options.map(str::to_owned), result, _share: share })
        })?;
        Ok(Some(done.result.as_bytes()))
    }
}
