use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use mysql_ml_base::interrupt::Never;
use mysql_ml_base::role::Role;

const OPTIONS: EmbedOptions = EmbedOptions { role: Role::Document, truncate: true, dimensions: None };

/// Computes each text for the milliseconds that it names, and checks its turn each time.
#[derive(Default)]
struct Slow {
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

impl LocalModel for Slow {
    fn kind(&self) -> &'static str {
        "slow"
    }

    fn memory_bytes(&self) -> u64 {
        0
    }

    fn dimensions(&self) -> Option<usize> {
        Some(1)
    }

    fn embed(&self, texts: &[&str], _: EmbedOptions, turn: &Turn) -> Result<Vec<Result<Vec<f32>>>> {
        let mut vectors = Vec::new();
        for text in texts {
            let steps: u64 = text.parse().unwrap();
            for _ in 0..steps {
                let now = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
                self.most_at_once.fetch_max(now, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
                self.at_once.fetch_sub(1, Ordering::Relaxed);
                turn.check()?;
            }
            vectors.push(Ok(vec![steps as f32]));
        }
        Ok(vectors)
    }
}

/// Never checks its turn until it is released.
struct Hanging(Arc<AtomicBool>);

impl LocalModel for Hanging {
    fn kind(&self) -> &'static str {
        "hanging"
    }

    fn memory_bytes(&self) -> u64 {
        0
    }

    fn dimensions(&self) -> Option<usize> {
        Some(1)
    }

    fn embed(&self, texts: &[&str], _: EmbedOptions, turn: &Turn) -> Result<Vec<Result<Vec<f32>>>> {
        while !self.0.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        turn.check()?;
        Ok(texts.iter().map(|_| Ok(vec![1.0])).collect())
    }
}

fn caller(account: &str, threads: usize) -> Caller {
    Caller { account: account.into(), threads }
}

fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

