//! Google's sources of access tokens: the OAuth and STS services, credentials of service accounts, and the metadata
//! server.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::Engine;
use ring::signature::{KeyPair, RsaKeyPair, UnparsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use serde_json::{json, Value};

use super::call::{either, form, Call};
use super::google;
use super::state::HOUR;
use super::strict::{self, optional, required, Kind, Member};
use crate::answer::Answer;

/// The private key of the tests' account; public on purpose.
const KEY: &str = include_str!("../test_key.pem");
const KEY_ID: &str = "test-key-1";
/// The audience in assertions of a client that knows Google's own address.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const ACCOUNT: &str = "tester@test-project.iam.gserviceaccount.com";
const PROJECT: &str = "test-project";
const CLIENT_ID: &str = "test-client";
const CLIENT_SECRET: &str = "d-test-client-5ecret";
const REFRESH_TOKEN: &str = "1//test-refresh-5ecret";
const SUBJECT_TOKEN: &str = "subject-5ecret";
const AUDIENCE: &str =
    "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/test-pool/providers/test-provider";
const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Accepted difference between the clocks of client and server, in seconds.
const SKEW: i64 = 60;

/// A key file of this endpoint's service account.
pub(crate) fn service_account_key(token_uri: &str) -> Value {
    json!({
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": KEY_ID,
        "private_key": KEY,
        "client_email": ACCOUNT,
        "client_id": "123456789012345678901",
        "token_uri": token_uri,
    })
}

/// The credentials of a user's login.
pub(crate) fn authorized_user() -> Value {
    json!({
        "type": "authorized_user",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "refresh_token": REFRESH_TOKEN,
        "quota_project_id": PROJECT,
    })
}

/// A configuration of workload identity federation that reads its token from this file.
pub(crate) fn external_account(token_url: &str, file: &Path) -> Value {
    json!({
        "type": "external_account",
        "audience": AUDIENCE,
        "subject_token_type": JWT_TYPE,
        "token_url": token_url,
        "credential_source": {"file": file},
    })
}

/// Requires a valid access token that was issued here.
pub(super) fn authorise(call: &Call<'_>) -> Result<(), Answer> {
    let tokens = call.state.tokens();
    if call.bearer().is_some_and(|token| tokens.is_valid(token)) {
        return Ok(());
    }
    let message =
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other \
                   valid authentication credential. See \
                   https://developers.google.com/identity/sign-in/web/devconsole-project.";
    Err(google::error(401, "UNAUTHENTICATED", message)
        .with_header("WWW-Authenticate", "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\""))
}

fn refusal(status: u16, error: &str, description: &str) -> Answer {
    Answer::json(status, &json!({"error": error, "error_description": description}))
}

fn invalid_grant(description: &str) -> Answer {
    refusal(400, "invalid_grant", description)
}

fn token_answer(call: &Call<'_>) -> Value {
    let (token, lifetime) = call.state.tokens().issue();
    json!({"access_token": token, "expires_in": lifetime.as_secs(), "token_type": "Bearer"})
}

/// The parameters of a request, each at most once.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn need(&self, name: &str) -> Result<&str, Answer> {
        self.get(name).ok_or_else(|| refusal(400, "invalid_request", &format!("Missing required parameter: {name}")))
    }

    fn check(&self, known: &[&str]) -> Result<(), Answer> {
        for (index, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let description = format!("Parameter not allowed for this message type: {name}");
                return Err(refusal(400, "invalid_request", &description));
            }
            if self.0.iter().skip(index + 1).any(|(other, _)| other == name) {
                return Err(refusal(400, "invalid_request", &format!("Duplicate parameter: {name}")));
            }
        }
        Ok(())
    }
}

