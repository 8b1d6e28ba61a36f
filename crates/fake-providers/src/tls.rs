//! Certificates of a private authority, valid and invalid ones.

use std::sync::Arc;

use anyhow::Context;
use rcgen::{
    date_time_ymd, BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::ServerConfig;

/// The certificate of an endpoint with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certificate {
    /// For `localhost` and 127.0.0.1: valid for a client that trusts the authority.
    Valid,
    /// For another host name.
    WrongHost,
    /// For `localhost`, but expired years ago.
    Expired,
}

/// A private authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name = name("Private test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("generate the authority's key")?;
        CertifiedIssuer::self_signed(authority, key).map(Self).context("sign the authority's certificate")
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The configuration of a server with a valid certificate for a host.
    pub(crate) fn config_for(&self, host: &str) -> anyhow::Result<Arc<ServerConfig>> {
        let leaf = CertificateParams::new(vec![host.to_owned()]).context("names of the certificate")?;
        self.config(leaf)
    }

    fn config(&self, mut leaf: CertificateParams) -> anyhow::Result<Arc<ServerConfig>> {
        leaf.distinguished_name = name("Test endpoint");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().context("generate the key")?;
        let certificate = leaf.signed_by(&key, &self.0).context("sign the certificate")?;

        // Named explicitly, because a process may hold several providers without a default.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS versions")?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .context("TLS configuration")?;
        Ok(Arc::new(config))
    }
}

/// Creates an authority and a certificate. Returns the server's configuration and the authority's PEM.
pub(crate) fn server_config(kind: Certificate) -> anyhow::Result<(Arc<ServerConfig>, String)> {
    let authority = Authority::new()?;
    let names = match kind {
        Certificate::Valid | Certificate::Expired => vec!["localhost".into(), "127.0.0.1".into()],
        Certificate::WrongHost => vec!["other.example.com".into()],
    };
    let mut leaf = CertificateParams::new(names).context("names of the certificate")?;
    if kind == Certificate::Expired {
        leaf.not_before = date_time_ymd(2020, 1, 1);
        leaf.not_after = date_time_ymd(2021, 1, 1);
    }
    Ok((authority.config(leaf)?, authority.pem()))
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}
