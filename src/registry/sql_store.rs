//! The registry in the server: SQL on the tables of models, secrets and settings.

pub mod keyring;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use surface::{functions, SETTINGS};

use super::called;
use mysql_ml_core::catalog::function_name::FunctionName;
use mysql_ml_core::catalog::model::{check_id, Model};
use mysql_ml_core::catalog::options;
use mysql_ml_core::catalog::secret::{self, Secret};
use mysql_ml_core::catalog::settings::{self, Settings};
use mysql_ml_core::engine::store::{no_such_model, ResolvedModel, Routine, Store};
use mysql_ml_core::http::leaked_key;
use mysql_ml_core::registration::endpoints::{destinations, fallbacks, models_at, Destination};
use mysql_ml_core::registration::{self, built_in, google_presets, local_presets, FunctionInfo, Registration};
use url::Url;

use crate::mysql::caller::current_account;
use crate::mysql::error_numbers::{ER_DUP_ENTRY, ER_MUST_CHANGE_PASSWORD, ER_NO_SUCH_TABLE, ER_WRONG_ARGUMENTS};
use crate::mysql::log::{self, Subject};
use crate::mysql::session::{Param, Row, Session};
use crate::mysql::sql::{check_may_execute, session_kind, with_session, As, SessionKind, SQL_TIMEOUT};
use mysql_ml_base::account::Account;
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_core::http::check_ca_file;

/// The registry behind in-server SQL.
pub struct SqlStore {
    /// Periodic work of the jobs, called whenever the settings are read for a call.
    pub upkeep: fn(&dyn Interrupt),
}

/// Runs `work` in a session of `account`. A missing table becomes an error with the next step.
fn session<T: Send + 'static>(
    account: &As,
    interrupt: &dyn Interrupt,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<T> {
    let kind =
        if matches!(account, As::Library) { SessionKind::LibraryStatement } else { SessionKind::CallerStatement };
    session_for(kind, account, interrupt, work)
}

fn session_for<T: Send + 'static>(
    kind: SessionKind,
    account: &As,
    interrupt: &dyn Interrupt,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<T> {
    with_session(account, kind, interrupt, Instant::now() + SQL_TIMEOUT, work).map_err(|e| match e.kind() {
        Kind::Server(ER_NO_SUCH_TABLE) => Error::new(Kind::NotFound, format!("{}; run install.sql", e.message())),
        _ => e,
    })
}

/// Runs `work`, which calls a user's functions, in a session of a model's definer.
fn as_definer<T: Send + 'static>(
    definer: &Account,
    interrupt: &dyn Interrupt,
    work: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
) -> Result<T> {
    let account = As::Account(definer.clone());
    let deadline = Instant::now() + SQL_TIMEOUT;
    with_session(&account, SessionKind::UserFunctions, interrupt, deadline, work).map_err(|e| match e.kind() {
        Kind::Server(ER_MUST_CHANGE_PASSWORD) => Error::invalid(format!(
            "the password of the model's definer {definer} has expired; renew it, or let another account run ml_alter_model_registration"
        )),
        _ => e,
    })
}

/// A stored registration.
struct Stored {
    registration: Registration,
    options: Option<String>,
    definer: String,
    updated_at: String,
}

const SELECT_MODEL: &str = "SELECT m.model_id, m.model_request_url, m.model_provider, m.model_type, \
     m.model_qualified_name, m.model_auth_type, m.model_auth_id, m.header_gen_fn, m.input_transform_fn, \
     m.output_transform_fn, CAST(m.options AS CHAR), m.definer, CAST(m.updated_at AS CHAR)";

/// Whether a model or one of its endpoints uses a secret, whose id is given twice.
const USES_SECRET: &str = "(m.model_auth_id = ? \
     OR JSON_CONTAINS(JSON_EXTRACT(m.options, '$.endpoints[*].secret'), JSON_QUOTE(?)))";

fn read_model(row: &Row) -> Result<Stored> {
    Ok(Stored {
        registration: Registration {
            model_id: row.get(0)?,
            request_url: row.get(1)?,
            provider: row.get(2)?,
            model_type: row.get(3)?,
            qualified_name: row.get(4)?,
            auth_type: row.get(5)?,
            auth_id: row.get(6)?,
            header_fn: row.get(7)?,
            input_fn: row.get(8)?,
            output_fn: row.get(9)?,
        },
        options: row.get(10)?,
        definer: row.get(11)?,
        updated_at: row.get(12)?,
    })
}

/// The model of a stored registration.
fn to_model(stored: &Stored) -> Result<Model> {
    let definer = parse_definer(&stored.definer)?;
    stored.registration.to_model(stored.options.as_deref(), definer, &stored.updated_at)
}

