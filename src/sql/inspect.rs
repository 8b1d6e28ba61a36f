//! Functions that inspect models and change nothing: providers, URLs, names, a trial call, counters, leaked keys.

use serde_json::{json, Value};
use surface::functions;

use super::command::command;
use crate::jobs::engine;
use crate::mysql::sql::check_may_execute;
use crate::registry::sql_store;
use mysql_ml_core::catalog::model::ProviderId;
use mysql_ml_core::providers::table::provider;
use mysql_ml_core::registration::Registration;

command! {
    /// `ml_list_model_providers()`: a JSON array, one object for each provider: name, capabilities, and the options
    /// it accepts besides the common ones. The view `mysql.ml_model_providers` displays it as a table.
    ListProviders = ml_list_model_providers, |_, _| {
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
    /// `ml_generate_model_request_url(provider, type, qualified_name, region)`: the default URL of such a model.
    /// Follows AlloyDB's `google_ml.generate_model_request_url`.
    GenerateRequestUrl = ml_generate_model_request_url, |v, interrupt| {
        check_may_execute(functions::ml_generate_model_request_url, interrupt)?;
        let text = |p: usize| v.text(p).filter(|t| !t.is_empty()).map(str::to_owned);
        let registration = Registration {
            model_id: v.required(2)?.to_owned(),
            provider: Some(v.required(0)?.to_owned()),
            model_type: text(1),
            qualified_name: text(2),
            ..Registration::default()
        };
        engine().request_url(&registration, text(3).as_deref(), interrupt)
    }
}

command! {
    /// `ml_model_qualified_name_of(model_id)`: the provider's name of a model; NULL if it was registered without one.
    /// Transform functions may call it. Follows AlloyDB's `google_ml.model_qualified_name_of`.
    QualifiedNameOf = ml_model_qualified_name_of, or_null |v, interrupt| {
        sql_store::qualified_name_of(v.required(0)?, interrupt)
    }
}
command! {
    /// `ml_validate_model(model_id)`: sends one small request and returns its outcome as a JSON object.
    ValidateModel = ml_validate_model, |v, interrupt| {
        engine().validate(v.required(0)?, interrupt)
    }
}
command! {
    /// `ml_status()`: counters of requests, tokens, latency and errors for each model, as a JSON object.
    Status = ml_status, |_, interrupt| {
        check_may_execute(functions::ml_status, interrupt)?;
        Ok(engine().status_json())
    }
}
command! {
    /// `ml_reset_status()`: resets all counters to zero.
    ResetStatus = ml_reset_status, |_, interrupt| {
        check_may_execute(functions::ml_reset_status, interrupt)?;
        engine().reset_status();
        Ok("reset".to_owned())
    }
}
command! {
    /// `ml_cache_clear(model_id)`: removes a model's embeddings from memory and disk; NULL: those of all models.
    /// Returns their number.
    CacheClear = ml_cache_clear, |v, interrupt| {
        check_may_execute(functions::ml_cache_clear, interrupt)?;
        engine().clear_cache(v.text(0), interrupt).map(|removed| removed.to_string())
    }
}
command! {
    /// `ml_audit_secrets()`: the places in registrations that appear to hold a key, as a JSON array.
    AuditSecrets = ml_audit_secrets, |_, interrupt| sql_store::audit_secrets(interrupt)
}
