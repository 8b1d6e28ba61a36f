//! Every function the library exports, and the glue between the `udf` crate's entry points and ours.
//!
//! A function is a type that implements the traits of [`super::function`]; a line in the list at the end exports
//! it. Nothing else in the library is visible to the server.
//!
//! What a stored function of the same name wraps is exported by a second name too, which the wrapper calls. With one name for
//! both, the wrapper would call itself where the loadable function is missing: the server would speak of a recursion
//! (1424), and not of the library. mysqldump drops the loadable one when it means the other.

use std::num::NonZeroU8;

use udf::prelude::*;

use super::args::{Args, Setup};
use super::function::{AggregateFunction, BytesFunction, RealFunction, SqlFunction};
use super::symbols::require_server;
use super::{guard, stored_program};

fn init<F: SqlFunction>(cfg: &UdfCfg<Init>, args: &ArgList<Init>) -> std::result::Result<F, String> {
    guard::entry(F::NAME, || {
        mysql_ml_base::panics::injected_panic("init");
        require_server()?;
        let setup = Setup::new(cfg, args);
        stored_program::refuse_subquery(&setup.args)?;
        F::prepare(&setup)
    })
}

macro_rules! export {
    // Results are references, never owned buffers: the crate leaks those. Names are `tt`: as `literal` the attribute would get
    // them in invisible brackets, which it does not read.
    (bytes $wrapper:ident = $name:tt $(, $alias:tt)?: $function:ty) => {
        export!(@ $wrapper = $name $(, $alias)?: $function, Option<&'a [u8]>);
    };
    (real $wrapper:ident = $name:tt: $function:ty) => {
        export!(@ $wrapper = $name: $function, Option<f64>);
    };
    (aggregate $wrapper:ident = $name:tt: $function:ty) => {
        export!(@ $wrapper = $name: $function, Option<&'a [u8]>);

        #[register(name = $name)]
        impl AggregateUdf for $wrapper {
            fn clear(
                &mut self,
                _cfg: &UdfCfg<Process>,
                _error: Option<NonZeroU8>,
            ) -> std::result::Result<(), NonZeroU8> {
                guard::entry(<$function as SqlFunction>::NAME, || self.0.clear()).map_err(|_| NonZeroU8::MIN)
            }

            fn add(
                &mut self,
                _cfg: &UdfCfg<Process>,
                args: &ArgList<Process>,
                error: Option<NonZeroU8>,
            ) -> std::result::Result<(), NonZeroU8> {
                // After an error the server may go on with the next rows.
                if let Some(error) = error {
                    return Err(error);
                }
                guard::entry(<$function as SqlFunction>::NAME, || {
                    mysql_ml_base::panics::injected_panic("call");
                    self.0.add(&Args::from_process(args))
                })
                .map_err(|_| NonZeroU8::MIN)
            }
        }
    };
    (@ $wrapper:ident = $name:tt $(, $alias:tt)?: $function:ty, $($returns:tt)+) => {
        #[doc = concat!("The exported function `", $name, "`.")]
        pub struct $wrapper($function);

        #[register(name = $name $(, alias = $alias)?)]
        impl BasicUdf for $wrapper {
            type Returns<'a> = $($returns)+;

            fn init(cfg: &UdfCfg<Init>, args: &ArgList<Init>) -> std::result::Result<Self, String> {
                init::<$function>(cfg, args).map($wrapper)
            }

            fn process<'a>(
                &'a mut self,
                _cfg: &UdfCfg<Process>,
                args: &ArgList<Process>,
                _error: Option<NonZeroU8>,
            ) -> std::result::Result<Self::Returns<'a>, ProcessError> {
                guard::entry(<$function as SqlFunction>::NAME, move || {
                    mysql_ml_base::panics::injected_panic("call");
                    self.0.call(&Args::from_process(args))
                })
                .map_err(|_| ProcessError)
            }
        }
    };
}

use crate::functions::command::CommandFunction;
use crate::functions::model_call::ModelFunction;
use crate::functions::{
    auto_embed, batch, distance, embed_table, embedding, embedding_agg, generate, image_embedding, inspect, install,
    local_models, predict, registration, version,
};

