//! A fake internet for tests: an HTTP proxy through which the local endpoint serves the providers' own hosts.
//!
//! A client connects with CONNECT, as through any proxy. It then speaks TLS with a server that has a good certificate
//! for the host. The request goes to the endpoint's route for that host, and is recorded under the route's path:
//!
//! | host | path |
//! |---|---|
//! | `api.openai.com` | `/openai/...` |
//! | `NAME.openai.azure.com` | `/azure/...` |
//! | `api.anthropic.com` | `/anthropic/...` |
//! | `router.huggingface.co`, `api-inference.huggingface.co` | `/huggingface/...` |
//! | `aiplatform.googleapis.com`, `L-aiplatform.googleapis.com`, `aiplatform.{us,eu}.rep.googleapis.com` | `/vertex/...` |
//! | `generativelanguage.googleapis.com` | `/gemini/...` |
//! | `discoveryengine.googleapis.com` | `/discovery/...` |
//! | `oauth2.googleapis.com`, `sts.googleapis.com`, `iamcredentials.googleapis.com` | `/google-oauth/...`, `/google-sts/...`, `/iamcredentials/...` |
//! | `secretmanager.googleapis.com`, `secretmanager.L.rep.googleapis.com` | `/secretmanager/...` |
//! | `integrate.api.nvidia.com` | `/nim/...` |
//! | `ai.api.nvidia.com` | `/nim/v1/ranking` for `/v1/retrieval/ORG/MODEL/reranking` |
//! | `api.cohere.com`, `api.voyageai.com`, `api.mistral.ai` | `/cohere/...`, `/voyage/...`, `/mistral/...` |
//! | `bedrock-runtime.REGION.amazonaws.com` | `/bedrock/...` |
//! | `tei.[...].example`, `nim.[...].example`, `ollama.[...].example` | `/tei/...`, `/nim/...`, `/ollama/...`: servers of one's own |
//! | `huggingface.co`, `cymbal.com`, any other host under `example` | `...` |
//!
//! CONNECT to any other host is answered with 502.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use rustls::ServerConfig;

use crate::connection;
use crate::endpoint::Endpoint;
use crate::hosts::Host;
use crate::shared::{lock, Shared};
use crate::stream::Stream;
use crate::tls::Authority;

/// Enough for a CONNECT and its headers.
const MAX_HEAD: usize = 16 << 10;

/// State shared by the connections.
struct World {
    endpoint: Arc<Shared>,
    authority: Authority,
    configs: Mutex<HashMap<String, Arc<ServerConfig>>>,
    hosts: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

/// A running proxy; dropping it stops it. The module's documentation lists its hosts.
pub struct Internet {
    world: Arc<World>,
    accept: Option<JoinHandle<()>>,
    address: SocketAddr,
    ca_pem: String,
}

impl Internet {
    /// Starts the proxy on a free port of 127.0.0.1. Connections that are open when it stops end with the endpoint.
    pub fn start(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind")?;
        let address = listener.local_addr().context("local address")?;
        let authority = Authority::new()?;
        let ca_pem = authority.pem();
        let world = Arc::new(World {
            endpoint: Arc::clone(&endpoint.shared),
            authority,
            configs: Mutex::default(),
            hosts: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let accept = thread::Builder::new()
            .name("internet-accept".into())
            .spawn({
                let world = Arc::clone(&world);
                move || world.accept(&listener)
            })
            .context("start the accepting thread")?;
        Ok(Self { world, accept: Some(accept), address, ca_pem })
    }

    /// The proxy's address in the form of `HTTPS_PROXY`.
    pub fn proxy_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The certificate of the authority for all hosts, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The hosts of all CONNECT requests, known or not, in order.
    pub fn hosts(&self) -> Vec<String> {
        lock(&self.world.hosts).clone()
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        self.world.stopped.store(true, Ordering::Release);
        // Only a connection wakes a blocked accept().
        drop(TcpStream::connect(self.address));
        if let Some(accept) = self.accept.take() {
            // An error means that the thread panicked, which it has reported.
            drop(accept.join());
        }
    }
}

impl World {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.stopped.load(Ordering::Acquire) || self.endpoint.stopped.load(Ordering::Acquire) {
                return;
            }
            match accepted {
                Ok((socket, _)) => {
                    let world = Arc::clone(self);
                    // An error concerns this connection only; its client sees it closed.
                    drop(connection::spawn(socket, &self.endpoint, move |socket, shared, connection| {
                        world.connect(socket, shared, connection)
                    }));
                }
                // For example no descriptors left: give a connection time to end.
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Reads a CONNECT and serves its host.
    fn connect(&self, mut socket: TcpStream, shared: &Shared, connection: u64) -> io::Result<()> {
        let head = read_head(&mut socket)?;
        let mut words = head.split_ascii_whitespace();
        let (Some("CONNECT"), Some(authority)) = (words.next(), words.next()) else {
            return socket.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\nContent-Length: 0\r\n\r\n");
        };
        let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name).to_ascii_lowercase();
        lock(&self.hosts).push(name.clone());
        let Some(host) = Host::find(&name) else {
            return socket.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
        };
        let config = self.config(&name).map_err(io::Error::other)?;
        socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        connection::serve(&mut Stream::new(socket, Some(config))?, shared, connection, Some(&host))
    }

    fn config(&self, name: &str) -> anyhow::Result<Arc<ServerConfig>> {
        let mut configs = lock(&self.configs);
        if let Some(config) = configs.get(name) {
            return Ok(Arc::clone(config));
        }
        let config = self.authority.config_for(name)?;
        configs.insert(name.to_owned(), Arc::clone(&config));
        Ok(config)
    }
}

/// Reads up to the empty line and no further: the rest belongs to TLS.
fn read_head(socket: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "request head too long"));
        }
        socket.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use serde_json::{json, Value};
    use ureq::tls::{Certificate, RootCerts, TlsConfig};
    use ureq::{Agent, Proxy};