/// A registered secret.
fn stored_secret(s: &mut Session, id: &str) -> Result<Option<Secret>> {
    let sql = "SELECT secret_path, CAST(options AS CHAR) FROM mysql.cloudsql_ml_secrets WHERE secret_id = ?";
    let rows = s.query(sql, &[id.into()])?.rows;
    let read = |row: &Row| Secret::from_stored(&row.get::<String>(0)?, row.get::<Option<String>>(1)?.as_deref());
    rows.first().map(read).transpose()
}

fn parse_definer(text: &str) -> Result<Account> {
    Account::parse(text)
        .ok_or_else(|| Error::invalid(format!("definer '{}' of the model is not user@host", cut(text, 80))))
}

impl Store for SqlStore {
    fn caller(&self) -> Result<Account> {
        current_account()
    }

    fn upkeep(&self, interrupt: &dyn Interrupt) {
        (self.upkeep)(interrupt);
    }

    fn log(&self, warning: bool, text: &str) {
        log::write(Subject::DiskCache, warning, text, text);
    }

    fn check(&self, routine: Routine, interrupt: &dyn Interrupt) -> Result<()> {
        check_may_execute(routine, interrupt)
    }

    fn load(&self, model_id: &str, interrupt: &dyn Interrupt) -> Result<ResolvedModel> {
        let id = model_id.to_owned();
        let (found, similar) = session(&As::Library, interrupt, move |s| {
            let of_model = " FROM mysql.cloudsql_ml_models m WHERE m.model_id = ?";
            let rows = s.query_pieces(&[SELECT_MODEL, of_model], &[id.as_str().into()])?.rows;
            let found = match rows.first().map(read_model).transpose()? {
                Some(stored) => {
                    let model = to_model(&stored)?;
                    let mut secrets = HashMap::new();
                    let endpoints = models_at(&model).filter_map(|(_, at)| at.auth_id);
                    for id in model.auth_id.clone().into_iter().chain(endpoints) {
                        if !secrets.contains_key(&id) {
                            secrets.insert(id.clone(), stored_secret(s, &id)?);
                        }
                    }
                    Some((model, secrets))
                }
                None => None,
            };
            let similar = if found.is_none() { other_case(s, &id)? } else { None };
            Ok((found, similar))
        })?;
        let Some((model, secrets)) = found else {
            // Models of the built-in catalogue need no registration; nothing of them is stored.
            let built_in = built_in_model(model_id).ok_or_else(|| match similar {
                Some(id) => Error::new(
                    Kind::NotFound,
                    format!("model '{}' is not registered, but '{id}' is; ids are case-sensitive", cut(model_id, 120)),
                ),
                None => no_such_model(model_id),
            })?;
            let model = built_in.to_model(None, Account::library(), "")?;
            return ResolvedModel::new(Model { built_in: true, ..model }, |_| Err(Error::internal("a secret")));
        };
        ResolvedModel::new(model, |id| {
            secrets.get(id).cloned().flatten().ok_or_else(|| {
                Error::new(
                    Kind::NotFound,
                    format!(
                        "model '{model_id}': its secret '{id}' is not registered; CALL mysql.ml_create_sm_secret_registration(...)"
                    ),
                )
            })
        })
    }

    fn settings(&self, interrupt: &dyn Interrupt) -> Result<Settings> {
        let rows = stored_settings(&As::Library, interrupt)?;
        Settings::from_rows(rows.iter().map(|(n, v)| (n.as_str(), v.as_str())))
    }

    fn data_directory(&self, interrupt: &dyn Interrupt) -> Result<PathBuf> {
        session(&As::Library, interrupt, |s| {
            let rows = s.query("SELECT @@GLOBAL.datadir", &[])?.rows;
            let path: Option<String> = rows.first().map(|row| row.get(0)).transpose()?;
            path.map(PathBuf::from).ok_or_else(|| Error::internal("no row for @@datadir"))
        })
    }

    fn call_input_functions(
        &self,
        resolved: &Arc<ResolvedModel>,
        header: Option<&FunctionName>,
        input: Option<&FunctionName>,
        argument: &str,
        interrupt: &dyn Interrupt,
    ) -> Result<(Option<String>, Option<String>)> {
        let definer = &resolved.model.definer;
        let (id, argument) = (resolved.model.model_id.clone(), argument.to_owned());
        let (header, input) = (header.cloned(), input.cloned());
        let name = resolved.model.qualified_name.clone();
        as_definer(definer, interrupt, move |s| {
            let _called = called::Model::set(&id, name);
            let headers = match &header {
                Some(name) => call_function(s, "header", name, &id, &argument)?,
                None => None,
            };
            let body = match &input {
                Some(name) => call_function(s, "input transform", name, &id, &argument)?,
                None => None,
            };
            let text = |bytes: Option<Vec<u8>>| {
                bytes
                    .map(String::from_utf8)
                    .transpose()
                    .map_err(|_| Error::invalid("a transform function returned bytes instead of JSON"))
            };
            Ok((text(headers)?, text(body)?))
        })
    }

