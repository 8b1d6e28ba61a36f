use super::*;
use mysql_ml_base::interrupt::Never;

const MIB: u64 = 1 << 20;

fn key(text: &str) -> Key {
    Key::new(&[7; 32], 0, text)
}

fn vector(n: usize) -> Arc<[u8]> {
    (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

struct Open {
    cache: DiskCache,
    directory: tempfile::TempDir,
    reading: u64,
}

impl Open {
    fn new(bytes: u64) -> Self {
        let mut open = Open { cache: DiskCache::default(), directory: tempfile::tempdir().unwrap(), reading: 0 };
        open.size(bytes);
        open
    }

    fn size(&mut self, bytes: u64) {
        self.reading += 1;
        let directory = self.directory.path().to_owned();
        assert!(self.cache.follow(self.reading, bytes, || Ok(directory)));
        self.until("settled", |cache| cache.settled());
    }

    fn until(&self, what: &str, f: impl Fn(&DiskCache) -> bool) {
        let end = soon();
        while !f(&self.cache) {
            assert!(Instant::now() < end, "never: {what}: {}", self.cache.status());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn put(&self, text: &str, model: &str) {
        self.cache.put(key(text), &model.into(), &vector(8));
    }

    fn written(&self) {
        self.until("written", |cache| cache.status()["queued"] == 0);
        // Queued entries are written once the next lookup is answered.
        assert_eq!(self.get("nothing"), None);
    }

    fn get(&self, text: &str) -> Option<Arc<[u8]>> {
        self.cache.get(&key(text), &Never, soon()).unwrap()
    }

    fn path(&self) -> PathBuf {
        file::folder(self.directory.path()).join(file::FILE)
    }
}

#[test]
fn off_nothing_is_there() {
    let open = Open::new(0);
    open.put("a", "m");
    assert_eq!(open.get("a"), None);
    assert_eq!(open.cache.status()["state"], "off");
    assert_eq!(std::fs::read_dir(open.directory.path()).unwrap().count(), 0);
    assert!(!open.cache.shared.lock().running, "no thread");
}

#[test]
fn on_off_and_on_again() {
    let mut open = Open::new(MIB);
    open.put("a", "m");
    assert_eq!(open.get("a"), Some(vector(8)), "also before it is written");
    open.written();
    assert_eq!(open.get("a"), Some(vector(8)));
    open.size(2 * MIB);
    assert_eq!(open.get("a"), Some(vector(8)), "another size keeps what is there");
    open.size(0);
    assert_eq!(std::fs::read_dir(open.directory.path()).unwrap().count(), 0);
    assert_eq!(open.get("a"), None);
    open.size(MIB);
    assert_eq!(open.get("a"), None);
    // Older settings, which some session still has, change nothing.
    assert!(open.cache.follow(1, 0, || Err(Error::internal("not asked"))));
    open.put("b", "m");
    assert_eq!(open.get("b"), Some(vector(8)));
}

#[test]
fn a_smaller_size_makes_a_smaller_file() {
    let mut open = Open::new(4 * MIB);
    for i in 0..600 {
        open.cache.put(key(&i.to_string()), &"m".into(), &vector(1024));
        if i % 100 == 0 {
            open.written();
        }
    }
    open.written();
    assert!(std::fs::metadata(open.path()).unwrap().len() > MIB);
    open.size(MIB);
    let beside = std::fs::metadata(open.path().with_extension("sqlite-wal")).map_or(0, |m| m.len());
    let total = std::fs::metadata(open.path()).unwrap().len() + beside;
    assert!(total <= MIB, "{total}");
    assert!(open.get("599").is_some() && open.get("0").is_none());
}

#[test]
fn clearing_counts_each_embedding_once() {
    let open = Open::new(MIB);
    for (text, model) in [("a", "m"), ("b", "m"), ("c", "n")] {
        open.put(text, model);
    }
    open.written();
    open.put("d", "m");
    // Memory has "a", which is on disk too, and "e", which is not.
    let cleared = open.cache.clear(Some("m"), vec![key("a"), key("e")], &Never).unwrap();
    assert!((4..=5).contains(&cleared), "{cleared}");
    assert_eq!(cleared, 4);
    for text in ["a", "b", "d"] {
        assert_eq!(open.get(text), None, "{text}");
    }
    assert_eq!(open.get("c"), Some(vector(8)));
    assert_eq!(open.cache.clear(None, Vec::new(), &Never).unwrap(), 1);
    assert_eq!(open.get("c"), None);
    open.put("c", "n");
    open.written();
    assert_eq!(open.get("c"), Some(vector(8)), "it goes on");
}

#[test]
fn a_deleted_and_a_damaged_file_begin_anew_and_are_reported_once() {
    let open = Open::new(MIB);
    open.put("a", "m");
    open.written();
    std::fs::remove_dir_all(file::folder(open.directory.path())).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(open.get("a"), None);
    open.put("b", "m");
    open.written();
    assert_eq!(open.get("b"), Some(vector(8)));
    let notices = open.cache.take_notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].text.contains("deleted"), "{notices:?}");
    assert!(!open.cache.has_notices());
    assert_eq!(open.cache.status()["rebuilt"], 1);
}

#[test]
fn a_cache_that_cannot_be_opened_is_off_and_reported_once() {
    let mut open = Open::new(0);
    std::fs::create_dir_all(open.path()).unwrap();
    open.reading += 1;
    let directory = open.directory.path().to_owned();
    assert!(open.cache.follow(open.reading, MIB, || Ok(directory)));
    open.until("failed", |cache| cache.status()["state"] == "failed");
    let began = Instant::now();
    for _ in 0..100 {
        open.put("a", "m");
        assert_eq!(open.get("a"), None);
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    let notices = open.cache.take_notices();
    assert!(notices.len() == 1 && notices[0].text.contains("not a file"), "{notices:?}");
    std::fs::remove_dir(open.path()).unwrap();
    open.size(2 * MIB);
    open.until("on", |cache| cache.status()["state"] == "on");
    open.put("a", "m");
    open.written();
    assert_eq!(open.get("a"), Some(vector(8)));
}

#[test]
fn many_threads_at_once() {
    let open = Open::new(MIB);
    std::thread::scope(|scope| {
        for t in 0..8 {
            let open = &open;
            scope.spawn(move || {
                for i in 0..500 {
                    let text = format!("{}", (i * 7 + t) % 900);
                    match open.get(&text) {
                        Some(found) => assert_eq!(found, vector(8)),
                        None => open.put(&text, "m"),
                    }
                }
            });
        }
    });
    open.written();
    assert!(open.cache.status()["bytes"].as_u64().unwrap() <= MIB);
    assert!(open.cache.take_notices().is_empty());
}

#[test]
fn a_disk_that_hangs_holds_up_one_lookup_and_no_more() {
    let cache = DiskCache::default();
    // Without an answer from the keeper.
    cache.shared.usable.store(true, Ordering::Release);
    let began = Instant::now();
    assert_eq!(cache.get(&key("a"), &Never, soon()).unwrap(), None);
    assert!(began.elapsed() >= LOOKUP && began.elapsed() < LOOKUP * 3);
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(cache.get(&key("a"), &Never, soon()).unwrap(), None);
    }
    assert!(began.elapsed() < LOOKUP);
    assert_eq!(cache.status()["timeouts"], 1);
    // The queue has a bound.
    for i in 0..MAX_PUTS + 5 {
        cache.put(key(&i.to_string()), &"m".into(), &vector(8));
    }
    assert_eq!(cache.status()["dropped"], 5);
    assert_eq!(cache.get(&key("0"), &Never, soon()).unwrap(), Some(vector(8)), "what waits is found all the same");
}

#[test]
fn a_lookup_hears_kill() {
    struct Killed;
    impl Interrupt for Killed {
        fn check(&self) -> Result<()> {
            Err(Error::interrupted(1317))
        }
    }
    let cache = DiskCache::default();
    cache.shared.usable.store(true, Ordering::Release);
    let error = cache.get(&key("a"), &Killed, soon()).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted(1317));
}