fn media_type<'a>(call: &'a Call<'_>) -> &'a str {
    call.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

fn form_body(call: &Call<'_>) -> Parameters {
    Parameters(form(&String::from_utf8_lossy(call.request.body)))
}

/// The routes under `/google-oauth`.
pub(super) fn oauth(call: &Call<'_>) -> Answer {
    either(serve_oauth(call))
}

fn serve_oauth(call: &Call<'_>) -> Result<Answer, Answer> {
    if call.parts != ["token"] || call.request.method != "POST" {
        return Err(google::no_such_page(call));
    }
    if media_type(call) != "application/x-www-form-urlencoded" {
        return Err(refusal(400, "invalid_request", "Bad Request"));
    }
    let parameters = form_body(call);
    let mut answer = match parameters.need("grant_type")? {
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => {
            parameters.check(&["grant_type", "assertion"])?;
            let here = format!("{}{}", call.shared.base, call.request.path);
            check_assertion(parameters.need("assertion")?, &[&here, TOKEN_URI])?;
            token_answer(call)
        }
        "refresh_token" => {
            parameters.check(&["grant_type", "client_id", "client_secret", "refresh_token", "scope"])?;
            if parameters.need("client_id")? != CLIENT_ID {
                return Err(refusal(401, "invalid_client", "The OAuth client was not found."));
            }
            if parameters.need("client_secret")? != CLIENT_SECRET {
                return Err(refusal(401, "invalid_client", "Unauthorized"));
            }
            if parameters.need("refresh_token")? != REFRESH_TOKEN {
                return Err(invalid_grant("Token has been expired or revoked."));
            }
            token_answer(call)
        }
        other => return Err(refusal(400, "unsupported_grant_type", &format!("Invalid grant_type: {other}"))),
    };
    if let (Some(scope), Some(answer)) = (parameters.get("scope"), answer.as_object_mut()) {
        answer.insert("scope".into(), scope.into());
    }
    Ok(Answer::json(200, &answer).with_header("Cache-Control", "no-store"))
}

/// The public half of the test key, as PKCS #1.
fn public_key() -> Option<&'static [u8]> {
    static PUBLIC: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let read = || {
        let text: String = KEY.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(text).ok()?;
        Some(RsaKeyPair::from_pkcs8(&der).ok()?.public_key().as_ref().to_vec())
    };
    PUBLIC.get_or_init(read).as_deref()
}

fn seconds_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// Checks a signed assertion; its audience must be one of these.
fn check_assertion(assertion: &str, audiences: &[&str]) -> Result<(), Answer> {
    let bad_signature = || invalid_grant("Invalid JWT Signature.");
    let (signed, signature) = assertion.rsplit_once('.').ok_or_else(|| invalid_grant("Bad Request"))?;
    let (head, claims) = signed.split_once('.').ok_or_else(|| invalid_grant("Bad Request"))?;
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| invalid_grant("Bad Request"));
    let read = |part: &str| -> Result<Value, Answer> {
        serde_json::from_slice(&bytes(part)?).map_err(|_| invalid_grant("Bad Request"))
    };
    let (head, claims) = (read(head)?, read(claims)?);
    if head.get("alg") != Some(&json!("RS256")) || head.get("kid") != Some(&json!(KEY_ID)) {
        return Err(bad_signature());
    }
    if head.get("typ").is_some_and(|kind| kind != "JWT") {
        return Err(invalid_grant("Bad Request"));
    }
    // The account comes first, because it has the key.
    if claims.get("iss") != Some(&json!(ACCOUNT)) {
        return Err(invalid_grant("Invalid grant: account not found"));
    }
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public_key().ok_or_else(bad_signature)?);
    key.verify(signed.as_bytes(), &bytes(signature)?).map_err(|_| bad_signature())?;
    if !claims.get("aud").and_then(Value::as_str).is_some_and(|aud| audiences.contains(&aud)) {
        let right = audiences.first().unwrap_or(&TOKEN_URI);
        return Err(invalid_grant(&format!("Invalid JWT: Failed audience check. The right audience is {right}")));
    }
    let time = |name: &str| claims.get(name).and_then(Value::as_i64);
    let now = seconds_now();
    let timely = match (time("iat"), time("exp")) {
        (Some(issued), Some(expiry)) => {
            issued <= now.saturating_add(SKEW)
                && expiry >= now.saturating_sub(SKEW)
                && expiry > issued
                && expiry.saturating_sub(issued) <= HOUR.cast_signed()
        }
        _ => false,
    };
    if !timely {
        let description = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. \
                           Check your iat and exp values in the JWT claim.";
        return Err(invalid_grant(description));
    }
    match claims.get("scope").and_then(Value::as_str) {
        Some(scope) if !scope.trim().is_empty() => Ok(()),
        _ => Err(refusal(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")),
    }
}

/// The routes under `/google-sts`.
pub(super) fn sts(call: &Call<'_>) -> Answer {
    either(exchange(call))
}

fn exchange(call: &Call<'_>) -> Result<Answer, Answer> {
    const KNOWN: &[&str] = &[
        "grant_type",
        "audience",
        "scope",
        "requested_token_type",
        "subject_token",
        "subject_token_type",
        "actor_token",
        "actor_token_type",
        "options",
    ];
    if call.parts != ["v1", "token"] || call.request.method != "POST" {
        return Err(google::no_such_page(call));
    }
    let invalid = |description: &str| refusal(400, "invalid_request", description);
    let parameters = match media_type(call) {
        "application/x-www-form-urlencoded" => form_body(call),
        "application/json" => {
            let body: Value = serde_json::from_slice(call.request.body).map_err(|_| invalid("Malformed JSON."))?;
            let members = google::camel(body);
            let members = members.as_object().ok_or_else(|| invalid("Malformed JSON."))?;
            let pairs = members.iter().map(|(name, value)| {
                let value = value.as_str().ok_or_else(|| invalid(&format!("Invalid value for: {name}")))?;
                Ok((snake(name), value.to_owned()))
            });
            Parameters(pairs.collect::<Result<_, _>>()?)
        }
        _ => return Err(invalid("Invalid content type.")),
    };
    parameters.check(KNOWN)?;
    let grant = parameters.need("grant_type")?;
    if grant != "urn:ietf:params:oauth:grant-type:token-exchange" {
        return Err(refusal(400, "unsupported_grant_type", &format!("Invalid grant type: {grant}")));
    }
    if !parameters.need("audience")?.starts_with("//iam.googleapis.com/") {
        return Err(invalid(
            "Invalid value for \"audience\". This value should be the full resource name of the Identity Provider.",
        ));
    }
    parameters.need("scope")?;
    if parameters.need("requested_token_type")? != ACCESS_TYPE {
        return Err(invalid("Invalid value for: requested_token_type"));
    }
    if !matches!(parameters.need("subject_token_type")?, JWT_TYPE | "urn:ietf:params:oauth:token-type:id_token") {
        return Err(invalid("Invalid value for: subject_token_type"));
    }
    if parameters.need("subject_token")? != SUBJECT_TOKEN {
        return Err(invalid_grant("The subject token is not valid for the given identity provider."));
    }
    let mut answer = token_answer(call);
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("issued_token_type".into(), ACCESS_TYPE.into());
    }
    Ok(Answer::json(200, &answer))
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// The routes under `/iamcredentials`.
pub(super) fn iam_credentials(call: &Call<'_>) -> Answer {
    either(impersonate(call))
}

fn impersonate(call: &Call<'_>) -> Result<Answer, Answer> {
    const MEMBERS: &[Member] =
        &[required("scope", Kind::List), optional("lifetime", Kind::Text), optional("delegates", Kind::List)];
    let account = match call.parts {
        ["v1", "projects", "-", "serviceAccounts", last] => last.strip_suffix(":generateAccessToken"),
        _ => None,
    };
    let account = account.ok_or_else(|| google::no_such_page(call))?;
    authorise(call)?;
    if !account.ends_with("@test-project.iam.gserviceaccount.com") {
        let message = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).";
        return Err(google::error(403, "PERMISSION_DENIED", message));
    }
    let body = strict::body(call).map(google::camel).map_err(|violation| google::refuse(call, &violation))?;
    let body = strict::object(&body, "", MEMBERS).map_err(|violation| google::refuse(call, &violation))?;
    let scopes = strict::texts(body.get("scope"), "scope").map_err(|violation| google::refuse(call, &violation))?;
    if scopes.is_empty() {
        return Err(google::invalid("scope is required."));
    }
    if let Some(lifetime) = body.text("lifetime") {
        let seconds = lifetime.strip_suffix('s').and_then(|seconds| seconds.parse::<u64>().ok());
        if seconds.is_none_or(|seconds| seconds == 0 || seconds > HOUR) {
            let message = "The access token lifetime cannot exceed 3600 seconds and must be positive.";
            return Err(google::invalid(message));
        }
    }
    let (token, lifetime) = call.state.tokens().issue();
    let expiry = seconds_now().saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX));
    Ok(Answer::json(200, &json!({"accessToken": token, "expireTime": rfc3339(expiry)})))
}

