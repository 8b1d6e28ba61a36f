//! Calls the exported symbols as mysqld does: raw structures, no server.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::undocumented_unsafe_blocks,
    missing_docs
)]

use std::ffi::{c_char, c_int, c_uchar, c_ulong, c_void, CString};
use std::ptr;

#[repr(C)]
struct UdfArgs {
    arg_count: u32,
    arg_type: *mut c_int,
    args: *mut *const c_char,
    lengths: *mut c_ulong,
    maybe_null: *mut c_char,
    attributes: *mut *const c_char,
    attribute_lengths: *mut c_ulong,
    extension: *mut c_void,
}

#[repr(C)]
struct UdfInit {
    maybe_null: bool,
    decimals: u32,
    max_length: c_ulong,
    ptr: *mut c_char,
    const_item: bool,
    extension: *mut c_void,
}

type Init = unsafe extern "C" fn(*mut UdfInit, *mut UdfArgs, *mut c_char) -> bool;
type Deinit = unsafe extern "C" fn(*mut UdfInit);
type Text = unsafe extern "C" fn(
    *mut UdfInit,
    *mut UdfArgs,
    *mut c_char,
    *mut c_ulong,
    *mut c_uchar,
    *mut c_uchar,
) -> *const c_char;
type Real = unsafe extern "C" fn(*mut UdfInit, *mut UdfArgs, *mut c_uchar, *mut c_uchar) -> f64;

macro_rules! symbols {
    ($($init:ident $call:ident $deinit:ident: $ty:ty;)*) => {
        unsafe extern "C" { $(
            fn $init(init: *mut UdfInit, args: *mut UdfArgs, message: *mut c_char) -> bool;
            fn $deinit(init: *mut UdfInit);
        )* }
    };
}

symbols! {
    ml_version_init ml_version ml_version_deinit: Text;
    ml_embedding_init ml_embedding ml_embedding_deinit: Text;
    ml_create_model_registration_init ml_create_model_registration ml_create_model_registration_deinit: Text;
    cosine_distance_init cosine_distance cosine_distance_deinit: Real;
    vector_distance_init vector_distance vector_distance_deinit: Real;
}

unsafe extern "C" {
    fn ml_version(
        i: *mut UdfInit,
        a: *mut UdfArgs,
        b: *mut c_char,
        l: *mut c_ulong,
        n: *mut c_uchar,
        e: *mut c_uchar,
    ) -> *const c_char;
    fn ml_embedding(
        i: *mut UdfInit,
        a: *mut UdfArgs,
        b: *mut c_char,
        l: *mut c_ulong,
        n: *mut c_uchar,
        e: *mut c_uchar,
    ) -> *const c_char;
    fn cosine_distance(i: *mut UdfInit, a: *mut UdfArgs, n: *mut c_uchar, e: *mut c_uchar) -> f64;
    fn vector_distance(i: *mut UdfInit, a: *mut UdfArgs, n: *mut c_uchar, e: *mut c_uchar) -> f64;
}

const STRING: c_int = 0;
const REAL: c_int = 1;
const INT: c_int = 2;

/// The structures of one call, owned here as the server owns them.
struct Call {
    values: Vec<Option<Vec<u8>>>,
    types: Vec<c_int>,
    pointers: Vec<*const c_char>,
    lengths: Vec<c_ulong>,
    maybe_null: Vec<c_char>,
    attributes: Vec<*const c_char>,
    attribute_lengths: Vec<c_ulong>,
    init: UdfInit,
    message: [c_char; 512],
}

impl Call {
    fn new(values: &[Option<&[u8]>]) -> Box<Self> {
        mysql_ml::mysql::ffi::symbols::run_without_server();
        Call::anywhere(values)
    }