#[test]
fn long_texts_of_one_account_let_short_ones_of_others_go_first() {
    let (slow, other) = (Slow::default(), Slow::default());
    let most_at_once = Arc::clone(&slow.most_at_once);
    let (slow, other) = (Arc::new(Entry::of(Box::new(slow))), Arc::new(Entry::of(Box::new(other))));
    let batcher = Batcher::default();
    let done = Arc::new(AtomicUsize::new(0));
    let stop = CancelToken::default();
    for _ in 0..33 {
        let done = Arc::clone(&done);
        let texts = vec![Arc::from("30000")];
        batcher
            .embed(Arc::clone(&slow), texts, OPTIONS, &caller("many", 1), stop.clone(), move |_| {
                done.fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
    }
    for (entry, account) in [(&other, "one"), (&slow, "one"), (&other, "many")] {
        for _ in 0..5 {
            let began = Instant::now();
            let vector = batcher.embed_one(Arc::clone(entry), "5", OPTIONS, &caller(account, 1), within(60), &Never);
            assert_eq!(vector.unwrap(), [5.0]);
            assert!(began.elapsed() < Duration::from_secs(3), "{account}: {:?}", began.elapsed());
        }
    }
    assert_eq!(done.load(Ordering::Relaxed), 0);
    assert!(batcher.load().0 <= 1 + BEGUN, "{} threads", batcher.load().0);
    assert_eq!(most_at_once.load(Ordering::Relaxed), 1, "one thread computes at once");
    stop.cancel();
    batcher.sweep();
    let vector = batcher.embed_one(slow, "3", OPTIONS, &caller("many", 1), within(60), &Never);
    assert_eq!(vector.unwrap(), [3.0]);
}

#[test]
fn a_batch_holds_texts_of_one_account_only() {
    let entry = Arc::new(Entry::of(Box::new(Slow::default())));
    let job = |account: &str| {
        let vectors = Mutex::new(Vectors { made: vec![None], missing: 1, done: None });
        let (entry, cancel) = (Arc::clone(&entry), CancelToken::default());
        let lane = lane(&entry, &caller(account, 1));
        let request = Arc::new(Request { entry, options: OPTIONS, cancel, vectors });
        Job { lane, task: Task::Texts { request, waiting: VecDeque::from([(0, Arc::from("1"))]) } }
    };
    let mut jobs = VecDeque::from([job("one"), job("many"), job("one")]);
    let Task::Texts { request: first, .. } = &jobs[0].task else { unreachable!() };
    let (first, own) = (Arc::clone(first), jobs[0].lane.clone());
    assert_eq!(together(&mut jobs, &own, &first).len(), 2, "another account's text may cost any time");
}

#[test]
fn what_waits_of_several_accounts_ends_at_about_the_same_time() {
    let slow = Arc::new(Entry::of(Box::new(Slow::default())));
    let batcher = Batcher::default();
    let ends: Vec<Duration> = std::thread::scope(|scope| {
        let began = Instant::now();
        let calls: Vec<_> = (0..4)
            .map(|i| {
                let (batcher, slow) = (batcher.clone(), Arc::clone(&slow));
                scope.spawn(move || {
                    let caller = caller(&format!("account {i}"), 1);
                    batcher.embed_one(slow, "400", OPTIONS, &caller, within(120), &Never).unwrap();
                    began.elapsed()
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
    assert!(first.as_secs_f64() > 0.5 * last.as_secs_f64(), "{ends:?}");
}

#[test]
fn a_thread_that_hangs_stops_no_other_model_and_its_own_is_left_alone() {
    let go = Arc::new(AtomicBool::new(false));
    let hanging = Arc::new(Entry::of(Box::new(Hanging(Arc::clone(&go)))));
    let slow = Arc::new(Entry::of(Box::new(Slow::default())));
    let batcher = Batcher::default();
    let hang = |seconds: u64| {
        batcher.embed_one(Arc::clone(&hanging), "x", OPTIONS, &caller("a", 1), within(seconds), &Never).unwrap_err()
    };
    assert_eq!(hang(1).kind(), Kind::Timeout);
    let began = Instant::now();
    for _ in 0..3 {
        let vector = batcher.embed_one(Arc::clone(&slow), "5", OPTIONS, &caller("b", 1), within(60), &Never);
        assert_eq!(vector.unwrap(), [5.0]);
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    // A batch without a deadline fails, and so do later calls of the model.
    let error = hang(60);
    assert!(error.message().contains("busy with one text"), "{error}");
    assert!(hang(60).message().contains("busy with one text"));
    assert!(batcher.load().0 <= 1 + BEGUN, "{} threads", batcher.load().0);
    // The thread returns.
    go.store(true, Ordering::Relaxed);
    let end = within(30);
    while batcher.embed_one(Arc::clone(&hanging), "x", OPTIONS, &caller("a", 1), within(60), &Never).is_err() {
        assert!(Instant::now() < end, "the model is not used again");
        std::thread::sleep(Duration::from_millis(20));
    }
    let state = batcher.shared.lock();
    assert_eq!((state.away, state.paused.len()), (0, 0));
}

#[test]
fn several_calls_are_made_on_all_threads_and_the_first_error_ends_the_others() {
    let batcher = Batcher::default();
    let slow = Slow::default();
    let most = Arc::clone(&slow.most_at_once);
    let entry = Arc::new(Entry::of(Box::new(slow)));
    let caller = Caller { account: "a".into(), threads: 2 };
    let far = Instant::now() + Duration::from_secs(600);
    let call = |text: &'static str| {
        move |model: &dyn LocalModel, turn: &Turn| {
            let vectors = model.embed(&[text], OPTIONS, turn)?;
            vectors.into_iter().next().unwrap_or_else(|| Err(Error::internal("none")))
        }
    };
    let made = batcher.calls(&entry, &caller, far, &Never, ["30", "10", "40", "20"].map(call).into()).unwrap();
    assert_eq!(made, [[30.0], [10.0], [40.0], [20.0]]);
    assert_eq!(most.load(Ordering::Relaxed), 2);
    assert!(batcher.calls(&entry, &caller, far, &Never, ["1"; 0].map(call).into()).unwrap().is_empty());

    type Made = Result<Vec<f32>>;
    let long = |fails: bool| {
        move |model: &dyn LocalModel, turn: &Turn| -> Made {
            match fails {
                true => Err(Error::invalid("this one")),
                false => call("600000")(model, turn),
            }
        }
    };
    let error = batcher.calls(&entry, &caller, far, &Never, [true, false, false, false].map(long).into()).unwrap_err();
    assert_eq!(error.message(), "this one");
    let soon = Instant::now() + Duration::from_millis(20);
    let error = batcher.calls(&entry, &caller, soon, &Never, [false; 3].map(long).into()).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    // Nothing of them is left.
    let end = Instant::now() + Duration::from_secs(60);
    while batcher.load().1 > 0 {
        assert!(Instant::now() < end, "calls are left");
        std::thread::yield_now();
    }
    assert_eq!(batcher.calls(&entry, &caller, far, &Never, vec![call("1")]).unwrap(), [[1.0]]);
}
