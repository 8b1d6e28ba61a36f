//! A job on a table: reads rows that lack a value, runs their texts through a pipeline, and writes the results.
//!
//! Reading, requests and writing overlap: one session reads rows in key order, others write values, all with the
//! caller's rights. Each group of rows is a transaction of its own and checks the texts again. So a KILL at any
//! moment is safe, and the next run continues.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::mpsc::{sync_channel, Receiver, SyncSender, TryRecvError};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use surface::Function;

use super::at_work::Held;
use super::rights::refuse_temporary_table;
use super::same_texts::{SameTexts, Seen};
use super::Jobs;
use crate::mysql::caller::{current_account, in_transaction};
use crate::mysql::meaning::Meaning;
use crate::mysql::session::Session;
use crate::mysql::sql::{
    check_account_may_execute, job_turn, start_session, with_session, As, SessionJob, SessionKind, SQL_TIMEOUT,
};
use crate::mysql::statement::ProgressState;
use crate::tables::configs::{is_source, Place, Source};
use crate::tables::layout::{Layout, Takes, Writes};
use crate::tables::progress::{self, FailedRow, Notes, Progress};
use crate::tables::rows::{self, Page, Vector, Written};
use crate::tables::statements::{self, Found, Key};
use mysql_ml_base::error::{cut, Error, Kind, Result};
use mysql_ml_base::interrupt::{Interrupt, POLL};
use mysql_ml_base::memory::{self, Reservation};
use mysql_ml_base::shares::Turn;
use mysql_ml_core::catalog::members::{self, Members};
use mysql_ml_core::engine::pipeline::work::Work;
use mysql_ml_core::engine::pipeline::{Done, Pipeline};
use mysql_ml_core::engine::Call;

/// Target size of a page of rows, bytes of text.
const PAGE_BYTES: usize = 4 << 20;

/// Rows of the first page, and of the largest.
const FIRST_PAGE: usize = 256;
const LARGEST_PAGE: usize = 4096;

/// A group of rows is written at this many bytes, or when the job is idle; and the bytes of a row besides its value: key,
/// digest and its part of the statement.
const GROUP_BYTES: usize = 1 << 20;
const BESIDE_A_VALUE: usize = 256;

/// The most passes over a table, repeated for rows that changed meanwhile.
const PASSES: u32 = 3;

/// With this many failed rows no further pass starts.
const MAX_FAILED_KEYS: usize = 100_000;

/// From this many rows on, a running job is judged by its failures.
const FIRST_ROWS: u64 = 100;

/// Interval of progress reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a job waits for memory for its next rows, and its pause between checks.
const MEMORY_WAIT: Duration = Duration::from_secs(120);
const MEMORY_PAUSE: Duration = Duration::from_millis(100);

/// The parsed argument `options`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Options {
    pub batch_size: Option<u64>,
    pub concurrency: Option<u64>,
    pub max_rows: Option<u64>,
    pub stop_on_error: bool,
    pub filter: Option<String>,
    pub hash_column: Option<String>,
    /// The largest part of failed rows, 0 to 1, beyond which the job ends; of the first rows some may fail.
    pub max_error_ratio: Option<f64>,
    /// Keys (JSON) of rows to skip; set by automatic embeddings only.
    resting: HashSet<String>,
    /// Whether the job fails at once when too many jobs run; set by the event only, which runs again.
    impatient: bool,
    /// The caller's session variables that affect expressions; not an option of users.
    pub meaning: Meaning,
}

/// The result of a job.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub embedded: u64,
    pub failed: u64,
    pub skipped: u64,
    pub seconds: f64,
    /// Notes for the caller.
    pub notes: Vec<String>,
}

impl Summary {
    /// As a JSON object.
    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "embedded": self.embedded, "failed": self.failed, "skipped": self.skipped,
            "seconds": (self.seconds * 1000.0).round() / 1000.0,
        });
        if let (false, Some(object)) = (self.notes.is_empty(), object.as_object_mut()) {
            object.insert("note".into(), self.notes.join("; ").into());
        }
        object
    }
}

impl Options {
    /// Options of automatic embeddings. `resting`: keys (JSON) of rows to skip. `impatient`: fail at once when too many
    /// jobs run.
    pub fn of(batch_size: Option<u64>, resting: HashSet<String>, impatient: bool, meaning: Meaning) -> Self {
        Options { batch_size, resting, impatient, meaning, ..Self::default() }
    }

