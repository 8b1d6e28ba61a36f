//! Requests for credentials.

use std::time::Instant;

use url::Url;

use mysql_ml_base::error::{Error, Kind, Result};
use mysql_ml_base::interrupt::CancelToken;

use super::google::hosts::Hosts;
use crate::catalog::settings::Settings;
use crate::http::{Answer, Call, Client, Method};

/// The largest answer of a credential service, bytes.
const MAX_ANSWER: usize = 1 << 20;

/// The most retries of a request for a credential.
const RETRIES: u64 = 2;

/// Context of credential requests for one call.
#[derive(Clone, Copy)]
pub struct Http<'a> {
    /// The HTTP client.
    pub client: &'a Client,
    /// The network policy.
    pub settings: &'a Settings,
    /// Cancels the call.
    pub cancel: &'a CancelToken,
    /// The call's deadline.
    pub deadline: Instant,
    /// Google's hosts.
    pub hosts: &'a Hosts,
}

impl Http<'_> {
    /// An error after cancellation or the deadline.
    pub(super) fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::interrupted(1317));
        }
        if Instant::now() >= self.deadline {
            return Err(Error::new(Kind::Timeout, "no credentials in time; raise timeout_ms or try later"));
        }
        Ok(())
    }

    pub(super) fn call(&self, method: Method, url: &str) -> Result<Call> {
        let url = Url::parse(url)
            .ok()
            .filter(|u| u.username().is_empty() && u.password().is_none() && u.fragment().is_none())
            .ok_or_else(|| Error::invalid("a URL in the Google credentials is none; correct it"))?;
        let mut call = Call::new(method, url, self.deadline, &self.settings.network);
        call.max_response = MAX_ANSWER;
        call.hints = false;
        Ok(call)
    }

    pub(super) fn send(&self, call: &Call) -> Result<Answer> {
        self.client.send(call, RETRIES, &self.settings.network, self.cancel)
    }
}

#[cfg(test)]
pub(in crate::credentials) mod tests {
    use std::time::Duration;

    use super::*;

    /// Runs `f` with a context for requests to services.
    pub fn with_http<T>(f: impl FnOnce(&Http<'_>) -> T) -> T {
        f(&Http {
            client: &Client::default(),
            settings: &Settings::default(),
            cancel: &CancelToken::default(),
            deadline: Instant::now() + Duration::from_secs(20),
            hosts: &Hosts::default(),
        })
    }
}
