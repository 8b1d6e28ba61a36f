//! Registrations: texts of SQL, their checks, and the resulting model.

pub mod built_in;
pub mod edb;
pub mod endpoint_url;
pub mod endpoints;
pub mod google_presets;
pub mod local_presets;

use self::endpoint_url::google_hosts;
pub use self::endpoint_url::{checked_url, is_google, url_is_certain};
use crate::catalog::function_name::FunctionName;
use crate::catalog::model::{
    check_id, AuthType, Backend, InputTransform, Model, ModelType, OutputTransform, ProviderId,
};
use crate::catalog::options::ModelOptions;
use crate::catalog::settings::Settings;
use crate::http::leaked_key;

use crate::providers::local;
use crate::providers::table::provider;
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{cut, Error, Kind, Result};

/// The texts of a registration; `None` is SQL NULL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registration {
    /// The model's id.
    pub model_id: String,
    /// The endpoint.
    pub request_url: Option<String>,
    /// The provider.
    pub provider: Option<String>,
    /// The type.
    pub model_type: Option<String>,
    /// The provider's name of the model.
    pub qualified_name: Option<String>,
    /// How requests are authenticated.
    pub auth_type: Option<String>,
    /// The secret's id.
    pub auth_id: Option<String>,
    /// The header function.
    pub header_fn: Option<String>,
    /// The input transform.
    pub input_fn: Option<String>,
    /// The output transform.
    pub output_fn: Option<String>,
}

/// Applies one closure to each optional text of a registration.
macro_rules! each_text {
    ($registration:expr, $f:expr) => {{
        let r = $registration;
        $f(&mut r.request_url);
        $f(&mut r.provider);
        $f(&mut r.model_type);
        $f(&mut r.qualified_name);
        $f(&mut r.auth_type);
        $f(&mut r.auth_id);
        $f(&mut r.header_fn);
        $f(&mut r.input_fn);
        $f(&mut r.output_fn);
    }};
}

impl Registration {
    /// Takes the ten arguments in order.
    pub fn from_arguments(arguments: [Option<String>; 10]) -> Result<Self> {
        let [id, request_url, provider, model_type, qualified_name, auth_type, auth_id, header_fn, input_fn, output_fn] =
            arguments;
        let model_id = id.unwrap_or_default();
        check_id("model_id", &model_id)?;
        Ok(Registration {
            model_id,
            request_url,
            provider,
            model_type,
            qualified_name,
            auth_type,
            auth_id,
            header_fn,
            input_fn,
            output_fn,
        })
    }

    /// For create: empty texts become NULL.
    #[must_use]
    pub fn without_blanks(mut self) -> Self {
        each_text!(&mut self, |text: &mut Option<String>| {
            *text = text.take().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        });
        self
    }

    /// For alter: over the stored registration, NULL keeps a value and an empty text clears it.
    #[must_use]
    pub fn over(self, stored: Registration) -> Self {
        let pick = |new: Option<String>, old: Option<String>| match new {
            None => old,
            Some(text) => Some(text),
        };
        let by_edb = self.provider.as_deref().is_some_and(|p| edb::find(p).is_some());
        Registration {
            // An EDB name implies type and model too.
            model_type: pick(self.model_type, stored.model_type.filter(|_| !by_edb)),
            qualified_name: pick(self.qualified_name, stored.qualified_name.filter(|_| !by_edb)),
            model_id: stored.model_id,
            request_url: pick(self.request_url, stored.request_url),
            provider: pick(self.provider, stored.provider),
            auth_type: pick(self.auth_type, stored.auth_type),
            auth_id: pick(self.auth_id, stored.auth_id),
            header_fn: pick(self.header_fn, stored.header_fn),
            input_fn: pick(self.input_fn, stored.input_fn),
            output_fn: pick(self.output_fn, stored.output_fn),
        }
        .without_blanks()
    }

    /// The stored functions named by the last three arguments, without templates, paths and built-in functions.
    pub fn function_texts(&self) -> Vec<&str> {
        [&self.header_fn, &self.input_fn, &self.output_fn]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .filter(|t| !t.is_empty() && !is_declarative(t) && built_in::find(t).is_none())
            .collect()
    }

