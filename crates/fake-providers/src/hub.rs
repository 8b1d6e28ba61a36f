//! A model repository in Hugging Face's format: the commit of a revision, the list of files, and files with Range
//! requests. Large files are behind a redirect to another path.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Value};

use crate::answer::Answer;
use crate::endpoint::Endpoint;
use crate::request::Recorded;

/// The commit of every revision.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Misbehaviour of a repository; it may be changed at any time.
#[derive(Default)]
pub struct Hub {
    /// Whether the last byte of files differs from the bytes of the listed SHA-256.
    pub damaged: AtomicBool,
    /// Delay before each piece of a file, in milliseconds.
    pub delay_ms: AtomicU64,
    /// The number of the first refused piece; 0: none.
    pub pieces: AtomicU64,
    served: AtomicU64,
}

impl Hub {
    /// Serves the files of a folder as the repository `id`.
    pub fn serve(endpoint: &Endpoint, id: &str, folder: &Path) -> anyhow::Result<Arc<Hub>> {
        let hub = Arc::new(Hub::default());
        for revision in ["main", "v1"] {
            endpoint
                .on(&format!("/api/models/{id}/revision/{revision}"), |_| Answer::json(200, &json!({"sha": COMMIT})));
        }
        let mut list = Vec::new();
        add(endpoint, &hub, id, folder, "", &mut list)?;
        let list = Value::Array(list);
        endpoint.on(&format!("/api/models/{id}/tree/{COMMIT}"), move |_| Answer::json(200, &list));
        Ok(hub)
    }

    fn piece(&self, request: &Recorded, bytes: &[u8]) -> Answer {
        std::thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed)));
        let served = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        let most = self.pieces.load(Ordering::Relaxed);
        if most > 0 && served > most {
            return Answer::error(404, "gone", "gone", None);
        }
        let range = request.header("range").and_then(|r| r.strip_prefix("bytes=")?.split_once('-'));
        let range = range.and_then(|(first, last)| Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?)));
        let Some((first, last)) = range else { return Answer::new(200, "application/octet-stream", bytes) };
        let mut body = bytes.get(first..=last.min(bytes.len().saturating_sub(1))).unwrap_or_default().to_vec();
        if self.damaged.load(Ordering::Relaxed)
            && last + 1 == bytes.len()
            && let Some(last) = body.last_mut()
        {
            *last ^= 1;
        }
        Answer::new(206, "application/octet-stream", body)
            .with_header("Content-Range", &format!("bytes {first}-{last}/{}", bytes.len()))
    }
}

fn add(
    endpoint: &Endpoint,
    hub: &Arc<Hub>,
    id: &str,
    folder: &Path,
    prefix: &str,
    list: &mut Vec<Value>,
) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list.push(json!({"type": "directory", "oid": "x", "size": 0, "path": path}));
            add(endpoint, hub, id, &entry.path(), &format!("{path}/"), list)?;
            continue;
        }
        let bytes: Arc<[u8]> = fs::read(entry.path())?.into();
        let resolved = format!("/{id}/resolve/{COMMIT}/{path}");
        if path.ends_with(".safetensors") {
            let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
            let oid: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
            list.push(json!({"type": "file", "oid": "y", "size": bytes.len(), "path": path,
                "lfs": {"oid": oid, "size": bytes.len(), "pointerSize": 134}}));
            let elsewhere = format!("/cdn/{id}/{path}");
            let location = elsewhere.clone();
            endpoint.on(&resolved, move |_| Answer {
                status: 302,
                headers: vec![("Location".into(), location.clone())],
                body: Vec::new(),
            });
            let hub = Arc::clone(hub);
            endpoint.on(&elsewhere, move |request| hub.piece(request, &bytes));
        } else {
            list.push(json!({"type": "file", "oid": "z", "size": bytes.len(), "path": path}));
            let hub = Arc::clone(hub);
            endpoint.on(&resolved, move |request| hub.piece(request, &bytes));
        }
    }
    Ok(())
}
