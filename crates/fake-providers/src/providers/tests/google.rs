use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::Engine;
use ring::rand::SystemRandom;
use ring::signature::{RsaKeyPair, RSA_PKCS1_SHA256};

use super::*;
use crate::{embedding_for, relevance_for};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");
const VERTEX: &str = "/vertex/v1/projects/test-project/locations/us-central1/publishers/google/models/";

/// The value of the header with a token of the metadata server.
fn bearer(endpoint: &Endpoint) -> String {
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let (status, answer) = send(endpoint, "GET", path, &[FLAVOR], b"");
    assert_eq!((status, &answer["token_type"]), (200, &json!("Bearer")));
    format!("Bearer {}", answer["access_token"].as_str().unwrap())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims(endpoint: &Endpoint) -> Value {
    let key = endpoint.service_account_key();
    json!({
        "iss": key["client_email"],
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": key["token_uri"],
        "iat": now(),
        "exp": now() + 3600,
    })
}

fn assertion(endpoint: &Endpoint, claims: &Value) -> String {
    let file = endpoint.service_account_key();
    let pem: String = file["private_key"].as_str().unwrap().lines().filter(|line| !line.starts_with('-')).collect();
    let key = RsaKeyPair::from_pkcs8(&STANDARD.decode(pem).unwrap()).unwrap();
    let head = json!({"alg": "RS256", "typ": "JWT", "kid": file["private_key_id"]});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&head), part(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn exchange(endpoint: &Endpoint, form: &str) -> (u16, Value) {
    send(endpoint, "POST", "/google-oauth/token", &[FORM], form.as_bytes())
}

fn bearer_form(assertion: &str) -> String {
    format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}")
}

#[test]
fn service_account() {
    let endpoint = Endpoint::start().unwrap();
    let good = claims(&endpoint);
    let token = assertion(&endpoint, &good);
    let (status, answer) = exchange(&endpoint, &bearer_form(&token));
    assert_eq!((status, &answer["expires_in"]), (200, &json!(3600)), "{answer}");
    let (_, other) = exchange(&endpoint, &bearer_form(&token));
    assert_ne!(answer["access_token"], other["access_token"]);
    assert!(answer["access_token"].as_str().unwrap().starts_with("ya29.test-1-"));
    assert_eq!(endpoint.tokens_issued(), 2);
    // Through a proxy it serves Google's own address.
    let there = with(&good, "aud", "https://oauth2.googleapis.com/token");
    assert_eq!(exchange(&endpoint, &bearer_form(&assertion(&endpoint, &there))).0, 200);

    let (head, rest) = token.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let forged = URL_SAFE_NO_PAD.encode(with(&good, "scope", "more").to_string());
    for (form, error, description) in [
        (bearer_form(&format!("{head}.{forged}.{signature}")), "invalid_grant", "Invalid JWT Signature."),
        (bearer_form(&assertion(&endpoint, &with(&good, "iss", "a@b"))), "invalid_grant", "account not found"),
        (bearer_form(&assertion(&endpoint, &with(&good, "aud", "https://a"))), "invalid_grant", "audience check"),
        (bearer_form(&assertion(&endpoint, &with(&good, "exp", now() + 3700))), "invalid_grant", "short-lived"),
        (bearer_form(&assertion(&endpoint, &with(&good, "exp", now() - 90))), "invalid_grant", "short-lived"),
        (bearer_form(&assertion(&endpoint, &with(&good, "iat", now() + 90))), "invalid_grant", "short-lived"),
        (bearer_form(&assertion(&endpoint, &without(&good, "scope"))), "invalid_scope", "Invalid OAuth scope"),
        (bearer_form("a.b"), "invalid_grant", "Bad Request"),
        (bearer_form(&token) + "&x=1", "invalid_request", "Parameter not allowed for this message type: x"),
        ("grant_type=magic".into(), "unsupported_grant_type", "Invalid grant_type: magic"),
        ("assertion=a".into(), "invalid_request", "grant_type"),
    ] {
        let (status, answer) = exchange(&endpoint, &form);
        assert_eq!((status, &answer["error"]), (400, &json!(error)), "{description}: {answer}");
        assert!(answer["error_description"].as_str().unwrap().contains(description), "{answer}");
    }
    let json = post(&endpoint, "/google-oauth/token", &[], &json!({"grant_type": "refresh_token"}));
    assert_eq!((json.0, &json.1["error"]), (400, &json!("invalid_request")));
}

#[test]
fn refresh_token() {
    let endpoint = Endpoint::start().unwrap();
    let user = endpoint.authorized_user();
    let form = |name: &str, value: &str| {
        let mut form = "grant_type=refresh_token".to_owned();
        for member in ["client_id", "client_secret", "refresh_token"] {
            let value = if member == name { value } else { user[member].as_str().unwrap() };
            form += &format!("&{member}={}", value.replace('/', "%2F"));
        }
        form
    };
    assert_eq!(exchange(&endpoint, &form("", "")).0, 200);
    let (status, answer) = exchange(&endpoint, &form("refresh_token", "1//old"));
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
    for member in ["client_id", "client_secret"] {
        let (status, answer) = exchange(&endpoint, &form(member, "no"));
        assert_eq!((status, &answer["error"]), (401, &json!("invalid_client")));
    }
}

#[test]
fn federation_and_impersonation() {
    let endpoint = Endpoint::start().unwrap();
    let account = endpoint.external_account(Path::new("/a/token"));
    assert_eq!(account["credential_source"]["file"], "/a/token");
    let path = "/google-sts/v1/token";
    let body = json!({
        "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": account["audience"],
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
        "subjectToken": "subject-5ecret",
        "subjectTokenType": account["subject_token_type"],
    });
    let (status, answer) = post(&endpoint, path, &[], &body);
    assert_eq!((status, &answer["issued_token_type"]), (200, &body["requestedTokenType"]), "{answer}");
    let form = format!(
        "grant_type={}&audience={}&scope=a+b&requested_token_type={}&subject_token=subject-5ecret&subject_token_type={}",
        body["grantType"].as_str().unwrap(),
        body["audience"].as_str().unwrap(),
        body["requestedTokenType"].as_str().unwrap(),
        body["subjectTokenType"].as_str().unwrap()
    );
    assert_eq!(send(&endpoint, "POST", path, &[FORM], form.as_bytes()).0, 200);
    refused(&endpoint, path, &[], &with(&body, "subjectToken", "no"), 400, "invalid_grant");
    refused(&endpoint, path, &[], &with(&body, "audience", "no"), 400, "audience");
    refused(&endpoint, path, &[], &with(&body, "more", "no"), 400, "more");
    refused(&endpoint, path, &[], &without(&body, "scope"), 400, "scope");

    let bearer = format!("Bearer {}", answer["access_token"].as_str().unwrap());
    let key = ("Authorization", bearer.as_str());
    let path =
        "/iamcredentials/v1/projects/-/serviceAccounts/a@test-project.iam.gserviceaccount.com:generateAccessToken";
    let body = json!({"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "600s"});
    let (status, answer) = post(&endpoint, path, &[key], &body);
    assert_eq!((status, answer["expireTime"].as_str().unwrap().len()), (200, 20), "{answer}");
    refused(&endpoint, path, &[], &body, 401, "UNAUTHENTICATED");
    refused(&endpoint, path, &[key], &with(&body, "lifetime", "3601s"), 400, "3600 seconds");
    refused(&endpoint, path, &[key], &with(&body, "scopes", json!([])), 400, "Unknown name \\\"scopes\\\"");
    refused(&endpoint, &path.replace("test-project", "no"), &[key], &body, 403, "iam.serviceAccounts.getAccessToken");
}

#[test]
fn metadata_server() {
    let endpoint = Endpoint::start().unwrap();
    for (path, text) in [
        ("/computeMetadata/v1/project/project-id", "test-project"),
        ("/computeMetadata/v1/instance/zone", "projects/123/zones/us-central1-a"),
    ] {
        let (status, headers, body) = send_raw(&endpoint, "GET", path, &[FLAVOR], b"");
        assert_eq!(
            (status, body.as_slice(), headers["metadata-flavor"].as_bytes()),
            (200, text.as_bytes(), &b"Google"[..])
        );
        assert_eq!(send(&endpoint, "GET", path, &[], b"").0, 403);
        assert_eq!(send(&endpoint, "GET", path, &[FLAVOR, ("X-Forwarded-For", "1.1.1.1")], b"").0, 403);
    }
}

#[test]
fn tokens_end() {
    let endpoint = Endpoint::start().unwrap();
    let path = format!("{VERTEX}text-embedding-005:predict");
    let body = json!({"instances": [{"content": "a"}]});
    let call = |bearer: &str| post(&endpoint, &path, &[("Authorization", bearer)], &body).0;
    let first = bearer(&endpoint);
    assert_eq!((call(&first), call(&first)), (200, 200));
    endpoint.revoke_tokens();
    assert_eq!(call(&first), 401);
    endpoint.set_token_lifetime(Duration::from_millis(500));
    let second = bearer(&endpoint);
    assert_eq!(call(&second), 200);
    sleep(Duration::from_millis(510));
    assert_eq!(call(&second), 401);
    assert_eq!((call("Bearer ya29.other"), call("sk"), endpoint.tokens_issued()), (401, 401, 2));
}

#[test]
fn vertex_predict() {
    let endpoint = Endpoint::start().unwrap();
    let bearer = bearer(&endpoint);
    let key = [("Authorization", bearer.as_str())];
    let path = format!("{VERTEX}text-embedding-005:predict");
    let body = json!({
        "instances": [
            {"content": "one", "task_type": "RETRIEVAL_DOCUMENT", "title": "t"},
            {"content": "b".repeat(9000)},
        ],
        "parameters": {"autoTruncate": true, "outputDimensionality": 12},
    });
    let (status, answer) = post(&endpoint, &path, &key, &body);
    assert_eq!(status, 200, "{answer}");
    let first = &answer["predictions"][0]["embeddings"];
    assert_eq!(floats(&first["values"]), embedding_for("one", 12));
    assert_eq!(first["statistics"], json!({"token_count": 1, "truncated": false}));
    assert_eq!(answer["predictions"][1]["embeddings"]["statistics"]["truncated"], true);
    for (model, width) in [("gemini-embedding-001", 3072), ("textembedding-gecko%40003", 768)] {
        let (_, answer) =
            post(&endpoint, &format!("{VERTEX}{model}:predict"), &key, &json!({"instances": [{"content": "one"}]}));
        assert_eq!(floats(&answer["predictions"][0]["embeddings"]["values"]), embedding_for("one", width), "{model}");
    }
    let check = |body: &Value, text: &str| refused(&endpoint, &path, &key, body, 400, text);
    let instance = |instance: Value| json!({"instances": [instance]});
    check(
        &with(&body, "parameters", json!({"autoTruncate": false})),
        "input token count is 2250 but the model supports up to 2048",
    );
    check(&with(&body, "parameters", json!({"outputDimensionality": 769})), "outputDimensionality");
    check(&with(&body, "parameters", json!({"dimension": 7})), "Unknown name");
    check(&instance(json!({"content": "a", "task_type": "SEARCH"})), "SEARCH");
    check(&instance(json!({"content": "a", "title": "t"})), "RETRIEVAL_DOCUMENT");
    check(&instance(json!({"content": "a", "taskType": "CLUSTERING"})), "taskType");
    check(&instance(json!({"content": ""})), "empty");
    check(&instance(json!({"text": "a"})), "text");
    check(&json!({"instances": vec![json!({"content": "a"}); 251]}), "at most 250");
    check(&json!({"instances": vec![json!({"content": "a".repeat(8000)}); 11]}), "22000");
    check(&json!({"instances": []}), "Empty instances");
    let two = json!({"instances": [{"content": "a"}, {"content": "b"}]});
    refused(&endpoint, &format!("{VERTEX}gemini-embedding-001:predict"), &key, &two, 400, "at most 1");
    let global = VERTEX.replace("us-central1", "global");
    refused(&endpoint, &format!("{global}gemini-embedding-2:predict"), &key, &two, 400, "Please use embedContent");
    refused(&endpoint, &format!("{VERTEX}text-embedding-006:predict"), &key, &two, 404, "Publisher Model `projects/");
    refused(&endpoint, &path, &[], &two, 401, "UNAUTHENTICATED");
    refused(&endpoint, &path.replace("test-project", "p"), &key, &two, 403, "aiplatform.endpoints.predict");
    refused(&endpoint, &path.replace("us-central1", "mars"), &key, &two, 400, "mars");

    let path = "/vertex/v1/projects/other-project/locations/eu/endpoints/123:predict";
    let (_, answer) = post(&endpoint, path, &key, &json!({"instances": [{"a": 1}, 2], "parameters": {"b": 1}}));
    assert_eq!(answer, json!({"predictions": [{"echo": {"a": 1}}]}));
}

#[test]
fn vertex_multimodal() {
    let endpoint = Endpoint::start().unwrap();
    let bearer = bearer(&endpoint);
    let key = [("Authorization", bearer.as_str())];
    let path = format!("{VERTEX}multimodalembedding@001:predict");
    let body = json!({
        "instances": [{"text": "cat", "image": {"bytesBase64Encoded": "AAEC", "mimeType": "image/png"}}],
        "parameters": {"dimension": 128},
    });
    let (status, answer) = post(&endpoint, &path, &key, &body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(floats(&answer["predictions"][0]["textEmbedding"]), embedding_for("cat", 128));
    assert_eq!(floats(&answer["predictions"][0]["imageEmbedding"]), embedding_for("AAEC", 128));
    let video = json!({"instances": [{"video": {"gcsUri": "gs://b/v", "videoSegmentConfig": {"endOffsetSec": 5}}}]});
    let (_, answer) = post(&endpoint, &path, &key, &video);
    assert_eq!(floats(&answer["predictions"][0]["videoEmbeddings"][0]["embedding"]), embedding_for("gs://b/v", 1408));
    let check = |body: &Value, text: &str| refused(&endpoint, &path, &key, body, 400, text);
    check(&with(&body, "parameters", json!({"dimension": 129})), "dimension");
    check(&json!({"instances": [{}]}), "At least one");
    check(&json!({"instances": [{"image": {"gcsUri": "http://a"}}]}), "GCS");
    check(&json!({"instances": [{"image": {"bytesBase64Encoded": "?"}}]}), "Base64");
}

#[test]
fn vertex_content() {
    let endpoint = Endpoint::start().unwrap();
    let bearer = bearer(&endpoint);
    let key = [("Authorization", bearer.as_str())];
    let global = VERTEX.replace("us-central1", "global");
    let path = format!("{global}gemini-embedding-2:embedContent");
    let body = json!({
        "content": {"parts": [{"text": "one"}]},
        "embedContentConfig": {"taskType": "CLUSTERING", "output_dimensionality": 10},
    });
    let (status, answer) = post(&endpoint, &path, &key, &body);
    assert_eq!((status, floats(&answer["embedding"]["values"])), (200, embedding_for("one", 10)), "{answer}");
    refused(&endpoint, &path, &key, &with(&body, "taskType", "CLUSTERING"), 400, "taskType");
    refused(&endpoint, &path, &key, &json!({"content": {"parts": []}}), 400, "parts");
    refused(&endpoint, &path.replace("global", "us-central1"), &key, &body, 404, "not found");
    let other = format!("{VERTEX}text-embedding-005:embedContent");
    refused(&endpoint, &other, &key, &body, 400, "Please use embedContent");

    let path = format!("{VERTEX}gemini-2.5-flash:generateContent");
    let body = json!({
        "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "system_instruction": {"parts": [{"text": "Be short."}]},
        "generationConfig": {"temperature": 0, "max_output_tokens": 10},
    });
    let (status, answer) = post(&endpoint, &path, &key, &body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["candidates"][0]["content"]["parts"][0]["text"], "You said: hello");
    assert!(answer["usageMetadata"]["totalTokenCount"].is_u64());
    let stream = path.replace("generateContent", "streamGenerateContent");
    let (_, answer) = post(&endpoint, &stream, &key, &body);
    let texts: String = answer
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, "You said: hello");
    assert!(answer[0]["usageMetadata"].is_null() && answer[1]["usageMetadata"].is_object());
    let check = |body: &Value, text: &str| refused(&endpoint, &path, &key, body, 400, text);
    check(&with(&body, "contents", json!([{"role": "system", "parts": [{"text": "a"}]}])), "valid role");
    check(&with(&body, "contents", json!([{"parts": [{"text": "a"}]}])), "valid role");
    check(&with(&body, "contents", json!([])), "at least one contents");
    check(&with(&body, "generationConfig", json!({"heat": 1})), "Unknown name \\\"heat\\\" at 'generationConfig'");
    check(&with(&body, "prompt", "a"), "Unknown name \\\"prompt\\\"");
    refused(&endpoint, &path.replace("gemini-2.5", "gpt"), &key, &body, 404, "Publisher Model");

    let path = "/vertex/v1/projects/test-project/locations/us/publishers/anthropic/models/claude-x:rawPredict";
    let body = json!({
        "anthropic_version": "vertex-2023-10-16",
        "max_tokens": 20,
        "messages": said("user", "hi"),
    });
    let (status, answer) = post(&endpoint, path, &key, &body);
    assert_eq!((status, &answer["content"][0]["text"]), (200, &json!("You said: hi")));
    refused(&endpoint, path, &key, &with(&body, "model", "claude-x"), 400, "model: Extra inputs");
    refused(&endpoint, path, &key, &without(&body, "anthropic_version"), 400, "anthropic_version: Field required");
}

#[test]
fn gemini_api() {
    let endpoint = Endpoint::start().unwrap();
    endpoint.set_expected_key("AIza-right");
    let key = [("x-goog-api-key", "AIza-right")];
    let path = "/gemini/v1beta/models/gemini-embedding-001:embedContent";
    let body = json!({
        "model": "models/gemini-embedding-001",
        "content": {"parts": [{"text": "one"}]},
        "taskType": "RETRIEVAL_DOCUMENT",
        "title": "t",
        "outputDimensionality": 768,
    });
    let (status, answer) = post(&endpoint, path, &key, &body);
    assert_eq!((status, floats(&answer["embedding"]["values"])), (200, embedding_for("one", 768)), "{answer}");
    refused(&endpoint, path, &[], &body, 403, "unregistered callers");
    refused(&endpoint, path, &[("x-goog-api-key", "no")], &body, 400, "API key not valid");
    refused(&endpoint, path, &key, &with(&body, "model", "models/other"), 400, "models/other");
    refused(&endpoint, path, &key, &with(&body, "taskType", "X"), 400, "X");
    refused(&endpoint, path, &key, &with(&body, "embedContentConfig", json!({})), 400, "embedContentConfig");
    refused(&endpoint, &path.replace("-001", "-9"), &key, &body, 404, "is not found for API version v1beta");
    let path = "/gemini/v1beta/models/gemini-embedding-001:batchEmbedContents";
    let (status, answer) = post(&endpoint, path, &key, &json!({"requests": [body, body]}));
    assert_eq!((status, floats(&answer["embeddings"][1]["values"])), (200, embedding_for("one", 768)));
    refused(&endpoint, path, &key, &json!({"requests": vec![body.clone(); 101]}), 400, "at most 100 requests");
    refused(&endpoint, path, &key, &json!({"requests": [without(&body, "model")]}), 400, "model");
    let path = "/gemini/v1beta/models/gemini-2.5-flash:generateContent";
    let (status, answer) = post(&endpoint, path, &key, &json!({"contents": [{"parts": [{"text": "hi"}]}]}));
    assert_eq!((status, &answer["candidates"][0]["content"]["parts"][0]["text"]), (200, &json!("You said: hi")));
}

#[test]
fn discovery_ranking() {
    let endpoint = Endpoint::start().unwrap();
    let bearer = bearer(&endpoint);
    let key = [("Authorization", bearer.as_str())];
    let path = "/discovery/v1/projects/test-project/locations/global/rankingConfigs/default_ranking_config:rank";
    let record = |id: &str, content: &str| json!({"id": id, "content": content});
    let body = json!({
        "model": "semantic-ranker-default-003",
        "topN": 2,
        "query": "red apple",
        "records": [record("1", "a blue car"), record("2", "an apple that is red"), record("3", "an apple")],
    });
    let (status, answer) = post(&endpoint, path, &key, &body);
    assert_eq!(status, 200, "{answer}");
    let ids: Vec<&Value> = answer["records"].as_array().unwrap().iter().map(|record| &record["id"]).collect();
    assert_eq!(ids, ["2", "3"]);
    assert_eq!(answer["records"][0]["score"], relevance_for("red apple", "an apple that is red"));
    assert_eq!(answer["records"][0]["content"], "an apple that is red");
    let (_, answer) = post(&endpoint, path, &key, &with(&body, "ignoreRecordDetailsInResponse", true));
    assert!(answer["records"][0]["content"].is_null());
    refused(&endpoint, path, &[], &body, 401, "UNAUTHENTICATED");
    refused(&endpoint, path, &key, &with(&body, "top_k", 2), 400, "topK");
    refused(&endpoint, path, &key, &with(&body, "records", vec![record("1", "a"); 201]), 400, "200");
    refused(&endpoint, path, &key, &without(&body, "query"), 400, "query");
    refused(&endpoint, &path.replace("test-", "no-"), &key, &body, 403, "rankingConfigs.rank");
}

#[test]
fn secrets() {
    let endpoint = Endpoint::start().unwrap();
    let bearer = bearer(&endpoint);
    let key = [("Authorization", bearer.as_str())];
    endpoint.set_secret("projects/p/secrets/s/versions/latest", b"123456789");
    endpoint.set_secret("projects/p/secrets/broken-crc/versions/latest", b"123456789");
    endpoint.set_secret("projects/p/locations/eu/secrets/r/versions/7", b"v");
    let get = |name: &str| send(&endpoint, "GET", &format!("/secretmanager/v1/{name}:access"), &key, b"");
    let (status, answer) = get("projects/p/secrets/s/versions/latest");
    let payload = json!({"data": "MTIzNDU2Nzg5", "dataCrc32c": "3808858755"});
    assert_eq!((status, &answer), (200, &json!({"name": "projects/p/secrets/s/versions/3", "payload": payload})));
    let (_, answer) = get("projects/p/secrets/broken-crc/versions/latest");
    assert_eq!(answer["payload"]["dataCrc32c"], "3808858754");
    let (_, answer) = get("projects/p/locations/eu/secrets/r/versions/7");
    assert_eq!(answer["name"], "projects/p/locations/eu/secrets/r/versions/7");
    let (status, answer) = get("projects/p/secrets/other/versions/latest");
    assert_eq!((status, &answer["error"]["status"]), (404, &json!("NOT_FOUND")));
    assert_eq!(get("projects/p/secrets/s/versions/4").0, 404);
    assert_eq!(endpoint.count_for("/secretmanager/v1/projects/p/secrets/s/versions/latest:access"), 1);
    let path = "/secretmanager/v1/projects/p/secrets/s/versions/latest:access";
    assert_eq!(send(&endpoint, "GET", path, &[], b"").0, 401);
}
