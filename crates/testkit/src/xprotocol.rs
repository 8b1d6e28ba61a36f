//! A minimal client of MySQL's X Protocol, for tests of its differences from the classic protocol.
//!
//! It connects through the UNIX socket only, where the server accepts PLAIN authentication.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure, Context};

/// A test fails instead of hanging when the server does not answer.
const TIMEOUT: Duration = Duration::from_secs(120);
/// More than any test requests; a longer frame means that the stream is out of step.
const MAX_FRAME: usize = 256 << 20;

/// Messages of the client.
mod client {
    pub(super) const SESS_AUTHENTICATE_START: u8 = 4;
    pub(super) const SESS_CLOSE: u8 = 7;
    pub(super) const SQL_STMT_EXECUTE: u8 = 12;
}

/// Messages of the server.
mod server {
    pub(super) const ERROR: u8 = 1;
    pub(super) const SESS_AUTHENTICATE_OK: u8 = 4;
    pub(super) const NOTICE: u8 = 11;
    pub(super) const COLUMN_META_DATA: u8 = 12;
    pub(super) const ROW: u8 = 13;
    pub(super) const FETCH_DONE: u8 = 14;
    pub(super) const FETCH_DONE_MORE_RESULTSETS: u8 = 16;
    pub(super) const SQL_STMT_EXECUTE_OK: u8 = 17;
    pub(super) const FETCH_DONE_MORE_OUT_PARAMS: u8 = 18;
}

/// Values of `Mysqlx.Resultset.ColumnMetaData.FieldType` that are not byte strings.
mod field_type {
    pub(super) const SINT: u64 = 1;
    pub(super) const UINT: u64 = 2;
    pub(super) const DOUBLE: u64 = 5;
    pub(super) const FLOAT: u64 = 6;
    pub(super) const TIME: u64 = 10;
    pub(super) const DATETIME: u64 = 12;
    pub(super) const SET: u64 = 15;
    pub(super) const BIT: u64 = 17;
    pub(super) const DECIMAL: u64 = 18;
}

/// A statement's result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct XResult {
    /// The rows of all result sets; numbers and times as text, NULL as None.
    pub rows: Vec<Vec<Option<Vec<u8>>>>,
    /// The number, SQLSTATE and text of the final error; rows may precede it.
    pub error: Option<(u32, String, String)>,
}

/// An authenticated session; dropping it closes it.
#[derive(Debug)]
pub struct XSession {
    stream: UnixStream,
}