    fn call_output_function(
        &self,
        resolved: &Arc<ResolvedModel>,
        output: &FunctionName,
        response: &str,
        interrupt: &dyn Interrupt,
    ) -> Result<Option<Vec<u8>>> {
        let definer = &resolved.model.definer;
        let (id, output, response) = (resolved.model.model_id.clone(), output.clone(), response.to_owned());
        let name = resolved.model.qualified_name.clone();
        as_definer(definer, interrupt, move |s| {
            let _called = called::Model::set(&id, name);
            call_function(s, "output transform", &output, &id, &response)
        })
    }
}

/// The registration of a model in the built-in catalogue.
fn built_in_model(model_id: &str) -> Option<Registration> {
    google_presets::find(model_id).or_else(|| local_presets::find(model_id))
}

/// A registered id that differs in case only.
fn other_case(s: &mut Session, id: &str) -> Result<Option<String>> {
    let sql =
        "SELECT model_id FROM mysql.cloudsql_ml_models WHERE LOWER(model_id) = LOWER(?) ORDER BY model_id LIMIT 1";
    s.query(sql, &[id.into()])?.rows.first().map(|row| row.get(0)).transpose()
}

/// Calls a user's stored function with two texts. Errors name the function.
fn call_function(
    s: &mut Session,
    role: &str,
    name: &FunctionName,
    id: &str,
    argument: &str,
) -> Result<Option<Vec<u8>>> {
    let schema = name.schema.as_deref().ok_or_else(|| Error::internal("a stored function without its schema"))?;
    let result = s.query(
        "SELECT ?.?(?, ?)",
        &[Param::Identifier(schema), Param::Identifier(&name.name), id.into(), argument.into()],
    );
    let rows = result.map_err(|e| match e.kind() {
        Kind::Server(code) => {
            // MySQL's STRING_TO_VECTOR takes text only; published examples pass it JSON.
            let json_given = code == ER_WRONG_ARGUMENTS && e.message().ends_with("to_vector");
            let hint = if json_given { "; write STRING_TO_VECTOR(CAST(... AS CHAR))" } else { "" };
            Error::invalid(format!("the {role} function {name} failed with error {code}: {}{hint}", e.message()))
        }
        _ => e,
    })?;
    rows.rows.first().map_or(Ok(None), |row| row.get(0))
}

/// The provider's name of a model. Inside a transform function only the called model's is known: the registry cannot be
/// read there.
pub fn qualified_name_of(model_id: &str, interrupt: &dyn Interrupt) -> Result<Option<String>> {
    if session_kind() == SessionKind::UserFunctions {
        return called::qualified_name(model_id).ok_or_else(|| {
            Error::invalid("inside a transform or header function only the model that is being called can be asked for")
        });
    }
    check_may_execute(functions::ml_model_qualified_name_of, interrupt)?;
    check_id("model_id", model_id)?;
    let id = model_id.to_owned();
    session(&As::Library, interrupt, move |s| {
        let sql = "SELECT model_qualified_name FROM mysql.cloudsql_ml_models WHERE model_id = ?";
        let rows = s.query(sql, &[id.as_str().into()])?.rows;
        match (rows.first(), built_in_model(&id)) {
            (Some(row), _) => row.get(0),
            (None, Some(built_in)) => Ok(built_in.qualified_name),
            (None, None) => Err(no_such_model(&id)),
        }
    })
}

/// Likely keys in texts that readers of the registry or the routines can see: a JSON array of objects with `model_id`,
/// `place` and `finding`. Findings do not contain the text.
pub fn audit_secrets(interrupt: &dyn Interrupt) -> Result<String> {
    check_may_execute(functions::ml_audit_secrets, interrupt)?;
    let models = session(&As::Library, interrupt, |s| {
        s.query_pieces(&[SELECT_MODEL, " FROM mysql.cloudsql_ml_models m ORDER BY m.model_id"], &[])?
            .rows
            .iter()
            .map(read_model)
            .collect::<Result<Vec<Stored>>>()
    })?;
    let mut findings = Vec::new();
    for model in &models {
        let r = &model.registration;
        let id = r.model_id.as_str();
        let texts = [
            ("model_request_url", &r.request_url),
            ("model_qualified_name", &r.qualified_name),
            ("model_auth_id", &r.auth_id),
        ];
        let template = r.input_fn.as_deref();
        let in_template =
            template.and_then(leaked_key::in_text).or_else(|| template.and_then(registration::key_in_template));
        if let Some(what) = in_template {
            findings.push(finding(id, "input_transform_fn", what));
        }
        for (place, text) in texts {
            if let Some(what) = text.as_deref().and_then(leaked_key::in_url_or_text) {
                findings.push(finding(id, place, what));
            }
        }
        if let Some(options) = model.options.as_deref().and_then(|o| options::parse_object(o).ok()) {
            for (option, name, what) in leaked_key::in_options(&options) {
                findings.push(finding(
                    id,
                    &format!("options.{option}{}{name}", if name.is_empty() { "" } else { "." }),
                    what,
                ));
            }
        }
        let functions = [
            ("header_gen_fn", &r.header_fn),
            ("input_transform_fn", &r.input_fn),
            ("output_transform_fn", &r.output_fn),
        ];
        for (place, text) in functions {
            let Some(text) =
                text.as_deref().filter(|t| !registration::is_declarative(t) && built_in::find(t).is_none())
            else {
                continue;
            };
            let body = FunctionName::parse(text).and_then(|name| body_of(&name, &model.definer, interrupt));
            match body {
                Ok(Some(body)) => {
                    if let Some(what) = leaked_key::in_text(&body) {
                        findings.push(finding(id, &format!("{place} {text}"), what));
                    }
                }
                Ok(None) => findings.push(finding(
                    id,
                    &format!("{place} {text}"),
                    "not checked: it does not exist, or the model's definer cannot see its body",
                )),
                Err(e) if matches!(e.kind(), Kind::Interrupted(_) | Kind::Timeout) => return Err(e),
                Err(e) => findings.push(finding(
                    id,
                    &format!("{place} {text}"),
                    &format!("not looked at: {}", cut(e.message(), 120)),
                )),
            }
        }
    }
    Ok(serde_json::Value::Array(findings).to_string())
}

