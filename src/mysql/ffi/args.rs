//! Safe views of the structures that the server passes to a loadable function.
//!
//! The `udf` crate's own argument type panics on attributes that are not UTF-8 and recurses without end when printed.
//! These views check every length.

use std::cell::OnceCell;
use std::ffi::{c_char, c_void, CStr};

use udf::udf_sys::{Item_result, UDF_ARGS, UDF_INIT};
use udf::{ArgList, Init, Process, UdfCfg};

use super::service::ServiceRef;
use super::symbols::{statement_api, UdfMetadata};
use mysql_ml_base::error::{Error, Result};

/// The SQL type of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgKind {
    /// Text, binary, JSON, VECTOR, dates.
    String,
    /// A double.
    Real,
    /// A 64-bit integer.
    Int,
    /// A decimal, passed as text.
    Decimal,
    /// A row; the server refuses these before us.
    Other,
}

/// The arguments of a row; at init, of constants only.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    raw: &'a UDF_ARGS,
}

impl<'a> Args<'a> {
    /// The arguments at init: only constant ones have a value.
    pub fn from_init(list: &'a ArgList<'_, Init>) -> Self {
        // SAFETY: ArgList is a transparent wrapper of UDF_ARGS (the udf crate tests it) and the server keeps
        // the structure alive for the whole call.
        Args { raw: unsafe { &*std::ptr::from_ref(list).cast::<UDF_ARGS>() } }
    }

    /// The arguments of a row.
    pub fn from_process(list: &'a ArgList<'_, Process>) -> Self {
        // SAFETY: as in `from_init`.
        Args { raw: unsafe { &*std::ptr::from_ref(list).cast::<UDF_ARGS>() } }
    }

    /// Number of arguments.
    pub fn len(&self) -> usize {
        self.raw.arg_count as usize
    }

    /// Whether none was passed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of argument `i`.
    pub fn kind(&self, i: usize) -> ArgKind {
        if i >= self.len() || self.raw.arg_types.is_null() {
            return ArgKind::Other;
        }
        // SAFETY: the array has arg_count entries. Read as an integer: its values are the server's.
        match unsafe { self.raw.arg_types.cast::<i32>().add(i).read() } {
            x if x == Item_result::STRING_RESULT as i32 => ArgKind::String,
            x if x == Item_result::REAL_RESULT as i32 => ArgKind::Real,
            x if x == Item_result::INT_RESULT as i32 => ArgKind::Int,
            x if x == Item_result::DECIMAL_RESULT as i32 => ArgKind::Decimal,
            _ => ArgKind::Other,
        }
    }

    /// The bytes of argument `i`; `None` for SQL NULL, and at init for arguments that are not constant. Only for
    /// arguments whose type is text (see [`Setup::text`] and [`Setup::binary`]).
    pub fn bytes(&self, i: usize) -> Option<&'a [u8]> {
        if !matches!(self.kind(i), ArgKind::String | ArgKind::Decimal) || self.raw.args.is_null() {
            return None;
        }
        // SAFETY: the arrays have arg_count entries; the server owns the bytes until the call ends.
        unsafe {
            let data = self.raw.args.add(i).read();
            if data.is_null() {
                return None;
            }
            let length = self.raw.lengths.add(i).read() as usize;
            Some(std::slice::from_raw_parts(data.cast::<u8>(), length))
        }
    }

    /// Whether argument `i` has a value; at init only constants and variables that are not NULL have one.
    pub fn is_known(&self, i: usize) -> bool {
        // SAFETY: the array has arg_count entries.
        i < self.len() && !self.raw.args.is_null() && !unsafe { self.raw.args.add(i).read() }.is_null()
    }

    /// The text of argument `i`; `None` for NULL. `name` names it in the error for text that is not UTF-8.
    pub fn text(&self, i: usize, name: &str) -> Result<Option<&'a str>> {
        match self.bytes(i) {
            None => Ok(None),
            Some(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|e| {
                Error::invalid(format!(
                    "argument {name} is not valid UTF-8 (byte {} of {}); pass text, or convert it with CONVERT(... USING utf8mb4)",
                    e.valid_up_to() + 1,
                    bytes.len()
                ))
            }),
        }
    }

    /// The name of argument `i`: its alias, else the text of the expression.
    pub fn name(&self, i: usize) -> String {
        if i >= self.len() || self.raw.attributes.is_null() || self.raw.attribute_lengths.is_null() {
            return String::new();
        }
        // SAFETY: the arrays have arg_count entries; an entry may be NULL.
        unsafe {
            let data = self.raw.attributes.add(i).read();
            if data.is_null() {
                return String::new();
            }
            let length = self.raw.attribute_lengths.add(i).read() as usize;
            String::from_utf8_lossy(std::slice::from_raw_parts(data.cast::<u8>(), length)).into_owned()
        }
    }
}

/// Setup at init: types and character sets of arguments and result.
pub struct Setup<'a> {
    /// The arguments; constants have values.
    pub args: Args<'a>,
    init: *mut UDF_INIT,
    raw_args: *mut UDF_ARGS,
    service: OnceCell<Option<ServiceRef<UdfMetadata>>>,
}