    /// Without setting the library's test switch for a missing server.
    fn anywhere(values: &[Option<&[u8]>]) -> Box<Self> {
        let n = values.len();
        Box::new(Call {
            values: values.iter().map(|v| v.map(<[u8]>::to_vec)).collect(),
            types: vec![STRING; n],
            pointers: vec![ptr::null(); n],
            lengths: vec![0; n],
            maybe_null: vec![1; n],
            // The server passes NULL here for some arguments.
            attributes: vec![ptr::null(); n],
            attribute_lengths: vec![0; n],
            init: UdfInit {
                maybe_null: false,
                decimals: 0,
                max_length: 0,
                ptr: ptr::null_mut(),
                const_item: false,
                extension: ptr::null_mut(),
            },
            message: [0; 512],
        })
    }

    fn args(&mut self) -> UdfArgs {
        for (i, value) in self.values.iter().enumerate() {
            self.pointers[i] = value.as_ref().map_or(ptr::null(), |v| v.as_ptr().cast());
            self.lengths[i] = value.as_ref().map_or(0, |v| v.len() as c_ulong);
        }
        UdfArgs {
            arg_count: self.values.len() as u32,
            arg_type: self.types.as_mut_ptr(),
            args: self.pointers.as_mut_ptr(),
            lengths: self.lengths.as_mut_ptr(),
            maybe_null: self.maybe_null.as_mut_ptr(),
            attributes: self.attributes.as_mut_ptr(),
            attribute_lengths: self.attribute_lengths.as_mut_ptr(),
            extension: ptr::null_mut(),
        }
    }

    fn init(&mut self, f: Init) -> Result<(), String> {
        let mut args = self.args();
        let failed = unsafe { f(&mut self.init, &mut args, self.message.as_mut_ptr()) };
        if !failed {
            return Ok(());
        }
        let bytes: Vec<u8> = self.message.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
        Err(String::from_utf8(bytes).expect("an error text is UTF-8 also where it is cut"))
    }

    /// The result; `Ok(None)` is NULL.
    fn text(&mut self, f: Text) -> Result<Option<Vec<u8>>, ()> {
        let mut args = self.args();
        let mut buffer = [0 as c_char; 766];
        let (mut length, mut is_null, mut error) = (766 as c_ulong, 0, 0);
        let result =
            unsafe { f(&mut self.init, &mut args, buffer.as_mut_ptr(), &mut length, &mut is_null, &mut error) };
        match (error, is_null) {
            (0, 0) => Ok(Some(unsafe { std::slice::from_raw_parts(result.cast::<u8>(), length as usize) }.to_vec())),
            (0, _) => Ok(None),
            _ => Err(()),
        }
    }

    fn real(&mut self, f: Real) -> Result<Option<f64>, ()> {
        let mut args = self.args();
        let (mut is_null, mut error) = (0, 0);
        let result = unsafe { f(&mut self.init, &mut args, &mut is_null, &mut error) };
        match (error, is_null) {
            (0, 0) => Ok(Some(result)),
            (0, _) => Ok(None),
            _ => Err(()),
        }
    }

    fn deinit(&mut self, f: Deinit) {
        unsafe { f(&mut self.init) };
    }
}

