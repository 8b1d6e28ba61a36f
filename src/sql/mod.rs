//! The SQL functions, one file a family. They read arguments, call the engine or a job, and return.

pub mod aggregate;
pub mod ai;
pub mod auto_embed;
pub mod batch;
pub mod chunk;
pub mod chunks;
pub mod command;
pub mod count_tokens;
pub mod distances;
pub mod embed_table;
pub mod embedding;
pub mod embedding_agg;
pub mod explain;
#[allow(unsafe_code, missing_docs, reason = "the `register` macro makes `extern` functions, without docs")]
pub mod exports;
pub mod generate;
pub mod generate_table;
pub mod image_embedding;
pub mod inspect;
pub mod install;
pub mod local_models;
pub mod model_call;
pub mod named;
pub mod predict;
pub mod query;
pub mod registration;
pub mod rerank;
pub mod rollup;
pub mod search;
pub mod similarity;
pub mod vector_index;
pub mod version;