    /// The stored functions of `stored` that this change of it keeps.
    pub fn kept_functions<'a>(&self, stored: &'a Registration) -> Vec<&'a str> {
        let keep = |new: &Option<String>, old: &Option<String>| old.clone().filter(|_| new.is_none());
        let kept = Registration {
            header_fn: keep(&self.header_fn, &stored.header_fn),
            input_fn: keep(&self.input_fn, &stored.input_fn),
            output_fn: keep(&self.output_fn, &stored.output_fn),
            ..Registration::default()
        };
        let kept = kept.function_texts();
        stored.function_texts().into_iter().filter(|text| kept.contains(text)).collect()
    }

    /// An error if a text that every caller of the model may read looks like a key. The text is not repeated. The URL
    /// is checked when it is parsed.
    pub fn check_for_keys(&self) -> Result<()> {
        let refuse = |argument: &str, what: &str, next: &str| {
            Err(Error::invalid(format!("{argument} appears to hold {what}, which everybody could read; {next}")))
        };
        let register = "register the key with CALL mysql.ml_create_sm_secret_registration(...) and give the id of that secret as model_auth_id";
        let texts = [
            ("model_qualified_name", &self.qualified_name),
            ("model_auth_id", &self.auth_id),
            ("generate_headers_fn", &self.header_fn),
            ("model_in_transform_fn", &self.input_fn),
            ("model_out_transform_fn", &self.output_fn),
        ];
        for (argument, text) in texts {
            if let Some(what) = text.as_deref().and_then(leaked_key::in_text) {
                return refuse(argument, what, register);
            }
        }
        match self.input_fn.as_deref().and_then(key_in_template) {
            Some(what) => refuse(
                "model_in_transform_fn",
                what,
                "send it as a header by a registered secret, or let a stored function read it from a table",
            ),
            None => Ok(()),
        }
    }

    /// The wire format: that of its built-in functions, else its provider's.
    fn api(&self, provider_id: ProviderId, model_type: ModelType) -> Result<ProviderId> {
        let find = |text: &Option<String>| text.as_deref().and_then(built_in::find);
        let (input, output) = (find(&self.input_fn), find(&self.output_fn));
        let own = |text: &Option<String>, found: Option<&built_in::BuiltIn>| text.is_some() && found.is_none();
        if own(&self.input_fn, input) && output.is_some() || own(&self.output_fn, output) && input.is_some() {
            return Err(Error::invalid(
                "one transform is built in and the other is not; a built-in one goes with the other built-in one only",
            ));
        }
        let mut api = provider_id;
        for found in [find(&self.header_fn), input, output].into_iter().flatten() {
            if found.role != built_in::Role::Header && found.embeds() != model_type.embeds() {
                return Err(Error::invalid(format!(
                    "the built-in transform is not for models of model_type {}; leave the transforms NULL",
                    model_type.as_str()
                )));
            }
            if provider_id == ProviderId::Custom {
                api = found.api;
            } else if provider_id != found.api {
                return Err(Error::invalid(format!(
                    "the built-in function is one of provider {}, the model's provider is {}; leave the function NULL",
                    found.api.as_str(),
                    provider_id.as_str()
                )));
            }
        }
        Ok(api)
    }

    /// Checks everything that needs no server, and returns the model. `options`: the stored JSON. `revision`: a text
    /// that changes with each change of the registration.
    pub fn to_model(&self, options: Option<&str>, definer: Account, revision: &str) -> Result<Model> {
        let edb = self.provider.as_deref().and_then(edb::find);
        let provider_id = match (&self.provider, edb) {
            (_, Some(edb)) => edb.provider,
            (Some(text), None) => ProviderId::parse(text)?,
            (None, None) => ProviderId::Custom,
        };
        let model_type = match (&self.model_type, edb) {
            (Some(text), _) => ModelType::parse(text)?,
            (None, Some(edb)) => edb.model_type,
            // Providers that cannot have model_type generic.
            (None, None) if provider_id == ProviderId::Dummy => ModelType::TextEmbedding,
            (None, None) => local::default_type(provider_id).unwrap_or(ModelType::Generic),
        };
        if let (Some(edb), true) = (edb, self.model_type.is_some())
            && edb.model_type != model_type
        {
            return Err(Error::invalid(format!(
                "model_provider '{}' means model_type {}; leave model_type NULL, or give the provider as {}",
                edb.name,
                edb.model_type.as_str(),
                edb.provider.as_str()
            )));
        }
        let qualified_name =
            self.qualified_name.clone().or_else(|| edb.and_then(|e| e.default_model).map(str::to_owned));
        let qualified_name = match (&self.request_url, qualified_name) {
            (None, None) => local_presets::default_model(provider_id).map(str::to_owned),
            (_, name) => name,
        };
        let auth_type = match self.auth_type.as_deref() {
            Some(text) => Some(AuthType::parse(text)?),
            // Google's models need an identity; the default is the server's own.
            None if provider_id == ProviderId::Google && self.auth_id.is_none() && self.header_fn.is_none() => {
                Some(AuthType::ServiceAgentIam)
            }
            None => None,
        };
        if let Some(url) = self.request_url.as_ref().filter(|u| u.len() > 2048) {
            return Err(Error::invalid(format!(
                "model_request_url is {} bytes long; at most 2048 are accepted",
                url.len()
            )));
        }
        // A built-in function is not called: it selects the wire format.
        let api = self.api(provider_id, model_type)?;
        let own = |text: &Option<String>| text.clone().filter(|t| built_in::find(t).is_none());
        Ok(Model {
            model_id: self.model_id.clone(),
            request_url: self.request_url.clone(),
            provider: provider_id,
            api,
            model_type,
            auth_type,
            auth_id: self.auth_id.clone(),
            header_fn: own(&self.header_fn).as_deref().map(FunctionName::parse).transpose()?,
            input: own(&self.input_fn).as_deref().map(InputTransform::parse).transpose()?,
            output: own(&self.output_fn).as_deref().map(OutputTransform::parse).transpose()?,
            options: ModelOptions::from_json(options)?,
            fingerprint: Model::fingerprint(&[
                Some(&self.model_id),
                self.request_url.as_deref(),
                Some(provider_id.as_str()),
                Some(model_type.as_str()),
                qualified_name.as_deref(),
                self.auth_id.as_deref(),
                self.header_fn.as_deref(),
                self.input_fn.as_deref(),
                self.output_fn.as_deref(),
                options,
                Some(&definer.to_string()),
                Some(revision),
            ]),
            qualified_name,
            built_in: false,
            definer,
        })
    }
}

