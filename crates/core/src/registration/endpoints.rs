//! The endpoints of a registration, and the models that may stand in for it.

use sha2::{Digest, Sha256};
use url::Url;

use super::endpoint_url::{checked_url, url_is_certain};
use crate::catalog::endpoints::{EndpointOption, EndpointSecret};
use crate::catalog::model::{AuthType, Backend, Model, ModelType};
use crate::catalog::settings::Settings;
use mysql_ml_base::error::{Error, Result};

/// The most models that stand in for one another.
pub const MAX_FALLBACKS: usize = 4;

/// The model as one of its endpoints serves it: with that one's URL, secret and place.
pub fn model_at(model: &Model, index: usize, endpoint: &EndpointOption) -> Model {
    let mut at = model.clone();
    at.options.endpoints.clear();
    at.options.fallback = None;
    if endpoint.url.is_some() {
        at.request_url.clone_from(&endpoint.url);
    }
    for (own, given) in [(&mut at.options.location, &endpoint.location), (&mut at.options.project, &endpoint.project)] {
        if given.is_some() {
            own.clone_from(given);
        }
    }
    match &endpoint.secret {
        EndpointSecret::Registration => {}
        EndpointSecret::None => (at.auth_type, at.auth_id) = (None, None),
        EndpointSecret::Registered(id) => {
            at.auth_type = Some(at.auth_type.unwrap_or(AuthType::SecretManager));
            at.auth_id = Some(id.clone());
        }
    }
    let mut hash = Sha256::new();
    hash.update(b"endpoint");
    hash.update(model.fingerprint);
    hash.update((index as u64).to_le_bytes());
    at.fingerprint = hash.finalize().into();
    at
}

/// The model at each of its endpoints, with their names. Without the option `endpoints` there is none.
pub fn models_at(model: &Model) -> impl Iterator<Item = (String, Model)> + '_ {
    let endpoints = model.options.endpoints.iter().enumerate();
    endpoints.map(|(i, endpoint)| (endpoint.name(i), model_at(model, i, endpoint)))
}

/// Where a registration sends a secret.
#[derive(Debug, Clone)]
pub struct Destination {
    /// What the URL is in SQL, for errors.
    pub place: String,
    /// The secret's id.
    pub auth_id: Option<String>,
    /// The URL, if it is known at registration.
    pub url: Option<Url>,
}

/// Every place to which a registration sends requests, and the secret that goes there.
pub fn destinations(model: &Model, settings: &Settings) -> Vec<Destination> {
    let of = |place: String, model: &Model| Destination {
        place,
        auth_id: model.auth_id.clone(),
        url: if url_is_certain(model, settings) { checked_url(model, settings).ok() } else { None },
    };
    let own = of("model_request_url".to_owned(), model);
    std::iter::once(own).chain(models_at(model).map(|(name, at)| of(place(&name), &at))).collect()
}

/// An endpoint, for errors.
pub fn place(name: &str) -> String {
    format!("endpoint '{name}'")
}

/// Checks the options about endpoints. `check_at`: checks one model without such options.
pub fn check(model: &Model, check_at: impl Fn(&Model) -> Result<()>) -> Result<()> {
    let options = &model.options;
    let set = [
        ("endpoints", !options.endpoints.is_empty()),
        ("fallback", options.fallback.is_some()),
        ("try_timeout_ms", options.try_timeout_ms.is_some()),
        ("hedge_after_ms", options.hedge_after_ms.is_some()),
    ];
    if let Some((name, _)) = set.iter().find(|(_, set)| *set).filter(|_| model.backend() != Backend::Remote) {
        return Err(Error::invalid(format!(
            "option {name} is for models of endpoints; this one runs inside the server"
        )));
    }
    if options.hedge_after_ms.is_some() && options.endpoints.len() < 2 {
        return Err(Error::invalid(
            "option hedge_after_ms needs another endpoint to send to; set two endpoints at least",
        ));
    }
    if options.fallback.as_ref() == Some(&model.model_id) {
        return Err(Error::invalid("option fallback names the model itself; name another one"));
    }
    for (i, (name, at)) in models_at(model).enumerate() {
        let given = model.options.endpoints.get(i);
        let located = given.is_some_and(|endpoint| endpoint.location.is_some() || endpoint.project.is_some());
        if located && at.request_url.as_deref().is_some_and(|url| url.contains("://")) {
            return Err(Error::invalid(format!(
                "{}: location and project are not for a whole URL; leave them or the url out",
                place(&name)
            )));
        }
        check_at(&at).map_err(|e| e.context(&place(&name)))?;
    }
    Ok(())
}

