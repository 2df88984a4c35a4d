//! Rows on their way into a table, in the binary form of COPY.
//!
//! Every fold appends this way: inline, behind the log and in a rebuild.

use std::io::Write;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tally_events::{Personal, Position, Sealed};
use uuid::Uuid;

/// The signature, no flags, no extension.
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Stands where a row's number of fields would.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// Stands where a field's length would.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
/// PostgreSQL counts microseconds from 2000-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Rows for the columns that `statement` names.
pub(crate) struct Rows {
    statement: &'static str,
    bytes: Vec<u8>,
}

impl Rows {
    /// `statement` is a `copy … (column, …) from stdin (format binary)`.
    pub fn new(statement: &'static str) -> Self {
        Self { statement, bytes: HEADER.to_vec() }
    }

    /// A row, its fields in the order of the statement's columns and of their types.
    pub fn push(&mut self, fields: &[&dyn Field]) {
        let count = i16::try_from(fields.len()).expect("a table has at most 1,600 columns");
        self.bytes.extend(count.to_be_bytes());
        for field in fields {
            field.put(&mut self.bytes);
        }
    }

    /// Appends the rows to the table; without rows, the database is not asked.
    pub async fn append(mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.bytes.len() == HEADER.len() {
            return Ok(());
        }
        self.bytes.extend(TRAILER);
        let mut copy = connection.copy_in_raw(self.statement).await?;
        // What the rows are refused for is said at the end.
        copy.send(self.bytes).await?;
        copy.finish().await?;
        Ok(())
    }
}

/// A value in the binary form of the column it is meant for: its length, then its bytes.
pub(crate) trait Field: Sync {
    fn put(&self, out: &mut Vec<u8>);
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = i32::try_from(bytes.len()).expect("a payload is far below 2 GiB");
    out.extend(length.to_be_bytes());
    out.extend(bytes);
}

/// Puts what `write` writes, without a copy of it.
fn put_written(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend(NULL);
    write(out);
    let length = i32::try_from(out.len() - at - NULL.len()).expect("a payload is far below 2 GiB");
    out[at..at + NULL.len()].copy_from_slice(&length.to_be_bytes());
}

impl<T: Field + ?Sized> Field for &T {
    fn put(&self, out: &mut Vec<u8>) {
        (**self).put(out);
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.put(out),
            None => out.extend(NULL),
        }
    }
}

impl Field for Uuid {
    fn put(&self, out: &mut Vec<u8>) {
        put(out, self.as_bytes());
    }
}

impl Field for Position {
    fn put(&self, out: &mut Vec<u8>) {
        put(out, &self.0.to_be_bytes());
    }
}

impl Field for i32 {
    fn put(&self, out: &mut Vec<u8>) {
        put(out, &self.to_be_bytes());
    }
}

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        put(out, &[u8::from(*self)]);
    }
}

impl Field for str {
    fn put(&self, out: &mut Vec<u8>) {
        put(out, self.as_bytes());
    }
}

impl Field for [u8] {
    fn put(&self, out: &mut Vec<u8>) {
        put(out, self);
    }
}

impl Field for DateTime<Utc> {
    fn put(&self, out: &mut Vec<u8>) {
        put(out, &(self.timestamp_micros() - EPOCH_MICROS).to_be_bytes());
    }
}

/// As text, with its place.
impl Field for Sealed {
    fn put(&self, out: &mut Vec<u8>) {
        put_written(out, |out| write!(out, "{self}").expect("memory takes what is written"));
    }
}

/// Sealed, or absent: what is clear is never stored.
impl Field for Personal {
    fn put(&self, out: &mut Vec<u8>) {
        self.sealed().put(out);
    }
}