    /// Takes the options of all jobs out of the members of an object.
    pub fn take(members: &mut Members) -> Result<Self> {
        let stop_on_error = match members::text(members, "on_error")?.as_deref() {
            None | Some("record") => false,
            Some("stop") => true,
            Some(_) => return Err(Error::invalid("option on_error takes 'record' or 'stop'")),
        };
        Ok(Options {
            concurrency: members::concurrency(members)?,
            max_rows: members::number(members, "max_rows", 1, u64::MAX)?,
            stop_on_error,
            filter: members::text(members, "where")?,
            hash_column: members::text(members, "hash_column")?,
            max_error_ratio: members::max_error_ratio(members)?,
            ..Self::default()
        })
    }
}

/// A session on a worker that answers questions in order.
struct SessionWorker<Q, A> {
    questions: Option<SyncSender<Q>>,
    answers: Receiver<A>,
    job: SessionJob<()>,
    asked: usize,
}

impl<Q: Send + 'static, A: Send + 'static> SessionWorker<Q, A> {
    /// Opens the session with the rights of `account`.
    fn open(
        account: &As,
        mut begin: impl FnMut(&mut Session) -> Result<()> + Send + 'static,
        mut answer: impl FnMut(&mut Session, Q) -> A + Send + 'static,
    ) -> Result<Self> {
        let (questions, inbox) = sync_channel::<Q>(8);
        let (outbox, answers) = sync_channel::<A>(8);
        let job = start_session(account, SessionKind::Job, move |s| {
            begin(s)?;
            while let Ok(question) = inbox.recv() {
                if outbox.send(answer(s, question)).is_err() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(SessionWorker { questions: Some(questions), answers, job, asked: 0 })
    }

    fn ask(&mut self, question: Q, interrupt: &dyn Interrupt) -> Result<()> {
        let sent = self.questions.as_ref().is_some_and(|q| q.send(question).is_ok());
        if !sent {
            return Err(self.fault(interrupt));
        }
        self.asked += 1;
        Ok(())
    }

    fn answer(&mut self, interrupt: &dyn Interrupt) -> Result<Option<A>> {
        match self.answers.try_recv() {
            Ok(answer) => {
                self.asked = self.asked.saturating_sub(1);
                Ok(Some(answer))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.fault(interrupt)),
        }
    }

    /// Why the session ended.
    fn fault(&mut self, interrupt: &dyn Interrupt) -> Error {
        self.questions = None;
        match self.job.wait(interrupt, Instant::now() + Duration::from_secs(5)) {
            Err(e) => e,
            Ok(()) => Error::internal("a session of the job ended early"),
        }
    }

    /// Ends the session after its last question.
    fn close(mut self, interrupt: &dyn Interrupt) -> Result<()> {
        self.questions = None;
        self.job.wait(interrupt, Instant::now() + SQL_TIMEOUT)
    }
}

/// A page request: at most `limit` rows after a key.
struct PageRequest {
    after: Option<Key>,
    limit: usize,
}

/// Rows locked by another session, with their vectors and the time of the first try.
struct Locked {
    vector: Vector,
    since: Instant,
}

/// Makes the bytes to write of a result.
type ToBytes<W> = fn(&Layout, <W as Work>::Output) -> Result<Arc<[u8]>>;

/// What a job does with the texts of rows.
pub(super) struct TableWork<W: Work> {
    /// The function whose routine the caller needs EXECUTE on.
    pub function: &'static Function,
    /// What is written.
    pub writes: Writes,
    /// The call of the model.
    pub call: Call,
    /// The work of its pipeline.
    pub work: W,
    /// The input of a text.
    pub input: Box<dyn Fn(Arc<str>) -> W::Input>,
    /// The bytes to write for a result. An error of kind [`Kind::Invalid`] ends the job, any other is the row's.
    pub bytes: ToBytes<W>,
    /// Whether equal texts get equal results, so that each is sent once.
    pub repeats: bool,
}

/// The state of one job.
struct Job<'e, W: Work> {
    layout: Arc<Layout>,
    notes: Notes,
    account: As,
    /// Notes for the caller.
    remarks: Vec<String>,
    /// Rows whose text has no vector; they may still have a vector of an older text.
    refused: Vec<Found>,
    model_id: String,
    options: Options,
    pipeline: Pipeline<'e, W>,
    function: &'static Function,
    input: Box<dyn Fn(Arc<str>) -> W::Input>,
    bytes: ToBytes<W>,
    /// The texts that were sent; `None` where equal texts may get different results.
    same_texts: Option<SameTexts>,
    reader: SessionWorker<PageRequest, Result<Page>>,
    writers: Writers,
    /// Rows in the pipeline, by number.
    rows: HashMap<u64, Found>,
    next: u64,
    taken: u64,
    read_rows: VecDeque<Found>,
    page: usize,
    after: Option<Key>,
    exhausted: bool,
    group: Vec<Vector>,
    group_bytes: usize,
    /// Rows that wait for locks of others, and the time of the next try.
    locked: VecDeque<Locked>,
    locked_until: Instant,
    lock_pause: Duration,
    /// Time of the first locked try of rows tried again.
    lock_since: HashMap<Key, Instant>,
    /// Time since which the whole table is locked.
    table_locked: Option<Instant>,
    /// Keys of rows that failed in an earlier job, and those read again: they come last, each alone.
    known_bad: HashSet<String>,
    suspects: VecDeque<Found>,
    /// Time since which memory for the next page is missing, and the time of the next try.
    short_since: Option<Instant>,
    not_before: Option<Instant>,
    changed_in_pass: u64,
    failed_keys: HashSet<Key>,
    failed_share: Reservation,
    failures: Vec<FailedRow>,
    old_failures: u64,
    progress: Progress,
    reported_at: Instant,
    state: ProgressState,
    _turn: Turn<'static>,
}

impl Jobs {
    /// Runs a job on a table with the rights of `account`. The caller needs EXECUTE too, which it has shown.
    pub(super) fn run_job<W: Work>(
        &self,
        account: As,
        work: TableWork<W>,
        arguments: [&str; 4],
        options: Options,
        interrupt: &dyn Interrupt,
    ) -> Result<Summary> {
        let [model_id, table, content, embedding] = arguments;
        let TableWork { function, writes, call, work, input, bytes, repeats } = work;
        let caller = current_account()?;
        let owner = match &account {
            As::Owner(owner) => owner.to_string(),
            _ => caller.to_string(),
        };
        if owner != caller.to_string() {
            check_account_may_execute(&account, function, interrupt)?;
        }
        refuse_temporary_table(table)?;
        let started = Instant::now();
        let mut remarks = Vec::new();
        if in_transaction() {
            remarks.push(
                "your session is in a transaction: its uncommitted changes are not embedded, and it may see the vectors only after it ends".to_owned(),
            );
        }
        let layout = {
            let (table, content, embedding) = (table.to_owned(), content.to_owned(), embedding.to_owned());
            let (hash, filter, meaning) =
                (options.hash_column.clone(), options.filter.clone(), options.meaning.clone());
            let until = Instant::now() + SQL_TIMEOUT;
            let found = with_session(&account, SessionKind::CallerStatement, interrupt, until, move |s| {
                let filter = filter.as_deref();
                let mut layout =
                    Layout::look_up(s, &table, &content, &embedding, hash.as_deref(), filter, &meaning, writes)?;
                let remark = layout.must_be_writable(s)?;
                rows::prepare(s, &layout, filter)?;
                Ok((layout, remark))
            });
            let (found, remark) =
                found.map_err(|e| rows::in_context(e, &format!("model '{model_id}', nothing was sent")))?;
            remarks.extend(remark);
            Arc::new(found)
        };
        if let Some(wanted) = call.model().options.dimensions {
            must_fit(&layout, usize::try_from(wanted).unwrap_or(usize::MAX))?;
        }
        let share = self.engine.share(call.model())?;
        let pipeline = Pipeline::new(
            self.engine,
            call,
            work,
            options.concurrency,
            options.batch_size,
            // As long as the provider asks: waiting loses no work, and KILL ends it.
            None,
        )?;
        let Layout { schema, table, embedding, .. } = layout.as_ref();
        let place = Place { schema: schema.clone(), table: table.clone(), embedding: embedding.clone() };
        let column = |name: &str| Place { embedding: name.to_owned(), ..place.clone() };
        let columns: Vec<Place> = layout.outputs().into_iter().map(column).collect();
        let held = self.at_work.hold(&columns, &owner, interrupt)?;
        let turn = job_turn(share, !options.impatient, interrupt)?;
        let notes = Notes { place, account: owner };
        let old_failures = progress::clear_failures(&notes, Vec::new(), interrupt)?;
        let known_bad = match old_failures {
            0 => HashSet::new(),
            _ => progress::failed_keys(&notes, interrupt)?.into_iter().collect(),
        };
        let mut job = Job {
            reader: reader(&account, &layout, options.filter.clone())?,
            writers: Writers::open(&account, &layout, &held)?,
            layout,
            notes,
            account,
            remarks,
            refused: Vec::new(),
            model_id: model_id.to_owned(),
            options,
            pipeline,
            function,
            input,
            bytes,
            same_texts: repeats.then(SameTexts::default),
            rows: HashMap::new(),
            next: 0,
            taken: 0,
            read_rows: VecDeque::new(),
            page: FIRST_PAGE,
            after: None,
            exhausted: false,
            group: Vec::new(),
            group_bytes: 0,
            locked: VecDeque::new(),
            locked_until: Instant::now(),
            lock_pause: FIRST_LOCK_PAUSE,
            lock_since: HashMap::new(),
            table_locked: None,
            known_bad,
            suspects: VecDeque::new(),
            short_since: None,
            not_before: None,
            changed_in_pass: 0,
            failed_keys: HashSet::new(),
            failed_share: Reservation::default(),
            failures: Vec::new(),
            old_failures,
            progress: Progress { status: "running", ..Progress::default() },
            reported_at: Instant::now(),
            state: ProgressState::begin(),
            _turn: turn,
        };
        progress::write_progress(&job.notes, model_id, &job.progress, true, interrupt)?;
        let result = job.run(interrupt);
        job.end(result, started, &held, interrupt)
    }

    /// Marks jobs as ended that are recorded as running and are not. Their server was killed, or other sessions'
    /// locks prevented the record of their end. On a replica they may be jobs of the source and stay.
    pub(super) fn end_notes_of_gone_jobs(&self, interrupt: &dyn Interrupt) -> Result<()> {
        let mut gone = progress::running(interrupt)?;
        // Read after the notes: a job that began meanwhile has also updated its note.
        let held = self.at_work.all();
        gone.retain(|job| !held.contains(&(job.notes.place.clone(), job.notes.account.clone())));
        if gone.is_empty() || is_source(interrupt)? != Source::Yes {
            return Ok(());
        }
        progress::end_gone(gone, interrupt)
    }
}

pub(super) fn must_fit(layout: &Layout, dimensions: usize) -> Result<()> {
    let Takes::Vectors(width) = layout.takes else { return Ok(()) };
    if dimensions <= width {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the model's vectors have {dimensions} dimensions, but column {} takes at most {width}; widen it with ALTER TABLE, or set the model's option dimensions",
        layout.embedding
    )))
}