/// An error if `other` must not answer in place of `model`.
///
/// Any language model may. A vector or score of another model cannot be compared: provider, name and all options that
/// change it must agree.
pub fn may_stand_in(model: &Model, other: &Model) -> Result<()> {
    let refuse = |reason: String| {
        Err(Error::invalid(format!(
            "model '{}' cannot be the fallback of '{}': {reason}",
            other.model_id, model.model_id
        )))
    };
    if other.backend() != Backend::Remote {
        return refuse("it runs inside the server; name a model of an endpoint".into());
    }
    let generates = |model: &Model| matches!(model.model_type, ModelType::Llm | ModelType::Generic);
    if generates(model) && generates(other) {
        return Ok(());
    }
    if model.model_type != other.model_type {
        let (own, its) = (model.model_type.as_str(), other.model_type.as_str());
        return refuse(format!("its model_type is {its}, not {own}; name a model of that type"));
    }
    if [model, other].iter().any(|m| m.input.is_some() || m.output.is_some()) {
        return refuse("what transforms make and read is not known to be the same; use the option endpoints".into());
    }
    let same_name = model.qualified_name.is_some() && model.qualified_name == other.qualified_name;
    if model.api != other.api || !same_name {
        let name = |model: &Model| {
            let name = model.qualified_name.as_deref().unwrap_or("without a name");
            format!("{} of provider {}", mysql_ml_base::error::cut(name, 80), model.provider.as_str())
        };
        return refuse(format!(
            "its vectors and scores are those of another model ({}, not {}); name a registration of the same one",
            name(other),
            name(model)
        ));
    }
    let (a, b) = (&model.options, &other.options);
    let differs = [
        ("dimensions", a.dimensions != b.dimensions),
        ("normalize", a.normalize != b.normalize),
        ("truncate", a.truncate != b.truncate),
        ("task_type", a.task_type != b.task_type),
        ("title", a.title != b.title),
        ("input_type", a.input_type != b.input_type),
        ("query_input_type", a.query_input_type != b.query_input_type),
        ("query_parameters", a.query_parameters != b.query_parameters),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        Some((name, _)) => refuse(format!("its option {name} differs, which changes the vectors; set both alike")),
        None => Ok(()),
    }
}