/// A time in seconds since 1970 as RFC 3339 text.
fn rfc3339(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years begin in March here, so that the leap day is the last; 146,097 days are 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// The metadata server, under `/computeMetadata`.
pub(super) fn metadata(call: &Call<'_>) -> Answer {
    let html = |status, text: &str| Answer::new(status, "text/html; charset=UTF-8", format!("<html>{text}</html>"));
    let plain = |text: &str| Answer::new(200, "application/text", text);
    let answer = if call.header("metadata-flavor") != Some("Google") {
        html(403, "Your client does not have permission to get this URL. Missing Metadata-Flavor:Google header.")
    } else if call.header("x-forwarded-for").is_some() {
        html(403, "Request sent through a proxy.")
    } else if call.request.method != "GET" {
        html(405, "Method not allowed.")
    } else {
        match call.parts {
            ["v1", "instance", "service-accounts", "default", "token"] => Answer::json(200, &token_answer(call)),
            ["v1", "instance", "service-accounts", "default", "email"] => plain(ACCOUNT),
            ["v1", "project", "project-id"] => plain(PROJECT),
            ["v1", "instance", "zone"] => plain("projects/123/zones/us-central1-a"),
            _ => html(404, "The requested URL was not found on this server."),
        }
    };
    answer.with_header("Metadata-Flavor", "Google").with_header("Server", "Metadata Server for VM")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_as_text() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
