//! `ml_fetch_model`: downloads a repository of Hugging Face, or of a mirror, into the directory of models. The library
//! downloads models nowhere else.
//!
//! Files are fetched in pieces with Range requests, so an interrupted fetch resumes. Sizes are checked, and SHA-256 of
//! weights. The directory gets its name when all files are complete; until then an older one stays. A list of fetched
//! files lies beside them; a directory with other files is never replaced ([`placing`]).

mod placing;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use ureq::http::{header, HeaderName};
use url::Url;

use self::placing::{Manifest, Target};
use super::Local;
use crate::catalog::local_place::{Place, Repository};
use crate::catalog::settings::Settings;
use crate::engine::call::Call;
use crate::engine::requester::Requester;
use crate::http::{self, Answer, Client, Method};
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::{CancelToken, Interrupt};
use mysql_ml_base::panics;
use mysql_ml_local::files;

/// Bytes of one request.
const PIECE: u64 = 8 << 20;

/// Time limit of one request.
const PIECE_WITHIN: Duration = Duration::from_secs(300);

/// The largest model, bytes.
const LARGEST: u64 = 64 << 30;

/// The most files of a model.
const MAX_FILES: usize = 500;

/// The largest list of a repository's files, bytes.
const MAX_LIST: usize = 32 << 20;

/// The most redirects of one request.
const HOPS: usize = 5;

/// Folder of incomplete fetches, below the directory of models.
const UNFINISHED: &str = ".fetching";

/// Interval of progress reports in the processlist.
const TELL: Duration = Duration::from_millis(200);

/// A file of a repository, as Hugging Face lists it.
#[derive(Debug, Deserialize)]
struct HubFile {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    /// The SHA-256 in hexadecimal digits.
    oid: String,
    size: u64,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

/// Progress of a fetch.
#[derive(Default)]
struct Progress {
    done: AtomicU64,
    all: AtomicU64,
    file: Mutex<String>,
}

impl Local {
    /// Fetches a model's files on a worker of `requester`; returns a summary as a JSON object.
    pub fn fetch(&self, call: &Call, place: Place, requester: &Requester, interrupt: &dyn Interrupt) -> Result<String> {
        let model_id = &call.model().model_id;
        let share = requester.share(call.model())?;
        let Place::Repository(repository) = place else {
            return Err(Error::invalid(format!(
                "model '{model_id}' is registered with a directory, whose files are put there by hand; register hf:organisation/name to fetch them"
            )));
        };
        let cancel = CancelToken::default();
        let progress = Arc::new(Progress::default());
        let (sender, receiver) = sync_channel(1);
        let fetch = Fetch {
            repository,
            settings: Arc::clone(&call.settings),
            cancel: cancel.clone(),
            progress: Arc::clone(&progress),
            root: files::directory(),
        };
        let context = Arc::clone(&requester.context);
        let _pending = requester.workers.run(&share, &cancel, move || {
            // A receiver that is gone is not a failure.
            let _ = sender.send(panics::catch(|| fetch.run(&context.client)));
            Ok(())
        })?;
        let waited = || loop {
            match receiver.recv_timeout(TELL) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(Kind::Busy, "the server could not give the library a thread; try again"))
                }
                Err(RecvTimeoutError::Timeout) => {
                    interrupt.check()?;
                    interrupt.progress(&progress.to_text());
                }
            }
        };
        let result = waited();
        cancel.cancel();
        result.map_err(|e| e.context(&format!("model '{model_id}'")))
    }
}

impl Progress {
    fn to_text(&self) -> String {
        let mb = |n: &AtomicU64| n.load(Ordering::Relaxed) >> 20;
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        format!("fetching a model: {} of {} MB, {}", mb(&self.done), mb(&self.all), file)
    }
}

/// One fetch, on a worker.
struct Fetch {
    repository: Repository,
    settings: Arc<Settings>,
    cancel: CancelToken,
    progress: Arc<Progress>,
    root: PathBuf,
}

