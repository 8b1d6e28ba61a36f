//! Data types of models, secrets and settings, and the checks of their values.

pub mod default_model;
pub mod endpoints;
pub mod function_name;
pub mod ids;
pub mod local_place;
pub mod members;
pub mod model;
pub mod options;
pub mod secret;
pub mod settings;