fn vector(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn version_takes_nothing_and_returns_itself() {
    let mut call = Call::new(&[]);
    call.init(ml_version_init).unwrap();
    assert_eq!(call.text(ml_version).unwrap().unwrap(), env!("CARGO_PKG_VERSION").as_bytes());
    call.deinit(ml_version_deinit);
    assert!(Call::new(&[Some(b"x")]).init(ml_version_init).unwrap_err().contains("takes no arguments"));
}

#[test]
fn null_and_empty_arguments_are_survived() {
    let mut call = Call::new(&[None, None]);
    call.init(ml_embedding_init).unwrap();
    assert_eq!(call.text(ml_embedding), Ok(None));
    call.values[0] = Some(b"model".to_vec());
    assert_eq!(call.text(ml_embedding), Ok(None));
    call.values = vec![Some(Vec::new()), Some(Vec::new())];
    assert_eq!(call.text(ml_embedding), Err(()), "without a server there is no caller");
    call.deinit(ml_embedding_deinit);
    let error = Call::new(&[]).init(ml_embedding_init).unwrap_err();
    assert_eq!(error, "ml_embedding: too few arguments (0); expected (model_id, content)");
}

#[test]
fn text_that_is_not_utf8_is_an_error_not_a_crash() {
    let mut call = Call::new(&[Some(b"m"), Some(&[0xff, 0xfe, 0])]);
    call.init(ml_embedding_init).unwrap();
    assert_eq!(call.text(ml_embedding), Err(()));
    call.values[1] = Some(vec![b'x'; 1 << 20]);
    assert_eq!(call.text(ml_embedding), Err(()));
    call.deinit(ml_embedding_deinit);
}

#[test]
fn numbers_are_asked_for_as_text() {
    let mut call = Call::new(&[Some(b"m"), None]);
    call.types[1] = INT;
    call.init(ml_embedding_init).unwrap();
    assert_eq!(call.types[1], STRING, "the server is told to convert");
    call.deinit(ml_embedding_deinit);
}

#[test]
fn names_that_are_not_utf8_are_survived() {
    let mut call = Call::new(&[Some(b"m"), Some(b"x")]);
    let name = [0xff_u8, 0xfe];
    call.attributes[0] = name.as_ptr().cast();
    call.attribute_lengths[0] = 2;
    call.init(ml_embedding_init).unwrap();
    call.deinit(ml_embedding_deinit);
}

#[test]
fn messages_fit_their_buffer() {
    let names: Vec<String> = (0..12).map(|i| "é".repeat(60) + &i.to_string()).collect();
    let mut call = Call::new(&[None; 12]);
    for (i, name) in names.iter().enumerate() {
        call.attributes[i] = name.as_ptr().cast();
        call.attribute_lengths[i] = name.len() as c_ulong;
    }
    let error = call.init(ml_create_model_registration_init).unwrap_err();
    assert!(error.len() <= 511 && error.contains("too many arguments"), "{error}");
    let _ = ml_create_model_registration_deinit as Deinit;
}

#[test]
fn distances_of_good_and_bad_vectors() {
    let (a, b) = (vector(&[1.0, 0.0]), vector(&[0.0, 2.0]));
    let mut call = Call::new(&[Some(&a), Some(&b)]);
    call.init(cosine_distance_init).unwrap();
    assert_eq!(call.real(cosine_distance), Ok(Some(1.0)));
    call.values[1] = None;
    assert_eq!(call.real(cosine_distance), Ok(None));
    call.values[1] = Some(vec![0; 7]);
    assert_eq!(call.real(cosine_distance), Err(()));
    call.deinit(cosine_distance_deinit);

    let mut call = Call::new(&[Some(&a), Some(&b)]);
    call.types[0] = REAL;
    assert!(call.init(cosine_distance_init).unwrap_err().contains("must be a VECTOR"));
    let mut call = Call::new(&[Some(&a), Some(&b), Some(b"distance_measure=dot_product")]);
    call.init(vector_distance_init).unwrap();
    assert_eq!(call.real(vector_distance), Ok(Some(0.0)));
    call.deinit(vector_distance_deinit);
    let mut call = Call::new(&[Some(&a), Some(&b), Some(b"nonsense")]);
    call.init(vector_distance_init).unwrap();
    assert_eq!(call.real(vector_distance), Err(()));
    call.deinit(vector_distance_deinit);
}

#[test]
fn vectors_need_not_be_aligned() {
    let v = vector(&(0..100).map(|i| i as f32 - 50.0).collect::<Vec<_>>());
    for offset in 0..8 {
        let shifted = [vec![0xff; offset], v.clone()].concat();
        let mut call = Call::new(&[Some(&v), Some(&shifted)]);
        call.init(cosine_distance_init).unwrap();
        let mut args = call.args();
        let (mut is_null, mut error) = (0, 0);
        // The server's pointer may have any alignment.
        call.pointers[1] = unsafe { call.pointers[1].add(offset) };
        call.lengths[1] = v.len() as c_ulong;
        let distance = unsafe { cosine_distance(&mut call.init, &mut args, &mut is_null, &mut error) };
        assert!(error == 0 && is_null == 0 && distance.abs() < 1e-12, "{offset}: {distance}");
        call.deinit(cosine_distance_deinit);
    }
}

#[test]
fn a_panic_inside_does_not_leave_the_library() {
    // In a process of its own: the variable that injects the panic affects the whole process.
    for stage in ["init", "call"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "panics_when_asked", "--ignored", "--nocapture"])
            .env("MYSQL_ML_PANIC_IN", stage)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{stage}: {text}");
    }
}

