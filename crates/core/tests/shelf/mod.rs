//! A registry in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mysql_ml_base::account::Account;
use mysql_ml_base::error::Result;
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_core::catalog::function_name::FunctionName;
use mysql_ml_core::catalog::settings::Settings;
use mysql_ml_core::engine::store::{no_such_model, ResolvedModel, Store};
use mysql_ml_core::registration::Registration;

#[derive(Clone, Default)]
pub struct Shelf {
    pub models: Arc<Mutex<HashMap<String, ResolvedModel>>>,
    pub settings: Arc<Mutex<Settings>>,
}

impl Shelf {
    /// Registers a model without secrets.
    pub fn register(&self, registration: &Registration, options: Option<&str>) {
        let model = registration.to_model(options, Account::library(), "1").unwrap();
        let id = model.model_id.clone();
        let resolved = ResolvedModel::new(model, |_| panic!("no secrets here")).unwrap();
        self.models.lock().unwrap().insert(id, resolved);
    }
}

impl Store for Shelf {
    fn caller(&self) -> Result<Account> {
        Ok(Account { user: "app".into(), host: "%".into() })
    }
    fn load(&self, model_id: &str, _: &dyn Interrupt) -> Result<ResolvedModel> {
        self.models.lock().unwrap().get(model_id).cloned().ok_or_else(|| no_such_model(model_id))
    }
    fn settings(&self, _: &dyn Interrupt) -> Result<Settings> {
        Ok(self.settings.lock().unwrap().clone())
    }
    fn call_input_functions(
        &self,
        _: &Arc<ResolvedModel>,
        _: Option<&FunctionName>,
        _: Option<&FunctionName>,
        _: &str,
        _: &dyn Interrupt,
    ) -> Result<(Option<String>, Option<String>)> {
        panic!("no stored functions here")
    }
    fn call_output_function(
        &self,
        _: &Arc<ResolvedModel>,
        _: &FunctionName,
        _: &str,
        _: &dyn Interrupt,
    ) -> Result<Option<Vec<u8>>> {
        panic!("no stored functions here")
    }
}