impl Fetch {
    fn run(&self, client: &Client) -> Result<String> {
        let began = Instant::now();
        let root = self.root.canonicalize().map_err(|e| {
            Error::new(
                Kind::NotFound,
                format!(
                    "the directory of models {} cannot be used ({e}); create it for the server's account, or set {} in mysqld's environment",
                    self.root.display(),
                    files::DIRECTORY_VARIABLE
                ),
            )
        })?;
        let name = name_of(&self.repository.directory());
        let unfinished = root.join(UNFINISHED);
        fs::create_dir_all(&unfinished).map_err(|e| unwritable(&unfinished, &e))?;
        placing::no_links(&root, Path::new(UNFINISHED))?;
        let lock = File::create(unfinished.join(format!("{name}.lock"))).map_err(|e| unwritable(&unfinished, &e))?;
        // Released when the file is closed, even by the end of the process.
        lock.try_lock()
            .map_err(|_| Error::new(Kind::Busy, "its files are being fetched by another session; wait for that"))?;
        let target = Target::new(&root, &self.repository, unfinished.join(format!("{name}.old")));
        // Refuse a directory that cannot be replaced before fetching gigabytes.
        target.recover()?;
        target.check_place()?;

        let commit: Revision =
            self.json(client, &format!("api/models/{}/revision/{}", self.repository.id, self.repository.revision()))?;
        if commit.sha.is_empty() || commit.sha.len() > 64 || !commit.sha.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(Error::response(
                "the host names no commit for the revision; check the setting huggingface_host",
            ));
        }
        let listed: Vec<HubFile> =
            self.json(client, &format!("api/models/{}/tree/{}?recursive=true", self.repository.id, commit.sha))?;
        let wanted = self.wanted(listed)?;
        let all: u64 = wanted.iter().map(HubFile::bytes).sum();
        self.progress.all.store(all, Ordering::Relaxed);

        // Pieces of another commit cannot be resumed.
        let folder = unfinished.join(format!("{name}--{}", commit.sha));
        for other in fs::read_dir(&unfinished).into_iter().flatten().flatten() {
            let is_older = other.file_name().to_str().is_some_and(|n| n.starts_with(&format!("{name}--")));
            if is_older && other.path() != folder {
                // Best effort: a leftover only takes up space.
                let _ = fs::remove_dir_all(other.path());
            }
        }
        let mut manifest = Manifest::new(&self.repository.id, &commit.sha);
        for file in &wanted {
            let digest = self.file(client, &commit.sha, file, &folder)?;
            manifest.add(&file.path, file.bytes(), digest);
        }
        // Files of an earlier fetch of this commit that are not wanted now would later look foreign.
        manifest.keep_only(&folder)?;
        manifest.write(&folder)?;
        let place = File::create(unfinished.join("place.lock")).map_err(|e| unwritable(&unfinished, &e))?;
        while place.try_lock().is_err() {
            self.stopped()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        target.put(&folder, &manifest, |path| self.digest(path))?;
        Ok(json!({
            "directory": target.directory().display().to_string(),
            "revision": commit.sha,
            "files": wanted.len(),
            "bytes": all,
            "seconds": began.elapsed().as_secs_f64(),
        })
        .to_string())
    }

    /// The needed files: configuration, tokenizer, weights as safetensors; no other formats of the same weights.
    fn wanted(&self, listed: Vec<HubFile>) -> Result<Vec<HubFile>> {
        let wanted: Vec<HubFile> = listed.into_iter().filter(|f| f.kind == "file" && is_wanted(&f.path)).collect();
        let has = |suffix: &str| wanted.iter().any(|f| f.path.ends_with(suffix));
        let lacks = |what: &str| {
            Err(Error::new(
                Kind::Unsupported,
                format!(
                    "{} has no {what}; choose a repository that has, or convert the model and put it there by hand",
                    self.repository.id
                ),
            ))
        };
        if !has(".safetensors") {
            return lacks("weights as model.safetensors");
        }
        if !has("tokenizer.json") {
            return lacks("tokenizer.json");
        }
        let all = wanted.iter().map(HubFile::bytes).fold(0, u64::saturating_add);
        if all > LARGEST || wanted.len() > MAX_FILES {
            return Err(Error::new(
                Kind::TooLarge,
                format!(
                    "{} has {} MB in {} files; that is more than is fetched",
                    self.repository.id,
                    all >> 20,
                    wanted.len()
                ),
            ));
        }
        Ok(wanted)
    }

