//! What tells about models without changing them: providers, URLs, names, a trial call, counters, leaked keys.

use serde_json::{json, Value};

use super::command::{command, required, Command};
use crate::registry::engine::engine;
use crate::registry::sql_store;
use crate::server::sql::check_may_execute;
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_core::catalog::model::ProviderId;
use mysql_ml_core::providers::table::provider;
use mysql_ml_core::registration::Registration;

command! {
    /// `ml_list_model_providers()`: a JSON array with an object a provider: its name, what its models can do, and the
    /// options it understands besides those that all do. The view `mysql.ml_model_providers` shows it as a table.
    ListProviders = "ml_list_model_providers", &[], 0, |_, _, _| {
        let all: Vec<Value> = ProviderId::ALL
            .iter()
            .map(|id| {
                let capabilities = provider(*id).capabilities();
                json!({
                    "provider": id.as_str(),
                    "embedding": capabilities.embedding,
                    "generate": capabilities.generate,
                    "rerank": capabilities.rerank,
                    "image": capabilities.image,
                    "options": provider(*id).options().join(", "),
                })
            })
            .collect();
        Ok(Value::Array(all).to_string())
    }
}
command! {
    /// `ml_generate_model_request_url(provider, type, qualified_name, region)`: the URL that a model registered without
    /// one is called at. Follows AlloyDB's `google_ml.generate_model_request_url`.
    GenerateRequestUrl = "ml_generate_model_request_url",
    &[&["model_provider", "provider"], &["model_type"], &["model_qualified_name"], &["model_region", "region"]], 3,
    |v, _, interrupt| {
        check_may_execute("ml_generate_model_request_url", 4, interrupt)?;
        let text = |p: usize| v.get(p).copied().flatten().filter(|t| !t.is_empty()).map(str::to_owned);
        let registration = Registration {
            model_id: required(v, 2, "model_qualified_name")?.to_owned(),
            provider: Some(required(v, 0, "model_provider")?.to_owned()),
            model_type: text(1),
            qualified_name: text(2),
            ..Registration::default()
        };
        engine().request_url(&registration, text(3).as_deref(), interrupt)
    }
}

/// `ml_model_qualified_name_of(model_id)`: the provider's name of a model; NULL where it was registered without.
/// Follows AlloyDB's `google_ml.model_qualified_name_of`; may be called in transform functions.
pub struct QualifiedNameOf;

impl Command for QualifiedNameOf {
    const NAME: &'static str = "ml_model_qualified_name_of";
    const PARAMETERS: &'static [&'static [&'static str]] = &[&["model_id"]];
    const REQUIRED: usize = 1;

    fn run(values: &[Option<&str>], _by_name: bool, interrupt: &dyn Interrupt) -> Result<Option<String>> {
        sql_store::qualified_name_of(required(values, 0, "model_id")?, interrupt)
    }
}

command! {
    /// `ml_validate_model(model_id)`: makes one small call and tells what came of it, as JSON.
    ValidateModel = "ml_validate_model", &[&["model_id"]], 1, |v, _, interrupt| {
        engine().validate(required(v, 0, "model_id")?, interrupt)
    }
}
command! {
    /// `ml_status()`: what each model was asked, what it cost and how it answered, as JSON.
    Status = "ml_status", &[], 0, |_, _, interrupt| {
        check_may_execute("ml_status", 0, interrupt)?;
        Ok(engine().status_json())
    }
}
command! {
    /// `ml_reset_status()`: counts from zero.
    ResetStatus = "ml_reset_status", &[], 0, |_, _, interrupt| {
        crate::server::sql::check_may_call("ml_reset_status", 0, interrupt)?;
        engine().reset_status();
        Ok("reset".to_owned())
    }
}
/// `ml_cache_clear(model_id)`: removes a model's embeddings from memory and disk, with NULL those of all models; returns
/// how many there were.
pub struct CacheClear;

impl Command for CacheClear {
    const NAME: &'static str = "ml_cache_clear";
    const PARAMETERS: &'static [&'static [&'static str]] = &[&["model_id"]];
    const REQUIRED: usize = 1;

    fn run(values: &[Option<&str>], _by_name: bool, interrupt: &dyn Interrupt) -> Result<Option<String>> {
        crate::server::sql::check_may_call("ml_cache_clear", 1, interrupt)?;
        let removed = engine().clear_cache(values.first().copied().flatten(), interrupt)?;
        Ok(Some(removed.to_string()))
    }
}

command! {
    /// `ml_audit_secrets()`: where registrations hold what looks like a key, as a JSON array.
    AuditSecrets = "ml_audit_secrets", &[], 0, |_, _, interrupt| sql_store::audit_secrets(interrupt)
}