fn reader(
    account: &As,
    layout: &Arc<Layout>,
    filter: Option<String>,
) -> Result<SessionWorker<PageRequest, Result<Page>>> {
    let (layout, meaning) = (Arc::clone(layout), layout.meaning.clone().for_reading());
    SessionWorker::open(
        account,
        move |s| meaning.set_in(s),
        move |s, page: PageRequest| rows::read_page(s, &layout, filter.as_deref(), page.after.as_ref(), page.limit),
    )
}

/// The writing sessions. The second works only when the first does not keep up.
struct Writers(Vec<SessionWorker<Vec<Vector>, Result<Written>>>);

/// Number of writing sessions: the server uses one processor for each.
const WRITERS: usize = 2;

/// Groups queued for a session besides the one it writes.
const GROUPS_AHEAD: usize = 1;

/// How long a session waits for a lock of another, and the pauses before locked rows are tried again.
const LOCK_WAIT: &str = "SET SESSION innodb_lock_wait_timeout = 1";
const FIRST_LOCK_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_LOCK_PAUSE: Duration = Duration::from_secs(15);

/// How long a job waits for locks of others.
const LOCKS_OUTWAITED: Duration = Duration::from_secs(300);

/// Locked rows tried at once, and the number of locked rows at which the job stops sending.
const LOCKED_GROUP: usize = 64;
const MOST_LOCKED: usize = 4096;