/// Whether a transform is a template or path instead of a stored function.
pub fn is_declarative(text: &str) -> bool {
    text.starts_with("json:") || text.starts_with("path:")
}

/// The kind of key in a `json:` template; `None` for other texts.
pub fn key_in_template(text: &str) -> Option<&'static str> {
    let template = text.strip_prefix("json:").filter(|t| t.len() <= crate::json::MAX_DOCUMENT)?;
    leaked_key::in_template(&serde_json::from_str(template).ok()?)
}

/// Checks that involve several arguments, for every endpoint.
pub fn check(model: &Model, settings: &Settings) -> Result<()> {
    check_one(model, settings)?;
    endpoints::check(model, |at| check_one(at, settings))
}

fn check_one(model: &Model, settings: &Settings) -> Result<()> {
    if !model.model_type.embeds() && (model.input.is_some() || model.output.is_some()) {
        return Err(Error::invalid(format!(
            "a {} model takes no input or output transform (ml_predict_row sends the body as it is); leave them NULL, or use model_type text_embedding",
            model.model_type.as_str()
        )));
    }
    if model.input.is_some() != model.output.is_some() {
        return Err(Error::invalid(
            "an input transform needs an output transform and the other way round; give both or none",
        ));
    }
    match (model.auth_type, &model.auth_id) {
        (Some(AuthType::SecretManager), None) => {
            return Err(Error::invalid(
                "model_auth_id is required with auth_type_secret_manager; give the id of a registered secret",
            ))
        }
        (None, Some(id)) => {
            return Err(Error::invalid(format!(
                "model_auth_id '{}' is given without model_auth_type; add auth_type_secret_manager",
                cut(id, 60)
            )))
        }
        _ => {}
    }
    check_options(model)?;
    let api = provider(model.api);
    // Templates replace the provider's own shapes and their required arguments.
    if model.input.is_none() || model.api == ProviderId::Custom {
        api.check(model)?;
    }
    if model.backend() != Backend::Remote {
        return Ok(());
    }
    let url = checked_url(model, settings)?;
    settings.network.egress_allowlist.check_url(&url, false).map_err(|e| e.context("model_request_url"))?;
    if model.auth_type == Some(AuthType::ServiceAgentIam) && !google_hosts().may_have_token(&url) {
        return Err(Error::new(
            Kind::Denied,
            format!(
                "model_auth_type {} sends the server's Google identity, which goes to Vertex AI, the Gemini API and Discovery Engine only; use auth_type_secret_manager for {}",
                AuthType::ServiceAgentIam.as_str(),
                cut(url.host_str().unwrap_or_default(), 80)
            ),
        ));
    }
    Ok(())
}