    /// Fetches a file or its missing part; returns its SHA-256.
    fn file(&self, client: &Client, commit: &str, file: &HubFile, folder: &Path) -> Result<String> {
        *self.progress.file.lock().unwrap_or_else(PoisonError::into_inner) = file.path.clone();
        let target = folder.join(&file.path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|e| unwritable(parent, &e))?;
        }
        let size = file.bytes();
        let mut there = fs::metadata(&target).map_or(0, |m| m.len());
        if there > size {
            fs::remove_file(&target).map_err(|e| unwritable(&target, &e))?;
            there = 0;
        }
        self.progress.done.fetch_add(there, Ordering::Relaxed);
        let mut out = OpenOptions::new()
            .create(true)
            .append(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&target)
            .map_err(|e| unwritable(&target, &e))?;
        let mut url = self.url(&format!("{}/resolve/{commit}/{}", self.repository.id, file.path))?;
        while there < size {
            let last = (there + PIECE).min(size) - 1;
            let answer = self.get(client, &mut url, Some((there, last)))?;
            if answer.body.len() as u64 != last - there + 1 {
                return Err(Error::response(format!(
                    "{}: the host answered with {} bytes where {} were asked for; it must know Range requests",
                    file.path,
                    answer.body.len(),
                    last - there + 1
                )));
            }
            out.write_all(&answer.body).map_err(|e| unwritable(&target, &e))?;
            there = last + 1;
            self.progress.done.fetch_add(answer.body.len() as u64, Ordering::Relaxed);
        }
        out.sync_all().map_err(|e| unwritable(&target, &e))?;
        drop(out);
        let digest = self.digest(&target)?;
        let Some(lfs) = &file.lfs else { return Ok(digest) };
        if !digest.eq_ignore_ascii_case(&lfs.oid) {
            fs::remove_file(&target).map_err(|e| unwritable(&target, &e))?;
            return Err(Error::response(format!(
                "{} does not have the SHA-256 that the host names; the fetched part is deleted, call again",
                file.path
            )));
        }
        Ok(digest)
    }

    /// An error after cancellation.
    fn stopped(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::interrupted(1317));
        }
        Ok(())
    }

    fn digest(&self, path: &Path) -> Result<String> {
        let mut file = File::open(path).map_err(|e| unwritable(path, &e))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            self.stopped()?;
            let read = file.read(&mut buffer).map_err(|e| unwritable(path, &e))?;
            let Some(bytes @ [_, ..]) = buffer.get(..read) else { break };
            hash.update(bytes);
        }
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    fn url(&self, path: &str) -> Result<Url> {
        let host = &self.settings.huggingface_host;
        let base = if host.contains("://") { host.clone() } else { format!("https://{host}") };
        Url::parse(&format!("{}/{path}", base.trim_end_matches('/')))
            .map_err(|e| Error::invalid(format!("the setting huggingface_host is no host ({e}); correct it")))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, client: &Client, path: &str) -> Result<T> {
        let mut url = self.url(path)?;
        let answer = self.get(client, &mut url, None).map_err(|e| match e.kind() {
            Kind::Provider(401 | 403 | 404) => Error::new(
                Kind::NotFound,
                format!(
                    "{} at revision {} is not at {}, or not for everybody; check the name, or put the files there by hand",
                    self.repository.id,
                    self.repository.revision(),
                    self.settings.huggingface_host
                ),
            ),
            Kind::Connection => Error::new(
                Kind::Connection,
                format!(
                    "{}; without a way to {} put the files into {} by hand",
                    e.message(),
                    self.settings.huggingface_host,
                    self.root.join(self.repository.directory()).display()
                ),
            ),
            _ => e,
        })?;
        serde_json::from_slice(&answer.body).map_err(|e| {
            Error::response(format!(
                "{} does not answer as Hugging Face does ({}); check the setting huggingface_host",
                cut(url.host_str().unwrap_or_default(), 80),
                cut(&e.to_string(), 80)
            ))
        })
    }

    /// Requests a whole document or a range of bytes. Follows redirects under the egress rules, never from https to
    /// http; sets `url` to the final URL.
    fn get(&self, client: &Client, url: &mut Url, range: Option<(u64, u64)>) -> Result<Answer> {
        for _ in 0..HOPS {
            let mut call =
                http::Call::new(Method::Get, url.clone(), Instant::now() + PIECE_WITHIN, &self.settings.network);
            call.hints = false;
            call.redirects = true;
            call.max_response = range.map_or(MAX_LIST, |(first, last)| usize::try_from(last - first + 1).unwrap_or(0));
            if let Some((first, last)) = range {
                let plain = |name: HeaderName, value: String| (name, SecretString::from(value));
                call.headers.push(plain(header::RANGE, format!("bytes={first}-{last}")));
                call.headers.push(plain(header::ACCEPT_ENCODING, "identity".into()));
            }
            let answer = client.send(&call, self.settings.max_retries, &self.settings.network, &self.cancel)?;
            let Some(location) = &answer.location else { return Ok(answer) };
            let next = url.join(location).map_err(|_| Error::response("the host redirects to an invalid URL"))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(Error::new(
                    Kind::Denied,
                    "the host redirects from https to plain http, which is not followed",
                ));
            }
            *url = next;
        }
        Err(Error::response(format!("the host redirects more than {HOPS} times; check the setting huggingface_host")))
    }
}

