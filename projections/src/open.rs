//! Opening the sealed columns of rows, all in one go.

use tally_events::Personal;
use tally_store::KeyRing;

use crate::users::QueryError;

/// The sealed columns of one row, in the clear. Of an erased subject's, and of what was cleared, nothing
/// is left.
pub(crate) type Opened<const N: usize> = [Option<String>; N];

/// Opens the sealed columns of rows.
pub(crate) async fn open_rows<const N: usize>(
    keys: &KeyRing,
    rows: &[[Option<&str>; N]],
) -> Result<Vec<Opened<N>>, QueryError> {
    let present: Vec<&str> = rows.iter().flatten().copied().flatten().collect();
    let mut opened = keys.open_texts(&present).await?.into_iter();
    let mut open = |column: Option<&str>| {
        let text = column.and_then(|_| opened.next().flatten())?;
        Some(text.as_str().to_owned()).filter(|text| !text.is_empty())
    };
    Ok(rows.iter().map(|row| row.map(&mut open)).collect())
}

/// The text that stands for a personal field: sealed, with its place.
pub(crate) fn sealed(personal: &Personal) -> Option<String> {
    personal.sealed().map(ToString::to_string)
}