impl<'a> Setup<'a> {
    /// Wraps the structures passed to an init function.
    pub fn new(cfg: &'a UdfCfg<Init>, list: &'a ArgList<'_, Init>) -> Self {
        Setup {
            args: Args::from_init(list),
            init: std::ptr::from_ref(cfg).cast::<UDF_INIT>().cast_mut(),
            raw_args: std::ptr::from_ref(list).cast::<UDF_ARGS>().cast_mut(),
            service: OnceCell::new(),
        }
    }

    /// Makes the server convert argument `i` to utf8mb4 text, whatever its type and character set.
    pub fn text(&self, i: usize) -> Result<()> {
        match self.args.kind(i) {
            ArgKind::String => self.metadata(|service, args, charset| {
                // SAFETY: the service's contract: our UDF_ARGS, a known property, an index below arg_count.
                unsafe { (service.argument_set)(args, c"charset".as_ptr(), i as u32, charset) }
            }),
            ArgKind::Other => Err(Error::invalid(format!("argument {} has a type that is not supported", i + 1))),
            _ => self.coerce_to_string(i),
        }
    }

    /// Takes argument `i` as unconverted bytes; an error for numbers.
    pub fn binary(&self, i: usize, name: &str) -> Result<()> {
        match self.args.kind(i) {
            ArgKind::String => Ok(()),
            _ => Err(Error::invalid(format!("argument {name} must be a VECTOR or a binary string, not a number"))),
        }
    }

    /// The character set of argument `i`, which must be a string, if it is text: VECTORs, BLOBs and hexadecimal
    /// literals have the character set `binary`. `None` also outside of a server.
    pub fn text_charset(&self, i: usize) -> Result<Option<String>> {
        let mut charset: *mut c_void = std::ptr::null_mut();
        self.metadata(|service, args, _| {
            // SAFETY: the service's contract: our UDF_ARGS, a known property, an index below arg_count. The server
            // stores a pointer to the name.
            unsafe { (service.argument_get)(args, c"charset".as_ptr(), i as u32, &mut charset) }
        })?;
        if charset.is_null() {
            return Ok(None);
        }
        // SAFETY: the server's own name of a character set: NUL-terminated, and never freed.
        let name = unsafe { CStr::from_ptr(charset.cast::<c_char>()) };
        Ok((name != c"binary").then(|| name.to_string_lossy().into_owned()))
    }

    fn coerce_to_string(&self, i: usize) -> Result<()> {
        // SAFETY: `i` was checked against arg_count by kind(); init may write the wanted type here.
        unsafe { (*self.raw_args).arg_types.add(i).write(Item_result::STRING_RESULT) };
        Ok(())
    }

    /// Declares a utf8mb4 text result of at most `max_chars` characters.
    pub fn returns_text(&self, max_chars: u32) -> Result<()> {
        self.returns(max_chars);
        self.metadata(|service, _, charset| {
            // SAFETY: the service's contract: our UDF_INIT and a known property.
            unsafe { (service.result_set)(self.init.cast::<c_void>(), c"charset".as_ptr(), charset) }
        })
    }

    /// Declares a binary result of at most `max_bytes`.
    pub fn returns_binary(&self, max_bytes: u32) {
        self.returns(max_bytes);
    }

    /// Declares a double that may be NULL.
    pub fn returns_real(&self) {
        // SAFETY: the server's UDF_INIT, ours to write during init.
        unsafe {
            (*self.init).maybe_null = true;
            (*self.init).decimals = 31; // NOT_FIXED_DEC: show as many digits as there are
        }
    }

    /// Declares an integer of at most `digits` digits that may be NULL.
    pub fn returns_integer(&self, digits: u32) {
        self.returns(digits);
    }

    fn returns(&self, max_length: u32) {
        // SAFETY: the server's UDF_INIT, ours to write during init.
        unsafe {
            (*self.init).maybe_null = true;
            (*self.init).max_length = max_length.into();
        }
    }

    /// Runs `f` with the service `mysql_udf_metadata`, our UDF_ARGS and the name of utf8mb4.
    fn metadata(&self, f: impl FnOnce(&UdfMetadata, *mut c_void, *mut c_void) -> i32) -> Result<()> {
        // SAFETY: the type is the layout of this service.
        let service = self.service.get_or_init(|| unsafe { ServiceRef::acquire(c"mysql_udf_metadata") });
        let Some(service) = service else {
            let in_a_server = statement_api().registry_acquire.is_some();
            // Outside a server, in the C ABI tests, character sets do not exist.
            return if in_a_server {
                Err(Error::internal("the server's service registry is not available"))
            } else {
                Ok(())
            };
        };
        let utf8mb4 = c"utf8mb4".as_ptr().cast_mut().cast::<c_void>();
        let failed = f(service.get(), self.raw_args.cast::<c_void>(), utf8mb4);
        if failed != 0 {
            return Err(Error::internal("the server refused to get or set a character set"));
        }
        Ok(())
    }
}