impl HubFile {
    fn bytes(&self) -> u64 {
        self.lfs.as_ref().map_or(self.size, |lfs| lfs.size)
    }
}

/// Whether a file can be part of a loaded model: at the top, or in a module's directory such as `1_Pooling`.
fn is_wanted(path: &str) -> bool {
    let normal = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
        && !path.contains(['\\', '?', '#', '%']);
    let parts: Vec<&str> = path.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [module, name] if module.starts_with(|c: char| c.is_ascii_digit()) && module.contains('_') => name,
        _ => return false,
    };
    let weights = name.ends_with(".safetensors") && name.starts_with("model");
    normal && !name.starts_with('.') && (name.ends_with(".json") || weights)
}

/// Folder name of a fetch. No model's name may be a prefix of another's.
fn name_of(directory: &str) -> String {
    let digest = Sha256::digest(directory.as_bytes());
    let digest: String = digest.iter().take(12).map(|b| format!("{b:02x}")).collect();
    format!("{digest}-{}", cut(&directory.replace('/', "-"), 80))
}

fn unwritable(path: &Path, e: &std::io::Error) -> Error {
    Error::new(
        Kind::Denied,
        format!(
            "{} cannot be written ({e}); the directory of models must be writable for the server's account",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_formats_and_paths_that_lead_elsewhere_are_left_out() {
        for wanted in ["config.json", "model.safetensors", "model-00001-of-00002.safetensors", "1_Pooling/config.json"]
        {
            assert!(is_wanted(wanted), "{wanted}");
        }
        for other in [
            "pytorch_model.bin",
            "onnx/model.onnx",
            "onnx/config.json",
            "../config.json",
            "1_Pooling/../../x.json",
            "/etc/x.json",
            ".gitattributes",
            "a/b/config.json",
            "adapter.safetensors",
            "config.json?x",
        ] {
            assert!(!is_wanted(other), "{other}");
        }
    }
}
