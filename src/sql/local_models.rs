//! Functions that fetch, load and unload local models.

use super::command::command;
use crate::jobs::engine;

command! {
    /// `ml_load_model(model_id)`: loads a local model into memory. Returns a JSON object with `directory`, `kind`,
    /// `dimensions`, `memory_bytes` and `ms`. The model's first use does the same.
    LoadModel = ml_load_model, |v, interrupt| {
        engine().load_model(v.required(0)?, interrupt)
    }
}
command! {
    /// `ml_unload_model(model_id)`: removes a local model from memory once no call uses it. Returns 1, or 0 if it was
    /// not loaded. Its next use loads the files as they are then.
    UnloadModel = ml_unload_model, |v, interrupt| {
        engine().unload_model(v.required(0)?, interrupt)
    }
}
command! {
    /// `ml_fetch_model(model_id)`: fetches the files of a model registered as `hf:organisation/name` into the
    /// directory of models. Returns a JSON object with `directory`, `revision`, `files`, `bytes` and `seconds`.
    FetchModel = ml_fetch_model, |v, interrupt| {
        engine().fetch_model(v.required(0)?, interrupt)
    }
}
