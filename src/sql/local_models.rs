//! Models inside the server: fetched, loaded and unloaded by hand.

use super::command::command;
use crate::jobs::engine;

command! {
    /// `ml_load_model(model_id)`: loads a model inside the server that is not in memory, and tells of it as a JSON object:
    /// `directory`, `kind`, `dimensions`, `memory_bytes`, `ms`. Its first use does the same.
    LoadModel = ml_load_model, |v, interrupt| {
        engine().load_model(v.required(0)?, interrupt)
    }
}
command! {
    /// `ml_unload_model(model_id)`: takes a model out of memory when nobody computes with it any more; 1 if it was there, else
    /// 0. Its next use loads it again, from the files as they are then.
    UnloadModel = ml_unload_model, |v, interrupt| {
        engine().unload_model(v.required(0)?, interrupt)
    }
}
command! {
    /// `ml_fetch_model(model_id)`: fetches the files of a model that is registered with `hf:organisation/name` into the
    /// directory of models, and tells of them as a JSON object: `directory`, `revision`, `files`, `bytes`, `seconds`.
    FetchModel = ml_fetch_model, |v, interrupt| {
        engine().fetch_model(v.required(0)?, interrupt)
    }
}