impl XSession {
    /// Connects to the server's X Protocol socket and logs in.
    pub fn connect(socket: &Path, user: &str, password: &str) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).context("connect to the X Protocol socket")?;
        stream.set_read_timeout(Some(TIMEOUT)).context("timeout")?;
        stream.set_write_timeout(Some(TIMEOUT)).context("timeout")?;
        let mut session = Self { stream };
        let mut start = Vec::new();
        put_bytes(&mut start, 1, b"PLAIN");
        // The first part is the schema, which is empty.
        put_bytes(&mut start, 2, format!("\0{user}\0{password}").as_bytes());
        session.send(client::SESS_AUTHENTICATE_START, &start)?;
        loop {
            let (kind, payload) = session.receive()?;
            match kind {
                server::SESS_AUTHENTICATE_OK => return Ok(session),
                server::NOTICE => {}
                server::ERROR => {
                    let (code, state, text) = decode_error(&payload)?;
                    bail!("X Protocol login refused: ERROR {code} ({state}): {text}");
                }
                other => bail!("unexpected message {other} during the X Protocol login"),
            }
        }
    }

    /// Runs one statement and reads its whole result.
    pub fn execute(&mut self, sql: &str) -> anyhow::Result<XResult> {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, sql.as_bytes());
        put_bytes(&mut message, 3, b"sql");
        self.send(client::SQL_STMT_EXECUTE, &message)?;
        let mut result = XResult::default();
        let mut columns = Vec::new();
        let mut in_rows = false;
        loop {
            let (kind, payload) = self.receive()?;
            match kind {
                server::COLUMN_META_DATA => {
                    if in_rows {
                        columns.clear();
                        in_rows = false;
                    }
                    columns.push(decode_column(&payload)?);
                }
                server::ROW => {
                    in_rows = true;
                    result.rows.push(decode_row(&payload, &columns)?);
                }
                server::FETCH_DONE | server::FETCH_DONE_MORE_RESULTSETS | server::FETCH_DONE_MORE_OUT_PARAMS => {
                    in_rows = true
                }
                server::NOTICE => {}
                server::SQL_STMT_EXECUTE_OK => return Ok(result),
                server::ERROR => {
                    result.error = Some(decode_error(&payload)?);
                    return Ok(result);
                }
                other => bail!("unexpected X Protocol message {other}"),
            }
        }
    }

    fn send(&mut self, kind: u8, payload: &[u8]) -> anyhow::Result<()> {
        let length = u32::try_from(payload.len() + 1).context("statement too long")?;
        let mut frame = Vec::with_capacity(payload.len() + 5);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.push(kind);
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).context("write to the X Protocol socket")
    }

    fn receive(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        match self.stream.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                bail!("the server closed the X Protocol connection")
            }
            read => read.context("read from the X Protocol socket")?,
        }
        let [l0, l1, l2, l3, kind] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        // The length includes the byte of the type.
        ensure!((1..=MAX_FRAME).contains(&length), "X Protocol frame of {length} bytes");
        let mut payload = vec![0; length - 1];
        self.stream.read_exact(&mut payload).context("read from the X Protocol socket")?;
        Ok((kind, payload))
    }
}

impl Drop for XSession {
    fn drop(&mut self) {
        // The server also accepts a connection that just ends.
        drop(self.send(client::SESS_CLOSE, &[]));
    }
}

/// A value of a protobuf field.
#[derive(Debug, Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn take_varint(input: &mut &[u8]) -> anyhow::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first().context("varint cut short")?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("varint of more than 64 bits")
}

fn take<'a>(input: &mut &'a [u8], length: u64) -> anyhow::Result<&'a [u8]> {
    let length = usize::try_from(length).context("length")?;
    let (taken, rest) = input.split_at_checked(length).context("field cut short")?;
    *input = rest;
    Ok(taken)
}

/// The next field of a message; None at its end.
fn take_field<'a>(input: &mut &'a [u8]) -> anyhow::Result<Option<(u64, Field<'a>)>> {
    if input.is_empty() {
        return Ok(None);
    }
    let key = take_varint(input)?;
    let value = match key & 7 {
        0 => Field::Number(take_varint(input)?),
        1 => Field::Bytes(take(input, 8)?),
        2 => {
            let length = take_varint(input)?;
            Field::Bytes(take(input, length)?)
        }
        5 => Field::Bytes(take(input, 4)?),
        other => bail!("protobuf wire type {other}"),
    };
    Ok(Some((key >> 3, value)))
}

/// `Mysqlx.Error`.
fn decode_error(mut message: &[u8]) -> anyhow::Result<(u32, String, String)> {
    let (mut code, mut state, mut text) = (0, String::new(), String::new());
    while let Some(field) = take_field(&mut message)? {
        match field {
            (2, Field::Number(value)) => code = u32::try_from(value).context("error number")?,
            (3, Field::Bytes(value)) => text = String::from_utf8_lossy(value).into_owned(),
            (4, Field::Bytes(value)) => state = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
    }
    Ok((code, state, text))
}

/// The members of `Mysqlx.Resultset.ColumnMetaData` that decoding needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Column {
    kind: u64,
    /// Distinguishes a DATE from a DATETIME at midnight.
    is_date: bool,
}

fn decode_column(mut message: &[u8]) -> anyhow::Result<Column> {
    const DATE: u64 = 1;
    let (mut kind, mut content) = (None, 0);
    while let Some(field) = take_field(&mut message)? {
        match field {
            (1, Field::Number(value)) => kind = Some(value),
            (12, Field::Number(value)) => content = value,
            _ => {}
        }
    }
    let kind = kind.context("a column without a type")?;
    let is_date = kind == field_type::DATETIME && content == DATE;
    Ok(Column { kind, is_date })
}