/// The models that stand in for `model`, in order, and why there are no more if one cannot be used. `load` reads a
/// registration. An error of `load` that concerns the statement is one of this function.
pub fn fallbacks<T>(
    model: &Model,
    mut load: impl FnMut(&str) -> Result<T>,
    model_of: impl Fn(&T) -> &Model,
    concerns_statement: impl Fn(&Error) -> bool,
) -> Result<(Vec<T>, Option<Error>)> {
    let mut chain: Vec<T> = Vec::new();
    loop {
        let last = chain.last().map_or(model, &model_of);
        let Some(id) = last.options.fallback.clone() else { return Ok((chain, None)) };
        let broken = |error: Error| error.context("option fallback");
        if id == model.model_id || chain.iter().any(|other| model_of(other).model_id == id) {
            let circle = Error::invalid(format!(
                "the fallbacks of '{}' lead back to '{id}'; remove one with ml_set_model_options",
                model.model_id
            ));
            return Ok((chain, Some(broken(circle))));
        }
        if chain.len() == MAX_FALLBACKS {
            let long =
                Error::invalid(format!("more than {MAX_FALLBACKS} models follow '{}'; remove one", model.model_id));
            return Ok((chain, Some(broken(long))));
        }
        let other = match load(&id) {
            Ok(other) => other,
            Err(error) if concerns_statement(&error) => return Err(error),
            Err(error) => return Ok((chain, Some(broken(error)))),
        };
        if let Err(error) = may_stand_in(model, model_of(&other)) {
            return Ok((chain, Some(broken(error))));
        }
        chain.push(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tests::named;
    use mysql_ml_base::error::Kind;

    fn model(id: &str, model_type: &str, name: &str, options: &str) -> Model {
        Model { model_id: id.into(), ..named("open_ai", model_type, name, options) }
    }

    #[test]
    fn an_endpoint_has_its_own_url_secret_and_place_and_the_rest_of_the_registration() {
        let options = r#"{"dimensions":8,"endpoints":[{}, {"url":"https://h/v1","secret":null},
            {"name":"eu","secret":"other","location":"eu"}]}"#;
        let m = Model {
            auth_type: Some(AuthType::SecretManager),
            auth_id: Some("own".into()),
            ..model("m", "text_embedding", "x", options)
        };
        let at: Vec<(String, Model)> = models_at(&m).collect();
        assert_eq!(at.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["1", "2", "eu"]);
        let keys: Vec<_> = at.iter().map(|(_, m)| m.auth_id.as_deref()).collect();
        assert_eq!(keys, [Some("own"), None, Some("other")]);
        assert_eq!(at[1].1.request_url.as_deref(), Some("https://h/v1"));
        assert_eq!(at[2].1.options.location.as_deref(), Some("eu"));
        assert!(at.iter().all(|(_, m)| m.options.dimensions == Some(8) && m.options.endpoints.is_empty()));
        assert!(at[0].1.fingerprint != at[1].1.fingerprint && at[0].1.fingerprint != m.fingerprint);
    }

    #[test]
    fn a_vector_of_another_model_is_refused_and_any_language_model_may_answer() {
        let may = |a: &Model, b: &Model| may_stand_in(a, b).map_err(|e| e.message().to_owned());
        let embeds = |name: &str, options: &str| model("e", "text_embedding", name, options);
        let small = embeds("small", "{}");
        assert_eq!(may(&small, &embeds("small", r#"{"timeout_ms":5}"#)), Ok(()));
        for (other, says) in [
            (embeds("large", "{}"), "another model (large of provider open_ai, not small"),
            (embeds("small", r#"{"dimensions":256}"#), "option dimensions differs"),
            (embeds("small", r#"{"normalize":true}"#), "option normalize differs"),
            (named("mistral", "text_embedding", "small", "{}"), "small of provider mistral"),
            (named("dummy", "text_embedding", "small", "{}"), "runs inside the server"),
            (model("g", "llm", "small", "{}"), "model_type is llm"),
        ] {
            let error = may(&small, &other).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        let (llm, claude) = (model("g", "llm", "gpt", "{}"), named("anthropic", "generic", "claude", "{}"));
        assert_eq!((may(&llm, &claude), may(&claude, &llm)), (Ok(()), Ok(())));
    }

    #[test]
    fn circles_and_long_chains_of_fallbacks_end_with_their_reason() {
        let chain = |models: &[(&str, &str)]| {
            let load = |id: &str| {
                let found = models.iter().find(|(own, _)| *own == id);
                let (own, next) = found.ok_or_else(|| Error::new(Kind::NotFound, format!("no {id}")))?;
                let options = match *next {
                    "" => "{}".to_owned(),
                    next => format!(r#"{{"fallback":"{next}"}}"#),
                };
                Ok(model(own, "llm", "x", &options))
            };
            let first = load(models[0].0).unwrap();
            let (chain, broken) = fallbacks(&first, load, |m| m, |_| false).unwrap();
            let ids = chain.iter().map(|m| m.model_id.as_str()).collect::<Vec<_>>().join(",");
            (ids, broken.map(|e| e.message().to_owned()).unwrap_or_default())
        };
        assert_eq!(chain(&[("a", "b"), ("b", "")]), ("b".into(), String::new()));
        let (ids, circle) = chain(&[("a", "b"), ("b", "c"), ("c", "a")]);
        assert!(ids == "b,c" && circle.contains("lead back to 'a'"), "{ids} {circle}");
        let (ids, circle) = chain(&[("a", "b"), ("b", "c"), ("c", "b")]);
        assert!(ids == "b,c" && circle.contains("lead back to 'b'"), "{ids} {circle}");
        let (ids, gone) = chain(&[("a", "b"), ("b", "gone")]);
        assert!(ids == "b" && gone == "option fallback: no gone", "{ids} {gone}");
        let long = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "f"), ("f", "")];
        let (ids, end) = chain(&long);
        assert!(ids == "b,c,d,e" && end.contains("more than 4"), "{ids} {end}");
    }
}
