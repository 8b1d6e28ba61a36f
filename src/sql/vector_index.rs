//! Loadable functions behind the routines for vector indexes, and the aggregates that read their lists and blocks.

use surface::{functions, Function};

use super::command::command;
use crate::jobs::search::centroids::{choose, Build};
use crate::jobs::search::{must_be_allowed, to_json, ITS_BLOCKS};
use crate::jobs::Jobs;
use crate::mysql::ffi::args::{Args, Setup};
use crate::mysql::ffi::function::{AggregateFunction, BytesFunction, SqlFunction};
use crate::mysql::statement::StatementInterrupt;
use mysql_ml_base::error::{Error, Result};
use mysql_ml_base::memory::Reservation;
use mysql_ml_base::vector::{check_bytes, from_bytes};
use mysql_ml_index::{Layout, Limits, ListChooser, Scan};

command! {
    /// `ai_create_vector_index(table_name, column_name [, options])`: creates and builds a vector index. Returns a JSON
    /// object with `rows`, `left_out`, `lists`, `seconds` and optionally `note`.
    Create = ai_create_vector_index, |v, interrupt| {
        Jobs::global().create_vector_index(v.required(0)?, v.required(1)?, v.text(2), interrupt)
    }
}
command! {
    /// `ai_rebuild_vector_index(table_name, column_name [, options])`: builds an index again while the old version serves.
    /// Returns the object of `ai_create_vector_index`.
    Rebuild = ai_rebuild_vector_index, |v, interrupt| {
        Jobs::global().rebuild_vector_index(v.required(0)?, v.required(1)?, v.text(2), interrupt)
    }
}
command! {
    /// `ai_refresh_vector_index(table_name, column_name [, options])`: moves changes into the index. Returns a JSON object
    /// with `rows`, `lists` and `note`. The index's event calls it with a fourth argument, `'event'`.
    Refresh = ai_refresh_vector_index, |v, interrupt| {
        let by_event = match v.text(3) {
            None => false,
            Some("event") => true,
            Some(_) => return Err(Error::invalid("argument caller takes 'event'; leave it out")),
        };
        Jobs::global().refresh_vector_index(v.required(0)?, v.required(1)?, v.text(2), by_event, interrupt)
    }
}
command! {
    /// `ai_drop_vector_index(table_name, column_name [, options])`: removes an index. Returns a JSON object with `dropped`.
    Drop = ai_drop_vector_index, |v, interrupt| {
        Jobs::global().drop_vector_index(v.required(0)?, v.required(1)?, v.text(2), interrupt)
    }
}
command! {
    /// `ai_check_vector_index(table_name, column_name [, options])`: compares an index with its table and measures its
    /// recall. Returns a JSON object with `rows`, `missing`, `dead`, `queries`, `recall` and `seconds`.
    Check = ai_check_vector_index, |v, interrupt| {
        Jobs::global().check_vector_index(v.required(0)?, v.required(1)?, v.text(2), interrupt)
    }
}
command! {
    /// `ml_create_vector_index(index_name, table_name, column_name [, options])`: `ai_create_vector_index` as Cloud SQL
    /// writes it, with options like `distance_measure=cosine, num_partitions=100`. Returns the same object.
    CreateNamed = ml_create_vector_index, |v, interrupt| {
        Jobs::global().create_named_vector_index(v.required(0)?, v.required(1)?, v.required(2)?, v.text(3), interrupt)
    }
}
command! {
    /// `ml_alter_vector_index(index_name [, options])`: builds a named index again, with other options. Returns the object
    /// of `ai_create_vector_index`.
    AlterNamed = ml_alter_vector_index, |v, interrupt| {
        Jobs::global().alter_named_vector_index(v.required(0)?, v.text(1), interrupt)
    }
}
command! {
    /// `ml_drop_vector_index(index_name)`: removes a named index. Returns a JSON object with `dropped`.
    DropNamed = ml_drop_vector_index, |v, interrupt| {
        Jobs::global().drop_named_vector_index(v.required(0)?, interrupt)
    }
}
command! {
    /// `ai_vector_indexes()`: a JSON array, one object for each vector index on a table that the caller can see.
    VectorIndexes = ai_vector_indexes, |_, interrupt| Jobs::global().vector_indexes(interrupt)
}

/// The number in argument `i`.
fn number(args: &Args<'_>, i: usize, name: &str) -> Result<u64> {
    let text = args.text(i, name)?.unwrap_or_default();
    text.parse().map_err(|_| Error::invalid(format!("argument {name} takes a whole number")))
}

fn bytes<'a>(args: &Args<'a>, i: usize, name: &str) -> Result<&'a [u8]> {
    args.bytes(i).ok_or_else(|| Error::invalid(format!("argument {name} is NULL; give a value")))
}

fn query(args: &Args<'_>, i: usize) -> Result<Vec<f32>> {
    let bytes = bytes(args, i, "query")?;
    check_bytes(bytes)?;
    Ok(from_bytes(bytes))
}

fn prepare(setup: &Setup<'_>, function: &'static Function, binary: &[usize]) -> Result<()> {
    let expected = function.parameters.len();
    if setup.args.len() != expected {
        return Err(Error::invalid(format!("{} arguments given; expected {expected}", setup.args.len())));
    }
    for (i, parameter) in function.parameters.iter().enumerate() {
        if binary.contains(&i) {
            setup.binary(i, parameter.name)?;
        } else {
            setup.text(i)?;
        }
    }
    setup.returns_text(0x3fff_ffff)
}

/// `ml_vector_choose(index_id, version, lists, built_at, layout, query, wanted)`: the result of `ml_vector_lists`, by centroids
/// that the library keeps. NULL if it does not keep those of this version. Only for `mysql_ml.vector_candidates`.
pub struct Choose(String);