#[test]
#[ignore = "run by a_panic_inside_does_not_leave_the_library"]
fn panics_when_asked() {
    let stage = std::env::var("MYSQL_ML_PANIC_IN").expect("asked for");
    let mut call = Call::new(&[]);
    let prepared = call.init(ml_version_init);
    if stage == "init" {
        assert!(prepared.unwrap_err().contains("internal error: panic at"));
        return;
    }
    prepared.unwrap();
    assert_eq!(call.text(ml_version), Err(()));
    assert_eq!(call.text(ml_version), Err(()), "and again");
    call.deinit(ml_version_deinit);
}

/// Loads the library as a server without the needed symbols does. MariaDB creates all functions, and would treat an
/// error of a later call as NULL.
#[test]
fn every_function_refuses_a_server_that_lacks_what_is_needed() {
    let library = CString::new(testkit::library::under_test().unwrap().into_os_string().into_encoded_bytes()).unwrap();
    let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "the library can be loaded anywhere");
    let script = testkit::library::script("install.sql").unwrap();
    let statements = script.lines().filter(|line| line.contains("SONAME"));
    let names: Vec<&str> = statements
        .filter_map(|line| line.split_once("FUNCTION IF NOT EXISTS ")?.1.split_once(" RETURNS"))
        .map(|(name, _)| name)
        .collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let symbol = CString::new(format!("{name}_init")).unwrap();
        let address = unsafe { libc::dlsym(handle, symbol.as_ptr()) };
        assert!(!address.is_null(), "{name}");
        let init = unsafe { std::mem::transmute::<*mut c_void, Init>(address) };
        let error = Call::anywhere(&[]).init(init).expect_err(name);
        // MariaDB truncates the message after some 80 bytes.
        let known = name.trim_start_matches("mysql_ml_so_");
        let fact = format!("{known}: mysql-ml needs MySQL 9.7; this server does not export ");
        assert!(error.trim_start_matches("mysql_ml_so_").starts_with(&fact), "{name}: {error}");
    }
}

#[test]
fn two_threads_call_at_once() {
    let threads: Vec<_> = (0..2)
        .map(|t| {
            std::thread::spawn(move || {
                for i in 1..2000 {
                    let a = vector(&[i as f32, t as f32]);
                    let mut call = Call::new(&[Some(&a), Some(&a)]);
                    call.init(cosine_distance_init).unwrap();
                    assert!(call.real(cosine_distance).unwrap().unwrap().abs() < 1e-6);
                    call.deinit(cosine_distance_deinit);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn memory_is_flat_over_many_rows() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
    };
    let v = vector(&vec![0.5; 1536]);
    let rows = || {
        for _ in 0..50_000 {
            let mut call = Call::new(&[Some(&v), Some(&v)]);
            call.init(cosine_distance_init).unwrap();
            call.real(cosine_distance).unwrap();
            call.deinit(cosine_distance_deinit);
            let mut call = Call::new(&[Some(b"m"), None]);
            call.init(ml_embedding_init).unwrap();
            assert_eq!(call.text(ml_embedding), Ok(None));
            call.deinit(ml_embedding_deinit);
            let mut call = Call::new(&[]);
            call.init(ml_version_init).unwrap();
            call.text(ml_version).unwrap();
            call.deinit(ml_version_deinit);
        }
    };
    rows();
    let before = resident();
    rows();
    let after = resident();
    assert!(after < before + 4096, "from {before} to {after} KiB");
}
