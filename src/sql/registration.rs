//! Registration of models, secrets and settings. Each function returns the id it was about.
//!
//! Who may call them is decided by EXECUTE on the stored procedure of the same name, also for a bare call.

use super::command::{command, Values};
use crate::jobs::engine;
use crate::mysql::error_numbers::ER_PROCACCESS_DENIED;
use crate::registry::sql_store;
use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_core::engine::Engine;
use mysql_ml_core::registration::Registration;

fn registration(values: &Values<'_>) -> Result<Registration> {
    let owned: Vec<Option<String>> = values.texts.iter().map(|v| v.map(str::to_owned)).collect();
    let ten = <[Option<String>; 10]>::try_from(owned).map_err(|_| Error::internal("not ten arguments"))?;
    Registration::from_arguments(ten)
}

/// Runs what changes the registry; the engine reads it anew afterwards.
fn changing(change: impl FnOnce(&Engine) -> Result<()>) -> Result<()> {
    let engine = engine();
    let result = change(engine);
    // Also after a failure: it may have come after the change, such as a KILL while the answer was awaited.
    // An account without the right to change anything cannot make everybody read anew.
    if !matches!(&result, Err(e) if e.kind() == Kind::Server(ER_PROCACCESS_DENIED)) {
        engine.registry().invalidate();
    }
    result
}

/// The value of a secret, which people read from a file.
fn key<'a>(values: &Values<'a>) -> Result<&'a str> {
    values.text(1).ok_or_else(|| {
        Error::invalid(
            "argument value is NULL; give the key. LOAD_FILE() gives NULL for a file that the account or the server may not read",
        )
    })
}

command! {
    /// `ml_create_model_registration(model_id, url, provider, type, name, auth type, auth id, header, input, output)`.
    CreateModel = ml_create_model_registration, |v, interrupt| {
        let r = registration(v)?;
        let id = r.model_id.clone();
        changing(|engine| sql_store::create_model(r, v.by_name, engine.settings(interrupt)?.as_ref(), interrupt))?;
        Ok(id)
    }
}
command! {
    /// `ml_alter_model_registration(...)`: the same ten; NULL keeps a value, '' clears it.
    AlterModel = ml_alter_model_registration, |v, interrupt| {
        let r = registration(v)?;
        let id = r.model_id.clone();
        changing(|engine| sql_store::alter_model(r, v.by_name, engine.settings(interrupt)?.as_ref(), interrupt))?;
        Ok(id)
    }
}
command! {
    /// `ml_drop_model_registration(model_id)`.
    DropModel = ml_drop_model_registration, |v, interrupt| {
        let id = v.required(0)?;
        changing(|_| sql_store::drop_model(id, interrupt))?;
        Ok(id.to_owned())
    }
}
command! {
    /// `ml_list_registered_model(model_id)`: the registration as JSON, keys = the table's columns.
    ListModel = ml_list_registered_model, |v, interrupt| {
        sql_store::list_model(v.required(0)?, interrupt)
    }
}
command! {
    /// `ml_set_model_options(model_id, options)`: a JSON merge patch on the model's options.
    SetModelOptions = ml_set_model_options, |v, interrupt| {
        let id = v.required(0)?;
        let value = v.required(1)?;
        changing(|engine| {
            sql_store::set_model_options(id, value, engine.settings(interrupt)?.as_ref(), interrupt)
        })?;
        Ok(id.to_owned())
    }
}
command! {
    /// `ml_create_sm_secret_registration(secret_id, secret_path)`.
    CreateSecret = ml_create_sm_secret_registration, |v, interrupt| {
        let id = v.required(0)?;
        let value = v.required(1)?;
        changing(|_| sql_store::create_secret(id, value, interrupt))?;
        Ok(id.to_owned())
    }
}
command! {
    /// `ml_alter_sm_secret_registration(secret_id, secret_path)`.
    AlterSecret = ml_alter_sm_secret_registration, |v, interrupt| {
        let id = v.required(0)?;
        let value = v.required(1)?;
        changing(|_| sql_store::alter_secret(id, value, interrupt))?;
        Ok(id.to_owned())
    }
}
command! {
    /// `ml_drop_sm_secret_registration(secret_id)`.
    DropSecret = ml_drop_sm_secret_registration, |v, interrupt| {
        let id = v.required(0)?;
        changing(|_| sql_store::drop_secret(id, interrupt))?;
        Ok(id.to_owned())
    }
}
command! {
    /// `ml_create_secret(secret_id, value)`: stores the value in the server's keyring and registers it.
    CreateKeyringSecret = ml_create_secret, |v, interrupt| {
        let id = v.required(0)?;
        changing(|_| sql_store::keyring::create_secret(id, key(v)?, interrupt))?;
        Ok(id.to_owned())
    }
}
command! {
    /// `ml_alter_secret(secret_id, value)`: replaces the value in the keyring.
    AlterKeyringSecret = ml_alter_secret, |v, interrupt| {
        let id = v.required(0)?;
        sql_store::keyring::alter_secret(id, key(v)?, interrupt)?;
        Ok(id.to_owned())
    }
}
command! {
    /// `ml_set_secret_options(secret_id, options)`: a JSON merge patch on the secret's options.
    SetSecretOptions = ml_set_secret_options, |v, interrupt| {
        let id = v.required(0)?;
        let value = v.required(1)?;
        changing(|engine| {
            sql_store::set_secret_options(id, value, engine.settings(interrupt)?.as_ref(), interrupt)
        })?;
        Ok(id.to_owned())
    }
}
command! {
    /// `ml_set_setting(name, value)`: NULL puts the setting back to its default.
    SetSetting = ml_set_setting, |v, interrupt| {
        let name = v.required(0)?;
        let value = v.text(1);
        changing(|_| sql_store::set_setting(name, value, interrupt))?;
        if name == "cache_disk_mb" {
            engine().settle_disk(interrupt)?;
        }
        Ok(name.to_owned())
    }
}
command! {
    /// `ml_list_settings()`: every setting with its value in force, as JSON.
    ListSettings = ml_list_settings, |_, interrupt| sql_store::list_settings(interrupt)
}
