//! What a model, a secret and a setting is, how each is validated, and where they are stored.

pub mod built_in;
pub mod bulk_store;
mod called;
pub mod embed_config_store;
pub mod endpoint_url;
pub mod function_name;
pub mod leaked_key;
pub mod local_place;
pub mod model;
pub mod options;
pub mod registration;
pub mod secret;
pub mod settings;
pub mod sql_store;
pub mod store;