fn finding(model_id: &str, place: &str, finding: &str) -> serde_json::Value {
    serde_json::json!({"model_id": model_id, "place": place, "finding": finding})
}

/// The body of a stored function, if the model's definer may see it.
fn body_of(name: &FunctionName, definer: &str, interrupt: &dyn Interrupt) -> Result<Option<String>> {
    let (schema, name) = (name.schema.clone().unwrap_or_default(), name.name.clone());
    session(&As::Account(parse_definer(definer)?), interrupt, move |s| {
        let sql = "SELECT ROUTINE_DEFINITION FROM information_schema.ROUTINES \
                   WHERE ROUTINE_TYPE = 'FUNCTION' AND ROUTINE_SCHEMA = ? AND ROUTINE_NAME = ?";
        let rows = s.query(sql, &[schema.as_str().into(), name.as_str().into()])?.rows;
        rows.first().map_or(Ok(None), |row| row.get(0))
    })
}

fn stored_settings(account: &As, interrupt: &dyn Interrupt) -> Result<Vec<(String, String)>> {
    session(account, interrupt, |s| {
        let rows = s.query("SELECT name, value FROM mysql.cloudsql_ml_settings", &[])?.rows;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    })
}

/// All settings with their current values, as a JSON object, read with the current user's rights.
pub fn list_settings(interrupt: &dyn Interrupt) -> Result<String> {
    let stored = stored_settings(&As::Caller, interrupt)?;
    let object: serde_json::Map<String, serde_json::Value> = SETTINGS
        .iter()
        .map(|setting| {
            let value =
                stored.iter().find(|(name, _)| name == setting.name).map_or(setting.default, |(_, v)| v.as_str());
            (setting.name.to_owned(), value.into())
        })
        .collect();
    Ok(serde_json::Value::Object(object).to_string())
}

/// Sets a setting; `None` resets it to its default.
pub fn set_setting(name: &str, value: Option<&str>, interrupt: &dyn Interrupt) -> Result<()> {
    check_may_execute(functions::ml_set_setting, interrupt)?;
    let default = SETTINGS.iter().find(|s| s.name == name).map_or("", |s| s.default);
    settings::check(name, value.unwrap_or(default))?;
    if let Some(path) = value.map(str::trim).filter(|v| name == "ca_file" && !v.is_empty()) {
        check_ca_file(path)?;
    }
    let (name, value) = (name.to_owned(), value.map(|v| v.trim().to_owned()));
    session(&As::Library, interrupt, move |s| match &value {
        Some(value) => s.query(
            "INSERT INTO mysql.cloudsql_ml_settings (name, value) VALUES (?, ?) AS new \
             ON DUPLICATE KEY UPDATE value = new.value",
            &[name.as_str().into(), value.as_str().into()],
        ),
        None => s.query("DELETE FROM mysql.cloudsql_ml_settings WHERE name = ?", &[name.as_str().into()]),
    })
    .map(|_| ())
}

/// Looks up the named stored functions with the caller's rights.
fn look_up_functions(
    registration: &Registration,
    interrupt: &dyn Interrupt,
) -> Result<Vec<(FunctionName, FunctionInfo)>> {
    let names = registration.function_texts().into_iter().map(FunctionName::parse).collect::<Result<Vec<_>>>()?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    session(&As::Caller, interrupt, move |s| {
        names.into_iter().map(|name| look_up_function(s, &name).map(|info| (name, info))).collect()
    })
}

