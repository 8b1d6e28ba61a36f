//! Registration of models, secrets and settings. Each function returns the id of the object.
//!
//! EXECUTE on the stored procedure of the same name is required, even for a direct call of the loadable function.

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

/// Runs a change of the registry and flushes the engine's registry cache.
fn changing(change: impl FnOnce(&Engine) -> Result<()>) -> Result<()> {
    let engine = engine();
    let result = change(engine);
    // Even after a failure, which may follow the change: for example a KILL while waiting for the session. A caller
    // refused with 1370 must not flush everyone's registry cache.
    if !matches!(&result, Err(e) if e.kind() == Kind::Server(ER_PROCACCESS_DENIED)) {
        engine.registry().invalidate();
    }
    result
}

/// The value of a secret: people read it from a file.
fn key<'a>(values: &Values<'a>) -> Result<&'a str> {
    values.text(1).ok_or_else(|| {
        Error::invalid(
            "argument value is NULL; give the key. LOAD_FILE() gives NULL for a file that the account or the server may not read",
        )
    })
}

command! {
    /// `ml_create_model_registration(model_id, url, provider, type, name, auth type, auth id, header, input,
    /// output)`.
    CreateModel = ml_create_model_registration, |v, interrupt| {
        let r = registration(v)?;
        let id = r.model_id.clone();
        changing(|engine| sql_store::create_model(r, v.by_name, engine.settings(interrupt)?.as_ref(), interrupt))?;
        Ok(id)
    }
}
command! {
    /// `ml_alter_model_registration(...)`: the same ten parameters; NULL keeps a value, '' clears it.
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
    /// `ml_list_registered_model(model_id)`: the registration as a JSON object with the table's columns as members.
    ListModel = ml_list_registered_model, |v, interrupt| {
        sql_store::list_model(v.required(0)?, interrupt)
    }
}
command! {
    /// `ml_set_model_options(model_id, options)`: applies a JSON merge patch to the model's options.
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
    /// `ml_set_secret_options(secret_id, options)`: applies a JSON merge patch to the secret's options.
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
    /// `ml_set_setting(name, value)`: NULL restores the default.
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
    /// `ml_list_settings()`: every setting with its current value, as JSON.
    ListSettings = ml_list_settings, |_, interrupt| sql_store::list_settings(interrupt)
}