/// `Mysqlx.Resultset.Row`.
fn decode_row(mut message: &[u8], columns: &[Column]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
    let mut row = Vec::with_capacity(columns.len());
    while let Some(field) = take_field(&mut message)? {
        if let (1, Field::Bytes(value)) = field {
            let column = columns.get(row.len()).context("more fields than columns")?;
            row.push(decode_value(value, *column)?);
        }
    }
    ensure!(row.len() == columns.len(), "fewer fields than columns");
    Ok(row)
}

/// A field as the classic protocol prints it.
fn decode_value(mut value: &[u8], column: Column) -> anyhow::Result<Option<Vec<u8>>> {
    if value.is_empty() {
        return Ok(None);
    }
    let text = match column.kind {
        field_type::SINT => {
            let zigzag = take_varint(&mut value)?;
            ((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)).to_string()
        }
        field_type::UINT | field_type::BIT => take_varint(&mut value)?.to_string(),
        field_type::DOUBLE => f64::from_le_bytes(value.try_into().context("DOUBLE")?).to_string(),
        field_type::FLOAT => f32::from_le_bytes(value.try_into().context("FLOAT")?).to_string(),
        field_type::TIME => decode_time(value)?,
        field_type::DATETIME => decode_datetime(value, column.is_date)?,
        field_type::DECIMAL => decode_decimal(value)?,
        field_type::SET => return decode_set(value).map(Some),
        // Strings end with a zero byte, which distinguishes an empty one from NULL.
        _ => {
            let (last, bytes) = value.split_last().context("string")?;
            ensure!(*last == 0, "a string without its final zero byte");
            return Ok(Some(bytes.to_vec()));
        }
    };
    Ok(Some(text.into_bytes()))
}

/// The following numbers; trailing zeros are omitted on the wire.
fn numbers<const N: usize>(mut value: &[u8]) -> anyhow::Result<[u64; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        if value.is_empty() {
            break;
        }
        *number = take_varint(&mut value)?;
    }
    Ok(numbers)
}

fn decode_time(value: &[u8]) -> anyhow::Result<String> {
    let (sign, rest) = value.split_first().context("TIME")?;
    let sign = if *sign == 0 { "" } else { "-" };
    let [hours, minutes, seconds, micros] = numbers(rest)?;
    let fraction = fraction(micros);
    Ok(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{fraction}"))
}

fn decode_datetime(mut value: &[u8], is_date: bool) -> anyhow::Result<String> {
    let (year, month, day) = (take_varint(&mut value)?, take_varint(&mut value)?, take_varint(&mut value)?);
    let date = format!("{year:04}-{month:02}-{day:02}");
    if is_date {
        return Ok(date);
    }
    let [hours, minutes, seconds, micros] = numbers(value)?;
    let fraction = fraction(micros);
    Ok(format!("{date} {hours:02}:{minutes:02}:{seconds:02}{fraction}"))
}

fn fraction(micros: u64) -> String {
    match micros {
        0 => String::new(),
        micros => format!(".{micros:06}"),
    }
}

/// The number of digits after the point, then a digit in each half byte, then the sign.
fn decode_decimal(value: &[u8]) -> anyhow::Result<String> {
    let (scale, digits) = value.split_first().context("DECIMAL")?;
    let scale = usize::from(*scale);
    let mut text = String::new();
    for half in digits.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        match half {
            0..=9 => text.push(char::from(b'0' + half)),
            sign => {
                let point = text.len().checked_sub(scale).context("DECIMAL scale")?;
                if scale > 0 {
                    text.insert(point, '.');
                }
                let minus = matches!(sign, 11 | 13);
                return Ok(if minus { format!("-{text}") } else { text });
            }
        }
    }
    bail!("a DECIMAL without a sign")
}

