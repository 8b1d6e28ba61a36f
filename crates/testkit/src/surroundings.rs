//! The environment of a server under test: keys in variables and in its secrets directory, and a local endpoint in
//! place of Google's hosts.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use fake_providers::Endpoint;

/// The key in the environment variable `MYSQL_ML_SECRET_TEST`.
pub const ENV_KEY: &str = "sk-env-5ecret-0001-abcdef";

/// The key in the file `endpoint-key` of the secrets directory.
pub const FILE_KEY: &str = "sk-file-5ecret-0002-abcdef";

/// Variables that change a server's behaviour and must not be inherited.
pub const NOT_INHERITED: [&str; 10] = [
    "OPENAI_API_KEY",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_LOCATION",
    "CLOUDSDK_CONFIG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];

/// Writes the files of the secrets directory into a folder.
pub fn fill_secrets(endpoint: &Endpoint, secrets: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(secrets.join("models")).context("cannot make the folder of models")?;
    fs::write(secrets.join("endpoint-key"), format!("{FILE_KEY}\n")).context("cannot write a secret")?;
    fs::write(secrets.join("service-account.json"), endpoint.service_account_key().to_string())
        .context("cannot write the key of a service account")
}

/// The environment of the server's process.
pub fn environment(endpoint: &Endpoint, secrets: &Path) -> Vec<(String, String)> {
    let folder = secrets.display().to_string();
    [
        ("MYSQL_ML_SECRET_TEST", ENV_KEY.to_owned()),
        ("MYSQL_ML_SECRETS_DIR", folder.clone()),
        ("MYSQL_ML_MODELS_DIR", secrets.join("models").display().to_string()),
        // The endpoint replaces Google's hosts and the metadata server of a Google Cloud machine.
        ("GOOGLE_APPLICATION_CREDENTIALS", secrets.join("service-account.json").display().to_string()),
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", endpoint.url("/vertex/")),
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_DISCOVERYENGINE", endpoint.url("/discovery/")),
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", endpoint.url("/secretmanager/")),
        ("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS", endpoint.url("/iamcredentials/")),
        ("CLOUDSDK_AUTH_TOKEN_HOST", endpoint.url("/google-oauth/token")),
        ("GOOGLE_GEMINI_BASE_URL", endpoint.url("/gemini/")),
        ("GCE_METADATA_HOST", format!("127.0.0.1:{}", endpoint.port())),
        ("HOME", folder),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