/// An error for options that the provider ignores.
fn check_options(model: &Model) -> Result<()> {
    let (known, unused) = (provider(model.api).options(), provider(model.api).unused_options(model));
    let known: Vec<&str> = known.iter().copied().filter(|name| !unused.contains(name)).collect();
    match model.options.special().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => Err(Error::invalid(format!(
            "option {name} means nothing to this model of provider {}{}; remove it with '{{\"{name}\": null}}'",
            model.provider.as_str(),
            if known.is_empty() { String::new() } else { format!(", which knows {}", known.join(", ")) }
        ))),
    }
}

/// A stored function, as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionInfo {
    /// Its name with the schema.
    pub name: FunctionName,
    /// `DATA_TYPE` of `information_schema.ROUTINES`, lower case.
    pub returns: String,
    /// Number of its parameters.
    pub parameters: u64,
}

impl FunctionInfo {
    fn returns_bytes(&self) -> bool {
        matches!(
            self.returns.as_str(),
            "blob" | "tinyblob" | "mediumblob" | "longblob" | "binary" | "varbinary" | "vector"
        )
    }

    fn returns_document(&self) -> bool {
        matches!(self.returns.as_str(), "json" | "text" | "tinytext" | "mediumtext" | "longtext" | "varchar" | "char")
    }
}

/// One of the three last arguments after its function was looked up.
enum Transform {
    Empty,
    BuiltIn(built_in::Role),
    Template,
    Path,
    Function(FunctionInfo),
}