    use super::*;

    fn agent(internet: &Internet, trusting: bool) -> Agent {
        let mut tls = TlsConfig::builder();
        if trusting {
            let ca = Certificate::from_pem(internet.ca_pem().as_bytes()).unwrap();
            tls = tls.root_certs(RootCerts::new_with_certs(&[ca]));
        }
        Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .proxy(Some(Proxy::new(&internet.proxy_url()).unwrap()))
            .tls_config(tls.build())
            .build()
            .into()
    }

    fn post(agent: &Agent, url: &str, body: &Value) -> Result<(u16, Value), ureq::Error> {
        let request = agent.post(url).header("Authorization", "Bearer k").content_type("application/json");
        let mut response = request.send(body.to_string())?;
        Ok((response.status().as_u16(), serde_json::from_str(&response.body_mut().read_to_string()?).unwrap()))
    }

    #[test]
    fn hosts_have_their_places() {
        let place = |host: &str, path: &str| Host::find(host).map(|found| found.local_path(path).into_owned());
        for (host, path, wanted) in [
            ("api.openai.com", "/v1/embeddings", "/openai/v1/embeddings"),
            ("shop.openai.azure.com", "/openai/deployments/d/embeddings", "/azure/openai/deployments/d/embeddings"),
            ("europe-west1-aiplatform.googleapis.com", "/v1/x", "/vertex/v1/x"),
            ("aiplatform.eu.rep.googleapis.com", "/v1/x", "/vertex/v1/x"),
            ("oauth2.googleapis.com", "/token", "/google-oauth/token"),
            ("secretmanager.europe-west1.rep.googleapis.com", "/v1/x", "/secretmanager/v1/x"),
            ("ai.api.nvidia.com", "/v1/retrieval/nvidia/llama-3_2/reranking", "/nim/v1/ranking"),
            ("ai.api.nvidia.com", "/v1/x", "/nim/v1/x"),
            ("bedrock-runtime.eu-west-1.amazonaws.com", "/model/a/invoke", "/bedrock/model/a/invoke"),
            ("tei.example", "/embed", "/tei/embed"),
            ("nim.shop.example", "/v1/embeddings", "/nim/v1/embeddings"),
            ("cymbal.example", "/models", "/models"),
            ("cymbal.com", "/models", "/models"),
        ] {
            assert_eq!(place(host, path).as_deref(), Some(wanted), "{host}");
        }
        for host in ["example.com", "openai.com", "a.b.openai.azure.com", "-aiplatform.googleapis.com", "example", ""] {
            assert_eq!(Host::find(host), None, "{host}");
        }
    }

    #[test]
    fn requests_reach_the_host_that_they_name() {
        let endpoint = Endpoint::start().unwrap();
        let internet = Internet::start(&endpoint).unwrap();
        let agent = agent(&internet, true);
        let body = json!({"model": "test-4", "input": "a"});
        for _ in 0..2 {
            let (status, answer) = post(&agent, "https://api.openai.com/v1/embeddings?a=b", &body).unwrap();
            assert_eq!((status, answer["data"][0]["embedding"].as_array().unwrap().len()), (200, 4), "{answer}");
        }
        let (status, answer) = post(&agent, "https://cymbal.example/echo", &json!(1)).unwrap();
        assert_eq!((status, &answer["path"]), (200, &json!("/echo")));
        let requests = endpoint.requests();
        assert_eq!(requests[0].path, "/openai/v1/embeddings");
        assert_eq!(requests[0].query, "a=b");
        assert_eq!(requests[0].header("host"), Some("api.openai.com"));
        assert_eq!(requests[0].connection, requests[1].connection, "the connection is kept");
        assert_eq!(endpoint.count_for("/echo"), 1);
        assert_eq!(internet.hosts(), ["api.openai.com", "cymbal.example"]);
    }

    #[test]
    fn other_hosts_are_not_there() {
        let endpoint = Endpoint::start().unwrap();
        let internet = Internet::start(&endpoint).unwrap();
        assert!(post(&agent(&internet, true), "https://example.com/", &json!(1)).is_err());
        assert!(post(&agent(&internet, false), "https://api.openai.com/v1/embeddings", &json!(1)).is_err());
        assert_eq!(endpoint.count(), 0, "a host that is not known, a client that does not trust");
    }

    #[test]
    fn requests_other_than_connect_are_refused() {
        let endpoint = Endpoint::start().unwrap();
        let internet = Internet::start(&endpoint).unwrap();
        let mut socket = TcpStream::connect(internet.address).unwrap();
        socket.write_all(b"GET http://api.openai.com/ HTTP/1.1\r\nHost: api.openai.com\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }
}