impl Writers {
    fn open(account: &As, layout: &Arc<Layout>, held: &Arc<Held>) -> Result<Self> {
        Ok(Writers((0..WRITERS).map(|_| writer(account, layout, held)).collect::<Result<_>>()?))
    }

    /// Number of groups being written or queued.
    fn asked(&self) -> usize {
        self.0.iter().map(|line| line.asked).sum()
    }

    fn are_full(&self) -> bool {
        self.0.iter().all(|line| line.asked > GROUPS_AHEAD)
    }

    fn ask(&mut self, group: Vec<Vector>, interrupt: &dyn Interrupt) -> Result<()> {
        match self.0.iter_mut().min_by_key(|line| line.asked) {
            Some(line) => line.ask(group, interrupt),
            None => Err(Error::internal("there is no session that writes")),
        }
    }

    fn answer(&mut self, interrupt: &dyn Interrupt) -> Result<Option<Written>> {
        for line in &mut self.0 {
            if let Some(answer) = line.answer(interrupt)? {
                return answer.map(Some);
            }
        }
        Ok(None)
    }

    fn close(self, interrupt: &dyn Interrupt) -> Result<()> {
        self.0.into_iter().try_for_each(|line| line.close(interrupt))
    }
}

/// A writing session. The column stays reserved until it ends, even if the job ends first.
fn writer(account: &As, layout: &Arc<Layout>, held: &Arc<Held>) -> Result<SessionWorker<Vec<Vector>, Result<Written>>> {
    let (layout, held, meaning) = (Arc::clone(layout), Arc::clone(held), layout.meaning.clone());
    // A value that does not fit its column is an error of its row, and never cut.
    let meaning = match layout.takes {
        Takes::Vectors(_) => meaning,
        Takes::Values => meaning.for_reading(),
    };
    SessionWorker::open(
        account,
        move |s| {
            s.query(LOCK_WAIT, &[])?;
            meaning.set_in(s)
        },
        move |s, group: Vec<Vector>| {
            let _held = &held;
            rows::write_group(s, &layout, group)
        },
    )
}