/// Puts the three last arguments into the reference's order (header, input, output) and replaces function names
/// by full ones.
///
/// Published samples also pass (input, output, header). A function that returns bytes can only be the output transform,
/// so one in the second place proves that order. `by_name`: the arguments were named, so their order is certain.
pub fn order_transforms(
    registration: &mut Registration,
    by_name: bool,
    mut look_up: impl FnMut(&FunctionName) -> Result<FunctionInfo>,
) -> Result<()> {
    let mut read = |text: &Option<String>| -> Result<Transform> {
        match text.as_deref() {
            None | Some("") => Ok(Transform::Empty),
            Some(t) if t.starts_with("json:") => Ok(Transform::Template),
            Some(t) if t.starts_with("path:") => Ok(Transform::Path),
            Some(t) if built_in::find(t).is_some() => {
                Ok(built_in::find(t).map_or(Transform::Empty, |b| Transform::BuiltIn(b.role)))
            }
            Some(t) => look_up(&FunctionName::parse(t)?).map(Transform::Function),
        }
    };
    let mut kinds = [read(&registration.header_fn)?, read(&registration.input_fn)?, read(&registration.output_fn)?];
    let is_output = |t: &Transform| match t {
        Transform::Path | Transform::BuiltIn(built_in::Role::Output) => true,
        Transform::Function(f) => f.returns_bytes(),
        _ => false,
    };
    let [_, second, third] = &kinds;
    if !by_name && is_output(second) && !is_output(third) {
        kinds.rotate_right(1);
        let input = registration.header_fn.take();
        let output = registration.input_fn.take();
        registration.header_fn = registration.output_fn.take();
        registration.input_fn = input;
        registration.output_fn = output;
    }
    let [header, input, output] = &kinds;
    for (kind, place, argument) in [
        (header, built_in::Role::Header, "generate_headers_fn"),
        (input, built_in::Role::Input, "model_in_transform_fn"),
        (output, built_in::Role::Output, "model_out_transform_fn"),
    ] {
        if matches!(kind, Transform::BuiltIn(role) if *role != place) {
            return Err(Error::invalid(format!(
                "{argument} is a built-in function for another argument; give it there, or NULL"
            )));
        }
    }
    let arity = |f: &FunctionInfo, argument: &str, signature: &str| match f.parameters {
        2 => Ok(()),
        n => Err(Error::invalid(format!("{argument} {} takes {n} parameters; it must be ({signature})", f.name))),
    };
    let wrong_type = |f: &FunctionInfo, argument: &str, wanted: &str| {
        Error::invalid(format!("{argument} {} returns {}; it must return {wanted}", f.name, f.returns))
    };
    if let Transform::Function(f) = header {
        if !f.returns_document() {
            return Err(wrong_type(f, "generate_headers_fn", "JSON"));
        }
        arity(f, "generate_headers_fn", "model_id VARCHAR(100), input_text TEXT")?;
        registration.header_fn = Some(f.name.to_string());
    } else if !matches!(header, Transform::Empty | Transform::BuiltIn(_)) {
        return Err(Error::invalid(
            "generate_headers_fn must be a stored function; a template or path cannot make headers",
        ));
    }
    match input {
        Transform::Function(f) if !f.returns_document() => return Err(wrong_type(f, "model_in_transform_fn", "JSON")),
        Transform::Function(f) => {
            arity(f, "model_in_transform_fn", "model_id VARCHAR(100), input_text TEXT")?;
            registration.input_fn = Some(f.name.to_string());
        }
        Transform::Path => {
            return Err(Error::invalid("model_in_transform_fn is a path; give a stored function or a json: template"))
        }
        _ => {}
    }
    match output {
        Transform::Function(f) if !f.returns_bytes() => {
            return Err(wrong_type(f, "model_out_transform_fn", "BLOB or VECTOR"))
        }
        Transform::Function(f) => {
            arity(f, "model_out_transform_fn", "model_id VARCHAR(100), response_json JSON")?;
            registration.output_fn = Some(f.name.to_string());
        }
        Transform::Template => {
            return Err(Error::invalid("model_out_transform_fn is a json: template; give a stored function or a path:"))
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(texts: [Option<&str>; 10]) -> Registration {
        Registration::from_arguments(texts.map(|t| t.map(str::to_owned))).unwrap().without_blanks()
    }

    fn checked(texts: [Option<&str>; 10]) -> Result<Model> {
        let model = registration(texts).to_model(None, Account::library(), "")?;
        check(&model, &Settings::default())?;
        Ok(model)
    }

    const N: Option<&str> = None;

    #[test]
    fn defaults_are_custom_and_generic() {
        let m = checked([Some("m"), Some("https://h/x"), N, N, N, N, N, N, N, N]).unwrap();
        assert_eq!((m.provider, m.model_type), (ProviderId::Custom, ModelType::Generic));
        let m = checked([Some("m"), N, Some("dummy"), N, N, N, N, N, N, N]).unwrap();
        assert_eq!(m.model_type, ModelType::TextEmbedding);
    }

    #[test]
    fn arguments_that_cannot_work_are_refused_by_name() {
        let cases: [([Option<&str>; 10], &str); 10] = [
            ([Some("m"), N, Some("custom"), N, N, N, N, N, N, N], "model_request_url"),
            ([Some("m"), N, Some("anthropic"), Some("text_embedding"), N, N, N, N, N, N], "no models of model_type"),
            (
                [Some("m"), Some("https://h/"), N, N, N, Some("cloudsql_service_agent_iam"), N, N, N, N],
                "Google identity",
            ),
            ([Some("m"), N, Some("open_ai"), Some("text_embedding"), N, N, N, N, N, N], "model_qualified_name"),
            ([Some("m"), Some("http://example.com/"), N, N, N, N, N, N, N, N], "model_request_url: plain http"),
            ([Some("m"), Some("https://h/"), N, N, N, Some("secret_manager"), N, N, N, N], "model_auth_id"),
            ([Some("m"), Some("https://h/"), N, N, N, N, Some("s"), N, N, N], "model_auth_type"),
            ([Some("m"), Some("https://h/"), N, N, N, N, N, N, Some("f"), Some("g")], "generic model"),
            (
                [Some("m"), Some("https://h/"), N, Some("text_embedding"), N, N, N, N, N, N],
                "input and an output transform",
            ),
            ([Some("m"), Some("https://h/"), N, Some("text_embedding"), N, N, N, N, Some("f"), N], "both or none"),
        ];
        for (texts, part) in cases {
            let e = checked(texts).unwrap_err();
            assert!(e.message().contains(part), "{} / {part}", e.message());
        }
    }

    #[test]
    fn built_in_functions_say_whose_api_is_spoken() {
        let sample = |header, input, output| {
            let url = "publishers/google/models/gemini-embedding-001";
            let iam = Some("AUTH_TYPE_CLOUDSQL_SERVICE_AGENT_IAM");
            let mut r = registration([
                Some("gemini-embedding-001"),
                Some(url),
                Some("google"),
                Some("text_embedding"),
                Some("gemini-embedding-001"),
                iam,
                N,
                header,
                input,
                output,
            ]);
            order_transforms(&mut r, false, |_| Err(Error::internal("a built-in function was looked up"))).unwrap();
            let m = r.to_model(None, Account::library(), "").unwrap();
            check(&m, &Settings::default()).unwrap();
            (r, m)
        };
        let (i, o) = (
            Some("mysql.cloudsql_ml_text_embedding_input_transform"),
            Some("mysql.cloudsql_ml_text_embedding_output_transform"),
        );
        for (r, m) in [sample(i, o, N), sample(N, i, o)] {
            assert_eq!((r.header_fn.as_deref(), r.input_fn.as_deref(), r.output_fn.as_deref()), (N, i, o));
            assert!(m.input.is_none() && m.output.is_none() && m.api == ProviderId::Google);
        }
        let claude = registration([
            Some("c"),
            Some("https://api.anthropic.com/v1/messages"),
            N,
            N,
            N,
            N,
            N,
            Some("mysql.ml_anthropic_claude_header_gen_fn"),
            N,
            N,
        ]);
        assert_eq!(claude.to_model(None, Account::library(), "").unwrap().api, ProviderId::Anthropic);
    }

    #[test]
    fn edbs_names_say_provider_type_and_model() {
        let m = checked([Some("m"), N, Some("nim_clip"), N, N, N, N, N, N, N]).unwrap();
        assert_eq!((m.provider, m.model_type), (ProviderId::NvidiaNim, ModelType::MultimodalEmbedding));
        assert_eq!(m.qualified_name.as_deref(), Some("nvidia/nvclip"));
    }

    #[test]
    fn options_of_other_providers_are_refused() {
        let r = registration([Some("m"), N, Some("open_ai"), N, N, N, N, N, N, N]);
        let model = r.to_model(Some(r#"{"task_type":"CLUSTERING"}"#), Account::library(), "").unwrap();
        let e = check(&model, &Settings::default()).unwrap_err();
        assert!(e.message().contains("task_type means nothing to this model of provider open_ai"), "{e}");
    }

    #[test]
    fn alter_keeps_null_and_clears_empty() {
        let stored = registration([Some("m"), Some("https://h/a"), N, N, Some("q"), N, N, N, N, N]);
        let change =
            Registration::from_arguments([Some("m"), N, N, N, Some(""), N, N, N, N, N].map(|t| t.map(str::to_owned)));
        let merged = change.unwrap().over(stored);
        assert_eq!(merged.request_url.as_deref(), Some("https://h/a"));
        assert_eq!(merged.qualified_name, None);
    }

    fn order(texts: [Option<&str>; 3], by_name: bool) -> Result<[Option<String>; 3]> {
        let [h, i, o] = texts.map(|t| t.map(str::to_owned));
        let mut r = Registration { header_fn: h, input_fn: i, output_fn: o, ..Registration::default() };
        order_transforms(&mut r, by_name, |name| {
            let returns = if name.name.starts_with("out") { "blob" } else { "json" };
            Ok(FunctionInfo {
                name: FunctionName { schema: Some("s".into()), ..name.clone() },
                returns: returns.into(),
                parameters: 2,
            })
        })?;
        Ok([r.header_fn, r.input_fn, r.output_fn])
    }

    #[test]
    fn both_published_orders_are_understood() {
        let s = |t: &str| Some(format!("s.{t}"));
        assert_eq!(order([Some("h"), Some("i"), Some("out")], false).unwrap(), [s("h"), s("i"), s("out")]);
        assert_eq!(order([None, Some("i"), Some("out")], false).unwrap(), [None, s("i"), s("out")]);
        assert_eq!(order([Some("i"), Some("out"), None], false).unwrap(), [None, s("i"), s("out")]);
        assert_eq!(order([Some("i"), Some("out"), Some("h")], false).unwrap(), [s("h"), s("i"), s("out")]);
        let declared = order([Some("json:{}"), Some("path:$"), None], false).unwrap();
        assert_eq!(declared, [None, Some("json:{}".into()), Some("path:$".into())]);
    }

    #[test]
    fn roles_that_types_contradict_are_refused() {
        assert!(order([Some("i"), Some("out"), None], true).is_err());
        assert!(order([None, Some("out"), Some("out2")], false).is_err());
        assert!(order([Some("out"), None, None], false).is_err());
        assert!(order([Some("path:$"), None, None], false).is_err());
    }
}
