//! `ml_predict_row`: the model's own JSON in, its own JSON out.

use surface::functions;

use mysql_ml_base::account::Account;
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::interrupt::Interrupt;
use mysql_ml_base::memory::{Held, Reservation};

use super::Engine;
use crate::catalog::model::ProviderId;
use crate::providers::google::target;
use crate::registration::endpoint_url::{cloud_of, url_of};
use crate::registration::Registration;

impl Engine {
    /// The model's answer to `body`, a JSON document.
    pub fn predict(&self, model_id: &str, body: &str, interrupt: &dyn Interrupt) -> Result<Held<String>> {
        let _body = Reservation::take(body.len().saturating_mul(2), "request_body")?;
        let call = self.call_beside(functions::ml_predict_row, model_id, body, interrupt)?;
        call.meter.called();
        let answered = check_json(body).and_then(|()| self.predictor(call.model()).predict(&call, body, interrupt));
        call.counted(answered).map_err(|e| e.context(&format!("model '{model_id}'")))
    }

    /// The URL that a registration with these arguments would be called at.
    pub fn request_url(
        &self,
        registration: &Registration,
        location: Option<&str>,
        interrupt: &dyn Interrupt,
    ) -> Result<String> {
        let settings = self.settings(interrupt)?;
        let mut model = registration.to_model(None, Account::library(), "")?;
        model.options.location = location.map(str::to_owned);
        let mut cloud = cloud_of(&model, &settings);
        if model.api == ProviderId::Google && target::needs_project(&model) && cloud.project.is_none() {
            let known = cloud.clone();
            cloud = self.remote.requester.with_credentials(&settings, interrupt, move |credentials, http| {
                let mut cloud = known;
                credentials.google().complete(&mut cloud, None, http)?;
                Ok(cloud)
            })?;
        }
        url_of(&model, &cloud).map(String::from)
    }
}

/// Checks that a request body is JSON, without building it.
fn check_json(body: &str) -> Result<()> {
    serde_json::from_str::<serde::de::IgnoredAny>(body)
        .map(|_| ())
        .map_err(|e| Error::invalid(format!("request_body is not valid JSON: {e}")))
}