fn look_up_function(s: &mut Session, name: &FunctionName) -> Result<FunctionInfo> {
    let rows = s
        .query(
            "SELECT r.ROUTINE_SCHEMA, r.ROUTINE_NAME, LOWER(r.DATA_TYPE), (SELECT COUNT(*) \
             FROM information_schema.PARAMETERS p WHERE p.SPECIFIC_SCHEMA = r.ROUTINE_SCHEMA \
             AND p.SPECIFIC_NAME = r.SPECIFIC_NAME AND p.ROUTINE_TYPE = 'FUNCTION' AND p.ORDINAL_POSITION > 0) \
             FROM information_schema.ROUTINES r WHERE r.ROUTINE_TYPE = 'FUNCTION' AND r.ROUTINE_NAME = ? \
             AND (? IS NULL OR r.ROUTINE_SCHEMA = ?) ORDER BY r.ROUTINE_SCHEMA LIMIT 5",
            &[name.name.as_str().into(), name.schema.as_deref().into(), name.schema.as_deref().into()],
        )?
        .rows;
    let read = |row: &Row| {
        Ok(FunctionInfo {
            name: FunctionName { schema: Some(row.get(0)?), name: row.get(1)? },
            returns: row.get(2)?,
            parameters: row.get(3)?,
        })
    };
    let found = rows.iter().map(read).collect::<Result<Vec<FunctionInfo>>>()?;
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::new(
            Kind::NotFound,
            format!("stored function {name} does not exist, or you may not execute it; create it first, or have EXECUTE on it granted to you"),
        )),
        several => Err(Error::invalid(format!(
            "stored function {name} exists in several schemas ({}); name it with its schema",
            several.iter().map(|f| f.name.to_string()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// Looks up the functions and brings the last three arguments into their final form and order.
fn order_transforms(registration: &mut Registration, by_name: bool, interrupt: &dyn Interrupt) -> Result<()> {
    let functions = look_up_functions(registration, interrupt)?;
    registration::order_transforms(registration, by_name, |name| {
        let found = functions.iter().find(|(n, _)| n == name).map(|(_, info)| info.clone());
        found.ok_or_else(|| Error::internal("a function was not looked up"))
    })
}

/// Checks a whole registration and brings its arguments into their final form.
fn complete(
    registration: &mut Registration,
    by_name: bool,
    options: Option<&str>,
    settings: &Settings,
    interrupt: &dyn Interrupt,
) -> Result<(Account, Vec<Destination>)> {
    let definer = current_account()?;
    order_transforms(registration, by_name, interrupt)?;
    let model = registration.to_model(options, definer.clone(), "")?;
    registration::check(&model, settings)?;
    registration.provider = Some(model.provider.as_str().into());
    registration.model_type = Some(model.model_type.as_str().into());
    registration.auth_type = model.auth_type.map(|a| a.as_str().into());
    registration.qualified_name.clone_from(&model.qualified_name);
    let destinations = destinations(&model, settings);
    Ok((definer, destinations))
}

/// The nine values after the id, in the table's order.
fn values(r: &Registration) -> [Param<'_>; 9] {
    [
        r.request_url.as_deref().into(),
        r.provider.as_deref().into(),
        r.model_type.as_deref().into(),
        r.qualified_name.as_deref().into(),
        r.auth_type.as_deref().into(),
        r.auth_id.as_deref().into(),
        r.header_fn.as_deref().into(),
        r.input_fn.as_deref().into(),
        r.output_fn.as_deref().into(),
    ]
}

/// Checks that the secrets of a model exist and may be sent where it sends them.
fn check_secrets(s: &mut Session, destinations: &[Destination]) -> Result<()> {
    for Destination { place, auth_id, url } in destinations {
        let Some(id) = auth_id else { continue };
        let own = place == "model_request_url";
        let secret = stored_secret(s, id)?.ok_or_else(|| {
            let what = if own { "model_auth_id" } else { place };
            Error::new(
                Kind::NotFound,
                format!(
                    "{what}{} '{}' is not a registered secret; CALL mysql.ml_create_sm_secret_registration(...) first",
                    if own { "" } else { ": secret" },
                    cut(id, 110)
                ),
            )
        })?;
        if let Some(url) = url {
            secret.check_url(url).map_err(|e| e.context(place))?;
        }
    }
    Ok(())
}

/// Checks that the models which stand in for another may do so, and that there is an end of them.
fn check_fallbacks(s: &mut Session, model: &Model) -> Result<()> {
    let load = |id: &str| {
        let of_model = " FROM mysql.cloudsql_ml_models m WHERE m.model_id = ?";
        let rows = s.query_pieces(&[SELECT_MODEL, of_model], &[id.into()])?.rows;
        match rows.first() {
            Some(row) => to_model(&read_model(row)?),
            None => built_in_model(id).ok_or_else(|| no_such_model(id))?.to_model(None, Account::library(), ""),
        }
    };
    let stopped = |error: &Error| matches!(error.kind(), Kind::Interrupted(_) | Kind::Server(_));
    match fallbacks(model, load, |model| model, stopped)? {
        (_, Some(error)) => Err(error),
        (_, None) => Ok(()),
    }
}

/// Registers a model. The current user becomes its definer.
pub fn create_model(
    registration: Registration,
    by_name: bool,
    settings: &Settings,
    interrupt: &dyn Interrupt,
) -> Result<()> {
    check_may_execute(functions::ml_create_model_registration, interrupt)?;
    let mut r = registration.without_blanks();
    r.check_for_keys()?;
    let (definer, destinations) = complete(&mut r, by_name, None, settings, interrupt)?;
    session(&As::Library, interrupt, move |s| {
        check_secrets(s, &destinations)?;
        let definer = definer.to_string();
        let mut params = vec![Param::Text(&r.model_id)];
        params.extend(values(&r));
        params.push(Param::Text(&definer));
        let inserted = s.query(
            "INSERT INTO mysql.cloudsql_ml_models (model_id, model_request_url, model_provider, model_type, \
             model_qualified_name, model_auth_type, model_auth_id, header_gen_fn, input_transform_fn, \
             output_transform_fn, definer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            &params,
        );
        inserted.map(|_| ()).map_err(|e| duplicate(e, "model", &r.model_id, "ml_alter_model_registration"))
    })
}

fn duplicate(error: Error, what: &str, id: &str, alter: &str) -> Error {
    match error.kind() {
        Kind::Server(ER_DUP_ENTRY) => Error::new(
            Kind::AlreadyExists,
            format!("{what} '{id}' already exists; change it with {alter}, or drop it first"),
        ),
        _ => error,
    }
}

fn stored_model(s: &mut Session, model_id: &str) -> Result<Stored> {
    // The lock matters if the caller began a transaction.
    let of_model = " FROM mysql.cloudsql_ml_models m WHERE m.model_id = ? FOR UPDATE";
    let rows = s.query_pieces(&[SELECT_MODEL, of_model], &[model_id.into()])?.rows;
    rows.first().map(read_model).transpose()?.ok_or_else(|| no_such_model(model_id))
}

/// Changes a registration: NULL keeps a value, '' clears it. The current user becomes the definer: the model's
/// functions run with its rights from now on.
pub fn alter_model(
    mut change: Registration,
    by_name: bool,
    settings: &Settings,
    interrupt: &dyn Interrupt,
) -> Result<()> {
    check_may_execute(functions::ml_alter_model_registration, interrupt)?;
    // Stored texts may stay: ml_audit_secrets reports them.
    change.check_for_keys()?;
    if !by_name {
        order_transforms(&mut change, false, interrupt)?;
    }
    let id = change.model_id.clone();
    let stored = session(&As::Library, interrupt, move |s| stored_model(s, &id))?;
    let read_at = stored.updated_at.clone();
    // A function chosen by another account runs as that account or not at all.
    let kept = change.kept_functions(&stored.registration);
    if let Some(function) =
        kept.first().filter(|_| stored.definer != current_account().map_or(String::new(), |a| a.to_string()))
    {
        return Err(Error::new(
            Kind::Denied,
            format!(
                "function {} of model '{}' was chosen by {} and would run as you from now on; name all functions of the model anew, or clear them with ''",
                cut(function, 100),
                cut(&change.model_id, 100),
                cut(&stored.definer, 100)
            ),
        ));
    }
    let mut r = change.over(stored.registration);
    let (definer, destinations) = complete(&mut r, true, stored.options.as_deref(), settings, interrupt)?;
    session(&As::Library, interrupt, move |s| {
        check_secrets(s, &destinations)?;
        let definer = definer.to_string();
        let mut params = values(&r).to_vec();
        params.push(Param::Text(&definer));
        params.push(Param::Text(&r.model_id));
        params.push(Param::Text(&read_at));
        let updated = s.query(
            "UPDATE mysql.cloudsql_ml_models SET model_request_url = ?, model_provider = ?, model_type = ?, \
             model_qualified_name = ?, model_auth_type = ?, model_auth_id = ?, header_gen_fn = ?, \
             input_transform_fn = ?, output_transform_fn = ?, definer = ?, updated_at = CURRENT_TIMESTAMP(6) \
             WHERE model_id = ? AND CAST(updated_at AS CHAR) = ?",
            &params,
        )?;
        if updated.affected == 0 {
            return Err(Error::new(
                Kind::Busy,
                format!(
                    "model '{}' was changed or dropped by another session meanwhile; check it and try again",
                    r.model_id
                ),
            ));
        }
        Ok(())
    })
}

/// Deletes a registration.
pub fn drop_model(model_id: &str, interrupt: &dyn Interrupt) -> Result<()> {
    check_may_execute(functions::ml_drop_model_registration, interrupt)?;
    check_id("model_id", model_id)?;
    let id = model_id.to_owned();
    session(&As::Library, interrupt, move |s| {
        let deleted = s.query("DELETE FROM mysql.cloudsql_ml_models WHERE model_id = ?", &[id.as_str().into()])?;
        if deleted.affected == 0 {
            return Err(no_such_model(&id));
        }
        Ok(())
    })
}

/// A registration as a JSON object with the table's columns as keys, read with the current user's rights.
pub fn list_model(model_id: &str, interrupt: &dyn Interrupt) -> Result<String> {
    check_id("model_id", model_id)?;
    let id = model_id.to_owned();
    session(&As::Caller, interrupt, move |s| {
        s.query("SET time_zone = '+00:00'", &[])?;
        let built_in = built_in_model(&id);
        let rows = s
            .query(
                "SELECT JSON_OBJECT('model_id', model_id, 'model_request_url', model_request_url, \
                 'model_provider', model_provider, 'model_type', model_type, \
                 'model_qualified_name', model_qualified_name, 'model_auth_type', model_auth_type, \
                 'model_auth_id', model_auth_id, 'header_gen_fn', header_gen_fn, \
                 'input_transform_fn', input_transform_fn, 'output_transform_fn', output_transform_fn, \
                 'options', options, 'definer', definer, \
                 'created_at', DATE_FORMAT(created_at, '%Y-%m-%dT%H:%i:%s.%fZ'), \
                 'updated_at', DATE_FORMAT(updated_at, '%Y-%m-%dT%H:%i:%s.%fZ')) \
                 FROM mysql.cloudsql_ml_models WHERE model_id = ?",
                &[id.as_str().into()],
            )?
            .rows;
        match (rows.first(), built_in) {
            (Some(row), _) => row.get(0),
            (None, Some(built_in)) => Ok(built_in_to_json(&built_in)),
            (None, None) => Err(no_such_model(&id)),
        }
    })
}

/// A model of the built-in catalogue, with the members of a stored one.
fn built_in_to_json(r: &Registration) -> String {
    serde_json::json!({
        "model_id": r.model_id, "model_request_url": r.request_url, "model_provider": r.provider,
        "model_type": r.model_type, "model_qualified_name": r.qualified_name, "model_auth_type": r.auth_type,
        "model_auth_id": r.auth_id, "header_gen_fn": r.header_fn, "input_transform_fn": r.input_fn,
        "output_transform_fn": r.output_fn, "options": null, "definer": null, "created_at": null, "updated_at": null,
    })
    .to_string()
}

/// Patches a model's options; the result must be a valid registration.
pub fn set_model_options(model_id: &str, patch: &str, settings: &Settings, interrupt: &dyn Interrupt) -> Result<()> {
    check_may_execute(functions::ml_set_model_options, interrupt)?;
    check_id("model_id", model_id)?;
    // Proxy and certificate authorities belong to the network policy, so they need the right to set settings.
    let patched = options::parse_object(patch)?;
    if ["proxy", "ca_file"].iter().any(|name| patched.get(*name).is_some_and(|value| !value.is_null())) {
        check_may_execute(functions::ml_set_setting, interrupt)?;
    }
    if let Some(path) = patched.get("ca_file").and_then(|value| value.as_str()).filter(|path| path.starts_with('/')) {
        check_ca_file(path)?;
    }
    let (id, patch, settings) = (model_id.to_owned(), patch.to_owned(), settings.clone());
    session(&As::Library, interrupt, move |s| {
        // One transaction, so that concurrent patches do not lose one.
        s.query("START TRANSACTION", &[])?;
        let stored = stored_model(s, &id)?;
        let definer = parse_definer(&stored.definer)?;
        let merged = options::merge(stored.options.as_deref(), &patch, |map| {
            let text = serde_json::Value::Object(map.clone()).to_string();
            let model = stored.registration.to_model(Some(&text), definer, "")?;
            registration::check(&model, &settings)?;
            if map.contains_key("endpoints") {
                check_secrets(s, &destinations(&model, &settings))?;
            }
            check_fallbacks(s, &model)
        })?;
        s.query(
            "UPDATE mysql.cloudsql_ml_models SET options = ?, updated_at = CURRENT_TIMESTAMP(6) WHERE model_id = ?",
            &[merged.as_deref().into(), id.as_str().into()],
        )?;
        s.query("COMMIT", &[]).map(|_| ())
    })
}

/// Registers the place of a secret.
pub fn create_secret(secret_id: &str, path: &str, interrupt: &dyn Interrupt) -> Result<()> {
    check_may_execute(functions::ml_create_sm_secret_registration, interrupt)?;
    secret::check_new_id(secret_id)?;
    secret::check_new_path(path)?;
    let definer = current_account()?.to_string();
    let (id, path) = (secret_id.to_owned(), path.to_owned());
    session(&As::Library, interrupt, move |s| {
        s.query(
            "INSERT INTO mysql.cloudsql_ml_secrets (secret_id, secret_path, definer) VALUES (?, ?, ?)",
            &[id.as_str().into(), path.as_str().into(), definer.as_str().into()],
        )
        .map(|_| ())
        .map_err(|e| duplicate(e, "secret", &id, "ml_alter_sm_secret_registration"))
    })
}

fn no_such_secret(id: &str) -> Error {
    Error::new(
        Kind::NotFound,
        format!(
            "secret '{}' is not registered; register it with CALL mysql.ml_create_sm_secret_registration(...)",
            leaked_key::display(id, 120)
        ),
    )
}

/// Changes the place of a secret.
pub fn alter_secret(secret_id: &str, path: &str, interrupt: &dyn Interrupt) -> Result<()> {
    check_may_execute(functions::ml_alter_sm_secret_registration, interrupt)?;
    check_id("secret_id", secret_id)?;
    secret::check_new_path(path)?;
    let definer = current_account()?.to_string();
    let (id, path) = (secret_id.to_owned(), path.to_owned());
    session(&As::Library, interrupt, move |s| {
        let updated = s.query(
            "UPDATE mysql.cloudsql_ml_secrets SET secret_path = ?, definer = ?, updated_at = CURRENT_TIMESTAMP(6) \
             WHERE secret_id = ?",
            &[path.as_str().into(), definer.as_str().into(), id.as_str().into()],
        )?;
        if updated.affected == 0 {
            return Err(no_such_secret(&id));
        }
        Ok(())
    })
}

/// Patches a secret's options. A URL prefix that a registered model violates is refused: its calls would fail from now
/// on.
pub fn set_secret_options(secret_id: &str, patch: &str, settings: &Settings, interrupt: &dyn Interrupt) -> Result<()> {
    check_may_execute(functions::ml_set_secret_options, interrupt)?;
    check_id("secret_id", secret_id)?;
    let (id, patch, settings) = (secret_id.to_owned(), patch.to_owned(), settings.clone());
    session(&As::Library, interrupt, move |s| {
        s.query("START TRANSACTION", &[])?;
        let stored = s.query(
            "SELECT CAST(options AS CHAR) FROM mysql.cloudsql_ml_secrets WHERE secret_id = ? FOR UPDATE",
            &[id.as_str().into()],
        )?;
        let row = stored.rows.first().ok_or_else(|| no_such_secret(&id))?;
        let options: Option<String> = row.get(0)?;
        let mut prefix = None;
        let merged = options::merge(options.as_deref(), &patch, |map| {
            prefix = secret::url_prefix(map)?;
            Ok(())
        })?;
        if let Some(prefix) = &prefix {
            check_users(s, &id, prefix, &settings)?;
        }
        s.query(
            "UPDATE mysql.cloudsql_ml_secrets SET options = ?, updated_at = CURRENT_TIMESTAMP(6) WHERE secret_id = ?",
            &[merged.as_deref().into(), id.as_str().into()],
        )?;
        s.query("COMMIT", &[]).map(|_| ())
    })
}

/// An error that names the first model which sends the secret to a URL outside `prefix`.
fn check_users(s: &mut Session, secret_id: &str, prefix: &Url, settings: &Settings) -> Result<()> {
    let of_secret = " FROM mysql.cloudsql_ml_models m WHERE ";
    let pieces = [SELECT_MODEL, of_secret, USES_SECRET, " ORDER BY m.model_id"];
    for row in &s.query_pieces(&pieces, &[secret_id.into(), secret_id.into()])?.rows {
        let stored = read_model(row)?;
        // A model that does not work anyway is not broken by this.
        let Ok(model) = to_model(&stored) else { continue };
        let sent = destinations(&model, settings).into_iter().filter(|to| to.auth_id.as_deref() == Some(secret_id));
        let mut urls = sent.filter_map(|to| to.url);
        if let Some(url) = urls.find(|url| !mysql_ml_base::url::is_below(prefix, url)) {
            return Err(Error::new(
                Kind::Denied,
                format!(
                    "model '{}' sends the secret to {}, which is not below {}; nothing was changed: alter or drop that model first, or choose another url_prefix",
                    cut(&model.model_id, 60),
                    mysql_ml_core::http::display_url(&url),
                    cut(prefix.as_str(), 120)
                ),
            ));
        }
    }
    Ok(())
}

/// Deletes a secret's registration and its key in the keyring; an error if a model uses it.
pub fn drop_secret(secret_id: &str, interrupt: &dyn Interrupt) -> Result<()> {
    check_may_execute(functions::ml_drop_sm_secret_registration, interrupt)?;
    check_id("secret_id", secret_id)?;
    let id = secret_id.to_owned();
    session_for(SessionKind::Keyring, &As::Library, interrupt, move |s| {
        let users = s.query_pieces(
            &["SELECT m.model_id FROM mysql.cloudsql_ml_models m WHERE ", USES_SECRET, " ORDER BY m.model_id LIMIT 1"],
            &[id.as_str().into(), id.as_str().into()],
        )?;
        if let Some(row) = users.rows.first() {
            let model: String = row.get(0)?;
            return Err(Error::invalid(format!(
                "secret '{id}' is used by model '{model}'; drop or alter that model first"
            )));
        }
        keyring::drop_registration(s, &id)
    })
}