fn decode_set(mut value: &[u8]) -> anyhow::Result<Vec<u8>> {
    // An empty set has this member, because no member at all is NULL.
    if value == [1] {
        return Ok(Vec::new());
    }
    let mut members = Vec::new();
    while !value.is_empty() {
        let length = take_varint(&mut value)?;
        members.push(take(&mut value, length)?);
    }
    Ok(members.join(&b','))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn column(kind: u64) -> Column {
        let is_date = false;
        Column { kind, is_date }
    }

    fn value(bytes: &[u8], kind: u64) -> String {
        let value = decode_value(bytes, column(kind)).unwrap();
        String::from_utf8(value.unwrap()).unwrap()
    }

    #[test]
    fn varints() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            let mut input = bytes.as_slice();
            assert_eq!(take_varint(&mut input).unwrap(), number);
            assert!(input.is_empty());
        }
        assert!(take_varint(&mut [0x80].as_slice()).is_err());
        assert!(take_varint(&mut [0xff; 11].as_slice()).is_err());
    }

    #[test]
    fn values() {
        assert_eq!(decode_value(b"", column(field_type::SINT)).unwrap(), None);
        assert_eq!(value(&[1], field_type::SINT), "-1");
        assert_eq!(value(&[2], field_type::SINT), "1");
        assert_eq!(
            value(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], field_type::SINT),
            i64::MIN.to_string()
        );
        assert_eq!(value(&[0xac, 2], field_type::UINT), "300");
        assert_eq!(value(&1.5_f64.to_le_bytes(), field_type::DOUBLE), "1.5");
        assert_eq!(value(&(-0.25_f32).to_le_bytes(), field_type::FLOAT), "-0.25");
        assert_eq!(value(b"\0", 7), "");
        assert_eq!(value(b"a\0\0", 7), "a\0");
        assert!(decode_value(b"a", column(7)).is_err());
        assert_eq!(value(&[4, 0x12, 0x34, 0x01, 0xd0], field_type::DECIMAL), "-12.3401");
        assert_eq!(value(&[0, 0x7c], field_type::DECIMAL), "7");
        assert_eq!(value(&[1, 3, 4, 5], field_type::TIME), "-03:04:05");
        assert_eq!(value(&[0xe8, 0x0f, 2, 3], field_type::DATETIME), "2024-02-03 00:00:00");
        assert_eq!(value(&[0xe8, 0x0f, 2, 3, 4], field_type::DATETIME), "2024-02-03 04:00:00");
        assert_eq!(value(&[1, b'a', 2, b'b', b'c'], field_type::SET), "a,bc");
        assert_eq!(value(&[1], field_type::SET), "");
    }

    #[test]
    fn messages() {
        let mut error = vec![1 << 3, 0, 2 << 3, 0xac, 2];
        put_bytes(&mut error, 4, b"HY000");
        put_bytes(&mut error, 3, b"text");
        let expected = (300, "HY000".to_owned(), "text".to_owned());
        assert_eq!(decode_error(&error).unwrap(), expected);
        let mut row = Vec::new();
        put_bytes(&mut row, 1, b"");
        put_bytes(&mut row, 1, b"x\0");
        let expected = vec![None, Some(b"x".to_vec())];
        assert_eq!(decode_row(&row, &[column(7); 2]).unwrap(), expected);
        assert!(decode_row(&row, &[column(7)]).is_err());
        assert!(decode_row(&row, &[column(7); 3]).is_err());
        assert_eq!(decode_column(&[1 << 3, 7]).unwrap(), column(7));
        let date = decode_column(&[1 << 3, 12, 12 << 3, 1]).unwrap();
        assert!(date.is_date);
        let text = decode_value(&[0xe8, 0x0f, 2, 3], date).unwrap();
        assert_eq!(text, Some(b"2024-02-03".to_vec()));
        assert!(decode_column(&[]).is_err());
        assert!(decode_error(&[4 << 3 | 2, 9]).is_err());
    }
}