impl<W: Work> Job<'_, W> {
    fn run(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        // Nothing is sent before a writing session exists: it then returns an empty group.
        self.writers.ask(Vec::new(), interrupt)?;
        while self.writers.answer(interrupt)?.is_none() {
            interrupt.check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.forget_lost_texts(interrupt)?;
        for pass in 1.. {
            self.one_pass(interrupt)?;
            let again = self.changed_in_pass > 0
                && pass < PASSES
                && self.failed_keys.len() < MAX_FAILED_KEYS
                && self.options.max_rows.is_none_or(|most| self.taken < most);
            if !again {
                break;
            }
            (self.after, self.exhausted, self.changed_in_pass) = (None, false, 0);
        }
        Ok(())
    }

    fn one_pass(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        loop {
            interrupt.check()?;
            self.read(interrupt)?;
            self.feed(interrupt)?;
            let last = self.exhausted && self.read_rows.is_empty();
            // Short while sessions have work.
            let wait = if self.reader.asked + self.writers.asked() > 0 { Duration::from_millis(1) } else { POLL };
            match self.pipeline.advance(wait, last, interrupt)? {
                Some(done) => self.done(done, interrupt)?,
                None if !self.group.is_empty() => self.write(interrupt)?,
                None => {}
            }
            self.write_locked(interrupt)?;
            if self.pipeline.is_empty() {
                // Wait for the sessions; nothing else here waits.
                std::thread::sleep(wait);
            }
            while let Some(answer) = self.writers.answer(interrupt)? {
                self.written(answer, interrupt)?;
            }
            self.report(false, interrupt)?;
            let idle = self.pipeline.is_empty()
                && self.group.is_empty()
                && self.locked.is_empty()
                && self.writers.asked() == 0;
            if last && idle && self.suspects.is_empty() && self.reader.asked == 0 {
                return Ok(());
            }
        }
    }

    /// Reads rows some batches ahead of the requests.
    fn read(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        while let Some(page) = self.reader.answer(interrupt)? {
            let page = match page {
                Err(e) if crate::mysql::error_numbers::is_locked(&e) => {
                    let since = *self.table_locked.get_or_insert_with(Instant::now);
                    if since.elapsed() > LOCKS_OUTWAITED {
                        return Err(e);
                    }
                    self.not_before = Some(Instant::now() + FIRST_LOCK_PAUSE);
                    continue;
                }
                Err(e) if e.kind() == Kind::Memory => {
                    self.wait_for_memory(e)?;
                    self.page = (self.page / 2).max(1);
                    continue;
                }
                page => page?,
            };
            self.short_since = None;
            if self.locked.is_empty() {
                self.table_locked = None;
            }
            self.exhausted = !page.more;
            if page.cut {
                self.remark("GROUP_CONCAT cut texts at group_concat_max_len, that of your session, and the rest is embedded; raise it there".to_owned());
            }
            if page.last.is_some() {
                self.after = page.last;
            }
            for (found, error) in page.bad {
                if !self.failed_keys.contains(&found.key) && !self.rests(&found) {
                    self.fail(found, &error, interrupt)?;
                }
            }
            let bytes: usize = page.rows.iter().map(|f| f.content.len()).sum();
            if !page.rows.is_empty() {
                self.page = (PAGE_BYTES / (bytes / page.rows.len()).max(1)).clamp(16, LARGEST_PAGE);
            }
            self.read_rows.extend(page.rows);
        }
        let ahead = self.pipeline.batch_size() * self.pipeline.concurrency();
        // While memory is tight, a job continues with the rows it has, which frees some.
        let at_work = !self.rows.is_empty() || !self.read_rows.is_empty() || self.writers.asked() > 0;
        if self.not_before.is_some_and(|at| Instant::now() < at) || (memory::is_tight() && at_work) {
            return Ok(());
        }
        if !self.exhausted && self.reader.asked == 0 && self.read_rows.len() < ahead {
            let page = PageRequest { after: self.after.clone(), limit: self.page };
            self.reader.ask(page, interrupt)?;
        }
        Ok(())
    }

    /// After a read without memory: reads fewer rows later; an error after [`MEMORY_WAIT`].
    fn wait_for_memory(&mut self, error: Error) -> Result<()> {
        let since = *self.short_since.get_or_insert_with(Instant::now);
        let alone = self.rows.is_empty() && self.read_rows.is_empty() && self.writers.asked() == 0;
        if alone && since.elapsed() > MEMORY_WAIT {
            return Err(error);
        }
        self.not_before = Some(Instant::now() + MEMORY_PAUSE);
        Ok(())
    }

    /// Pushes rows into the pipeline, no more than it will soon send.
    fn feed(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        let ahead = self.pipeline.batch_size() * 2;
        while self.pipeline.waiting() + self.pipeline.ready() < ahead {
            if self.options.max_rows.is_some_and(|most| self.taken >= most) {
                self.read_rows.clear();
                self.suspects.clear();
                self.exhausted = true;
                return Ok(());
            }
            let full = self.same_texts.as_ref().is_some_and(SameTexts::is_full);
            if self.locked.len() >= MOST_LOCKED || full {
                return Ok(());
            }
            let (found, alone) = match self.read_rows.pop_front() {
                Some(found) => (found, false),
                // After all other rows.
                None if self.exhausted && self.pipeline.waiting() == 0 => match self.suspects.pop_front() {
                    Some(found) => (found, true),
                    None => return Ok(()),
                },
                None => return Ok(()),
            };
            if !alone && (self.failed_keys.contains(&found.key) || self.rests(&found)) {
                continue;
            }
            if !alone
                && !self.known_bad.is_empty()
                && self.known_bad.remove(&statements::display_key(&self.layout, &found))
            {
                self.suspects.push_back(found);
                continue;
            }
            let id = self.next;
            self.next += 1;
            self.taken += 1;
            let Some(found) = self.unless_sent(found, interrupt)? else { continue };
            let input = (self.input)(Arc::clone(&found.content));
            self.rows.insert(id, found);
            if alone {
                self.pipeline.push_alone(id, input, interrupt)?;
            } else {
                self.pipeline.push(id, input, interrupt)?;
            }
        }
        Ok(())
    }

    fn rests(&self, found: &Found) -> bool {
        !self.options.resting.is_empty() && self.options.resting.contains(&statements::display_key(&self.layout, found))
    }

    /// The row, unless its text was sent before: it then gets the same result.
    fn unless_sent(&mut self, found: Found, interrupt: &dyn Interrupt) -> Result<Option<Found>> {
        let Some(texts) = &mut self.same_texts else { return Ok(Some(found)) };
        match texts.see(found) {
            Seen::New(found) => Ok(Some(found)),
            Seen::Waits => Ok(None),
            Seen::Known(found, bytes) => {
                self.take(found, bytes, Reservation::default(), interrupt)?;
                Ok(None)
            }
        }
    }

    fn done(&mut self, done: Done<W::Output>, interrupt: &dyn Interrupt) -> Result<()> {
        let Done { id, result, share } = done;
        let Some(found) = self.rows.remove(&id) else {
            return Err(Error::internal("a result came back for a row that was not sent"));
        };
        let result = match result {
            Ok(output) => match (self.bytes)(&self.layout, output) {
                // All other results would be wrong as well.
                Err(error) if error.kind() == Kind::Invalid => return Err(error),
                result => result,
            },
            Err(error) => Err(error),
        };
        let texts = self.same_texts.as_mut();
        let same = texts.map(|texts| texts.done(&found, result.as_ref().ok())).unwrap_or_default();
        match result {
            Ok(bytes) => {
                for row in same {
                    self.take(row, Arc::clone(&bytes), Reservation::default(), interrupt)?;
                }
                self.take(found, bytes, share, interrupt)
            }
            Err(error) => {
                for row in same {
                    self.fail(row, &error, interrupt)?;
                }
                self.fail(found, &error, interrupt)
            }
        }
    }

    /// Puts the value of a row into the next group.
    fn take(&mut self, found: Found, bytes: Arc<[u8]>, share: Reservation, interrupt: &dyn Interrupt) -> Result<()> {
        self.group_bytes += bytes.len() + BESIDE_A_VALUE;
        self.group.push(Vector { found, bytes, share });
        if self.group_bytes >= GROUP_BYTES {
            self.write(interrupt)?;
        }
        Ok(())
    }

    fn fail(&mut self, found: Found, error: &Error, interrupt: &dyn Interrupt) -> Result<()> {
        let key = statements::display_key(&self.layout, &found);
        if self.options.stop_on_error {
            return Err(Error::new(error.kind(), format!("row {}: {}", cut(&key, 100), error.message())));
        }
        self.progress.failed += 1;
        self.must_not_fail_too_often()?;
        self.failures.push(FailedRow { key, error: error.message().to_owned() });
        let bytes = found.key.iter().map(|value| value.len() + 64).sum();
        if self.failed_keys.len() < MAX_FAILED_KEYS && self.failed_share.spend(bytes, "the failed rows").is_ok() {
            self.failed_keys.insert(found.key.clone());
        }
        if self.layout.hash.is_some() {
            self.refused.push(found);
        }
        if self.failures.len() >= 100 {
            progress::write_failures(&self.notes, std::mem::take(&mut self.failures), interrupt)?;
            self.forget_refused(interrupt)?;
        }
        Ok(())
    }

    /// Ends the job when more rows fail than its option allows. The first rows are not judged before their number is
    /// large enough.
    fn must_not_fail_too_often(&self) -> Result<()> {
        let done = self.progress.embedded + self.progress.failed;
        if done < FIRST_ROWS {
            Ok(())
        } else {
            self.must_not_have_failed_too_often()
        }
    }

    fn must_not_have_failed_too_often(&self) -> Result<()> {
        let Some(most) = self.options.max_error_ratio else { return Ok(()) };
        let (failed, done) = (self.progress.failed, self.progress.embedded + self.progress.failed);
        if (failed as f64) <= most * (done as f64) {
            return Ok(());
        }
        Err(Error::new(
            Kind::Response,
            format!("{failed} of {done} rows failed, more than max_error_ratio allows; mysql.cloudsql_ml_embed_failures has their errors"),
        ))
    }

    /// Removes outdated vectors. On failure the next job does it.
    fn take_away(&mut self, statement: Vec<u8>, interrupt: &dyn Interrupt) -> Result<u64> {
        let until = Instant::now() + SQL_TIMEOUT;
        let done = with_session(&self.account, SessionKind::CallerStatement, interrupt, until, move |s| {
            s.run(&statement).map(|r| r.affected)
        });
        done.or_else(|e| match e.kind() {
            Kind::Interrupted(_) => Err(e),
            _ => {
                let remark = format!("vectors of texts that are gone could not be taken away: {}", e.message());
                self.remark(remark);
                Ok(0)
            }
        })
    }

    fn remark(&mut self, remark: String) {
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    /// Removes vectors of rows without a text.
    fn forget_lost_texts(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        let filter = self.options.filter.as_deref();
        let Some(statement) = statements::clear_without_text(&self.layout, filter, LARGEST_PAGE) else { return Ok(()) };
        while self.take_away(statement.clone().into_bytes(), interrupt)? >= LARGEST_PAGE as u64 {
            interrupt.check()?;
        }
        Ok(())
    }

    /// Removes vectors of an older text from rows whose new text was refused.
    fn forget_refused(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        let refused = std::mem::take(&mut self.refused);
        let rows: Vec<&Found> = refused.iter().collect();
        match statements::clear(&self.layout, &rows) {
            Some(statement) if !rows.is_empty() => self.take_away(statement, interrupt).map(|_| ()),
            _ => Ok(()),
        }
    }

    fn write(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        self.group_bytes = 0;
        let group = std::mem::take(&mut self.group);
        if self.table_locked.is_some() {
            self.wait_for_locks(group);
            return Ok(());
        }
        // Further groups wait here, bounded by the requests.
        while self.writers.are_full() {
            interrupt.check()?;
            match self.writers.answer(interrupt)? {
                Some(answer) => self.written(answer, interrupt)?,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        self.writers.ask(group, interrupt)
    }

    /// Queues rows locked by another session.
    fn wait_for_locks(&mut self, rows: Vec<Vector>) {
        let now = Instant::now();
        self.locked.extend(rows.into_iter().map(|vector| Locked { vector, since: now }));
    }

    /// Tries locked rows again, some at a time and with growing pauses.
    fn write_locked(&mut self, interrupt: &dyn Interrupt) -> Result<()> {
        let now = Instant::now();
        if self.locked.is_empty() || now < self.locked_until || self.writers.are_full() {
            return Ok(());
        }
        self.locked_until = now + self.lock_pause;
        let mut group = Vec::new();
        for _ in 0..LOCKED_GROUP {
            let Some(Locked { vector, since }) = self.locked.pop_front() else { break };
            if self.table_locked.is_none() && since.elapsed() > LOCKS_OUTWAITED {
                let minutes = LOCKS_OUTWAITED.as_secs() / 60;
                let error = Error::new(
                    Kind::Busy,
                    format!("another session has had the row locked for {minutes} minutes; run the job again later"),
                );
                self.fail(vector.found, &error, interrupt)?;
                continue;
            }
            self.lock_since.insert(vector.found.key.clone(), since);
            group.push(vector);
        }
        self.writers.ask(group, interrupt)
    }

    fn written(&mut self, written: Written, interrupt: &dyn Interrupt) -> Result<()> {
        let Written { affected, done, failed, locked, table_locked } = written;
        let now = Instant::now();
        match table_locked {
            Some(error) => {
                let since = *self.table_locked.get_or_insert(now);
                if since.elapsed() > LOCKS_OUTWAITED {
                    return Err(error);
                }
            }
            None if !done.is_empty() => self.table_locked = None,
            None => {}
        }
        if !locked.is_empty() {
            self.lock_pause = (self.lock_pause * 2).min(LONGEST_LOCK_PAUSE);
            self.locked_until = now + self.lock_pause;
            for vector in locked {
                let since = self.lock_since.remove(&vector.found.key).unwrap_or(now);
                self.locked.push_back(Locked { vector, since });
            }
        } else if !done.is_empty() {
            self.lock_pause = FIRST_LOCK_PAUSE;
            self.locked_until = self.locked_until.min(now + FIRST_LOCK_PAUSE);
        }
        for found in &done {
            self.lock_since.remove(&found.key);
        }
        self.progress.embedded += affected;
        let changed = (done.len() as u64).saturating_sub(affected);
        self.progress.skipped += changed;
        self.changed_in_pass += changed;
        if self.old_failures > 0 && !done.is_empty() {
            let keys = done.iter().map(|found| statements::display_key(&self.layout, found)).collect();
            self.old_failures = progress::clear_failures(&self.notes, keys, interrupt)?;
        }
        for (found, error) in failed {
            self.lock_since.remove(&found.key);
            self.fail(found, &error, interrupt)?;
        }
        Ok(())
    }

    fn done_word(&self) -> &'static str {
        match self.layout.takes {
            Takes::Vectors(_) => "embedded",
            Takes::Values => "answered",
        }
    }

    fn report(&mut self, now: bool, interrupt: &dyn Interrupt) -> Result<()> {
        if !now && self.reported_at.elapsed() < REPORT_INTERVAL {
            return Ok(());
        }
        self.reported_at = Instant::now();
        let p = &self.progress;
        let done = self.done_word();
        self.state.show(&format!("{}: {} rows {done}, {} failed", self.function.name, p.embedded, p.failed));
        let noted = progress::write_failures(&self.notes, self.failures.clone(), interrupt);
        if noted.is_ok() {
            self.failures.clear();
        }
        let noted = noted.and_then(|()| self.forget_refused(interrupt));
        let noted = noted
            .and_then(|()| progress::write_progress(&self.notes, &self.model_id, &self.progress, false, interrupt));
        match noted {
            // Locked, for example by FLUSH TABLES WITH READ LOCK: progress waits as the rows do.
            Err(e) if !now && crate::mysql::error_numbers::is_locked(&e) => Ok(()),
            noted => noted,
        }
    }

    fn end(mut self, result: Result<()>, started: Instant, held: &Held, interrupt: &dyn Interrupt) -> Result<Summary> {
        let result = result.and_then(|()| self.must_not_have_failed_too_often());
        let result = match result {
            Ok(()) => {
                self.progress.status = "finished";
                let o = &self.options;
                let all = o.filter.is_none() && o.max_rows.is_none() && o.resting.is_empty();
                self.report(true, interrupt).and_then(|()| match all {
                    true => progress::forget_older_failures(&self.notes, interrupt),
                    false => Ok(()),
                })
            }
            Err(e) => Err(e),
        };
        if let Err(error) = result {
            let stopped = matches!(error.kind(), Kind::Interrupted(_));
            self.progress.status = if stopped { "stopped" } else { "failed" };
            self.progress.message = Some(error.message().to_owned());
            // The statement ends with its own error; recording the end is best effort.
            let _ = progress::write_failures(&self.notes, std::mem::take(&mut self.failures), &Briefly::begin());
            let briefly = Briefly::begin();
            if progress::write_progress(&self.notes, &self.model_id, &self.progress, false, &briefly).is_ok() {
                held.end_is_noted();
            }
            let p = &self.progress;
            let done = self.done_word();
            let context =
                format!("model '{}', {} rows {done} and kept, {} failed", self.model_id, p.embedded, p.failed);
            return Err(rows::in_context(error, &context));
        }
        held.end_is_noted();
        let p = &self.progress;
        let summary = Summary {
            embedded: p.embedded,
            failed: p.failed,
            skipped: p.skipped,
            notes: std::mem::take(&mut self.remarks),
            seconds: started.elapsed().as_secs_f64(),
        };
        self.reader.close(interrupt)?;
        self.writers.close(interrupt)?;
        Ok(summary)
    }
}

/// An interrupt that allows a short time after KILL, to record the end.
struct Briefly(Instant);

impl Briefly {
    fn begin() -> Self {
        Briefly(Instant::now() + Duration::from_millis(300))
    }
}

impl Interrupt for Briefly {
    fn check(&self) -> Result<()> {
        if Instant::now() < self.0 {
            Ok(())
        } else {
            Err(Error::interrupted(1317))
        }
    }
}