export!(bytes MlVersion = "ml_version", "mysql_ml_so_ml_version": version::Version);
export!(bytes MlEmbedding = "ml_embedding", "mysql_ml_so_ml_embedding": ModelFunction<embedding::Embedding>);
export!(bytes MlQueryEmbedding = "ml_query_embedding", "mysql_ml_so_ml_query_embedding": ModelFunction<embedding::QueryEmbedding>);
export!(bytes MlEmbeddingBatch = "ml_embedding_batch", "mysql_ml_so_ml_embedding_batch": ModelFunction<batch::EmbeddingBatch>);
export!(aggregate MlEmbeddingAgg = "ml_embedding_agg": embedding_agg::EmbeddingAgg);
export!(bytes MlEmbedTable = "ml_embed_table": CommandFunction<embed_table::EmbedTable>);
export!(bytes MlInitializeEmbeddings = "ml_initialize_embeddings": CommandFunction<auto_embed::InitializeEmbeddings>);
export!(bytes MlRefreshEmbeddings = "ml_refresh_embeddings": CommandFunction<auto_embed::RefreshEmbeddings>);
export!(bytes MlDropEmbeddingConfig = "ml_drop_embedding_config": CommandFunction<auto_embed::DropEmbeddingConfig>);
export!(bytes MlEmbeddingProgress = "ml_embedding_progress": CommandFunction<auto_embed::EmbeddingProgress>);
export!(bytes MlPredictRow = "ml_predict_row", "mysql_ml_so_ml_predict_row": ModelFunction<predict::PredictRow>);
export!(bytes MlImageEmbedding = "ml_image_embedding", "mysql_ml_so_ml_image_embedding": image_embedding::ImageEmbedding);
export!(bytes MlGenerate = "ml_generate", "mysql_ml_so_ml_generate": generate::Generate);
export!(bytes MlCreateModelRegistration = "ml_create_model_registration": CommandFunction<registration::CreateModel>);
export!(bytes MlAlterModelRegistration = "ml_alter_model_registration": CommandFunction<registration::AlterModel>);
export!(bytes MlDropModelRegistration = "ml_drop_model_registration": CommandFunction<registration::DropModel>);
export!(bytes MlListRegisteredModel = "ml_list_registered_model", "mysql_ml_so_ml_list_registered_model": CommandFunction<registration::ListModel>);
export!(bytes MlSetModelOptions = "ml_set_model_options": CommandFunction<registration::SetModelOptions>);
export!(bytes MlCreateSmSecretRegistration = "ml_create_sm_secret_registration": CommandFunction<registration::CreateSecret>);
export!(bytes MlAlterSmSecretRegistration = "ml_alter_sm_secret_registration": CommandFunction<registration::AlterSecret>);
export!(bytes MlDropSmSecretRegistration = "ml_drop_sm_secret_registration": CommandFunction<registration::DropSecret>);
export!(bytes MlCreateSecret = "ml_create_secret": CommandFunction<registration::CreateKeyringSecret>);
export!(bytes MlAlterSecret = "ml_alter_secret": CommandFunction<registration::AlterKeyringSecret>);
export!(bytes MlSetSecretOptions = "ml_set_secret_options": CommandFunction<registration::SetSecretOptions>);
export!(bytes MlSetSetting = "ml_set_setting": CommandFunction<registration::SetSetting>);
export!(bytes MlListSettings = "ml_list_settings", "mysql_ml_so_ml_list_settings": CommandFunction<registration::ListSettings>);
export!(bytes MlListModelProviders = "ml_list_model_providers": CommandFunction<inspect::ListProviders>);
export!(bytes MlGenerateModelRequestUrl = "ml_generate_model_request_url", "mysql_ml_so_ml_generate_model_request_url": CommandFunction<inspect::GenerateRequestUrl>);
export!(bytes MlModelQualifiedNameOf = "ml_model_qualified_name_of", "mysql_ml_so_ml_model_qualified_name_of": CommandFunction<inspect::QualifiedNameOf>);
export!(bytes MlValidateModel = "ml_validate_model", "mysql_ml_so_ml_validate_model": CommandFunction<inspect::ValidateModel>);
export!(bytes MlLoadModel = "ml_load_model": CommandFunction<local_models::LoadModel>);
export!(bytes MlUnloadModel = "ml_unload_model": CommandFunction<local_models::UnloadModel>);
export!(bytes MlFetchModel = "ml_fetch_model": CommandFunction<local_models::FetchModel>);
export!(bytes MlStatus = "ml_status", "mysql_ml_so_ml_status": CommandFunction<inspect::Status>);
export!(bytes MlResetStatus = "ml_reset_status": CommandFunction<inspect::ResetStatus>);
export!(bytes MlCacheClear = "ml_cache_clear": CommandFunction<inspect::CacheClear>);
export!(bytes MlAuditSecrets = "ml_audit_secrets", "mysql_ml_so_ml_audit_secrets": CommandFunction<inspect::AuditSecrets>);
export!(real CosineDistance = "cosine_distance": distance::CosineDistance);
export!(real L2SquaredDistance = "l2_squared_distance": distance::L2SquaredDistance);
export!(real DotProduct = "dot_product": distance::DotProduct);
export!(real VectorDistance = "vector_distance": distance::VectorDistance);
export!(real Distance = "distance": distance::Distance);
export!(bytes CreateFunction = "mysql_ml_so_create_function": CommandFunction<install::CreateFunction>);