impl SqlFunction for Choose {
    const FUNCTION: &'static Function = functions::ml_vector_choose;
    const IN_PASSES: bool = false;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        prepare(setup, Self::FUNCTION, &[4, 5])?;
        Ok(Choose(String::new()))
    }
}

impl BytesFunction for Choose {
    fn call(&mut self, args: &Args<'_>) -> Result<Option<&[u8]>> {
        let index = asked_index(args)?;
        let permission = must_be_allowed(index)?;
        let Some(at) = args.text(3, "built_at")? else {
            permission.give_back();
            return Ok(None);
        };
        let size = |i, name| Ok::<_, Error>(usize::try_from(number(args, i, name)?).unwrap_or(usize::MAX));
        let build = Build {
            index,
            version: number(args, 1, "version")?,
            lists: size(2, "lists")?,
            at: at.to_owned(),
            layout: bytes(args, 4, "layout")?.to_vec(),
        };
        match choose(&build, &query(args, 5)?, size(6, "wanted")?, &StatementInterrupt::current())? {
            Some(lists) => {
                self.0 = serde_json::Value::from(lists).to_string();
                Ok(Some(self.0.as_bytes()))
            }
            None => {
                permission.give_back();
                Ok(None)
            }
        }
    }
}

fn asked_index(args: &Args<'_>) -> Result<u64> {
    match number(args, 0, "index_id")? {
        ITS_BLOCKS => Err(Error::invalid("argument index_id is no index")),
        index => Ok(index),
    }
}

/// `ml_vector_lists(index_id, layout, query, lists, list, centroid)`: an aggregate over the lists of an index. Returns a
/// JSON array of the nearest lists' numbers, nearest first. Only for `mysql_ml.vector_candidates`.
pub struct Lists {
    chooser: Option<ListChooser>,
    result: String,
}

impl SqlFunction for Lists {
    const FUNCTION: &'static Function = functions::ml_vector_lists;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        prepare(setup, Self::FUNCTION, &[1, 2, 5])?;
        Ok(Lists { chooser: None, result: String::new() })
    }
}

impl AggregateFunction for Lists {
    fn clear(&mut self) -> Result<()> {
        self.chooser = None;
        Ok(())
    }

    fn add(&mut self, args: &Args<'_>) -> Result<()> {
        let chooser = match &mut self.chooser {
            Some(chooser) => chooser,
            None => {
                must_be_allowed(asked_index(args)?)?;
                let layout = Layout::from_bytes(bytes(args, 1, "layout")?)?;
                let lists = usize::try_from(number(args, 3, "lists")?).unwrap_or(usize::MAX);
                self.chooser.insert(ListChooser::new(&layout, &query(args, 2)?, lists)?)
            }
        };
        let list = u32::try_from(number(args, 4, "list")?).map_err(|_| Error::invalid("argument list is too large"))?;
        chooser.offer(list, bytes(args, 5, "centroid")?)
    }
}

impl BytesFunction for Lists {
    fn call(&mut self, _args: &Args<'_>) -> Result<Option<&[u8]>> {
        let near = self.chooser.take().map(ListChooser::finish).unwrap_or_default();
        let lists: Vec<u32> = near.into_iter().map(|near| near.list).collect();
        self.result = serde_json::Value::from(lists).to_string();
        Ok(Some(self.result.as_bytes()))
    }
}

/// `ml_vector_scan(layout, query, rows, least, most, centroid, codes)`: an aggregate over blocks of codes. Returns the keys
/// of the nearest candidates, as a JSON array of hexadecimal digits: those that may be among the nearest `rows`, but
/// at least `least` and at most `most`. Only for `mysql_ml.vector_candidates`.
pub struct BlockScan {
    scan: Option<Scan>,
    /// The reservation of the keys that it keeps.
    share: Reservation,
    result: String,
}

impl SqlFunction for BlockScan {
    const FUNCTION: &'static Function = functions::ml_vector_scan;

    fn prepare(setup: &Setup<'_>) -> Result<Self> {
        prepare(setup, Self::FUNCTION, &[0, 1, 5, 6])?;
        Ok(BlockScan { scan: None, share: Reservation::default(), result: String::new() })
    }
}

impl AggregateFunction for BlockScan {
    fn clear(&mut self) -> Result<()> {
        self.scan = None;
        Ok(())
    }

    fn add(&mut self, args: &Args<'_>) -> Result<()> {
        let scan = match &mut self.scan {
            Some(scan) => scan,
            None => {
                must_be_allowed(ITS_BLOCKS)?;
                let layout = Layout::from_bytes(bytes(args, 0, "layout")?)?;
                let limit = |i, name| {
                    // The scan keeps so many keys.
                    Ok::<_, Error>(usize::try_from(number(args, i, name)?).unwrap_or(usize::MAX).min(MOST_KEPT))
                };
                let limits = Limits { k: limit(2, "rows")?, least: limit(3, "least")?, most: limit(4, "most")? };
                self.share = Reservation::take(limits.most * 2 * KEY_BYTES, "the candidates of a search")?;
                self.scan.insert(Scan::new(&layout, &query(args, 1)?, limits)?)
            }
        };
        scan.offer(bytes(args, 5, "centroid")?, bytes(args, 6, "codes")?)
    }
}

/// Bytes of a kept candidate.
const KEY_BYTES: usize = 96;

/// The most candidates of a scan.
const MOST_KEPT: usize = 20_000;

impl BytesFunction for BlockScan {
    fn call(&mut self, _args: &Args<'_>) -> Result<Option<&[u8]>> {
        let candidates = self.scan.take().map(Scan::finish).unwrap_or_default();
        self.result = to_json(&candidates);
        Ok(Some(self.result.as_bytes()))
    }
}
