//! How a body comes in, whatever it is written in: of bounded size, and in time.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
};
use futures::TryStreamExt;
use tokio::time::timeout;

use crate::error::{ApiError, Code};

/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes in a body at most.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The media type of a body without its parameters, in whatever case; empty when none is named.
pub fn media_type(headers: &HeaderMap) -> &str {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim()
}

/// All of a body.
pub async fn read(body: Body) -> Result<Bytes, ApiError> {
    let late = || ApiError::new(Code::BodyTooSlow, "the request body did not come in time");
    timeout(BODY_TIMEOUT, collect(body)).await.map_err(|_| late())?
}

/// Nearly always it comes in one piece, which is not copied.
async fn collect(body: Body) -> Result<Bytes, ApiError> {
    let mut pieces = body.into_data_stream().map_err(|_| ApiError::bad_request("invalid request body"));
    let (mut first, mut several) = (Bytes::new(), Vec::new());
    while let Some(piece) = pieces.try_next().await? {
        if first.len().max(several.len()) + piece.len() > BODY_BYTES_MAX {
            return Err(ApiError::new(Code::BodyTooLarge, "request body is larger than 1 MiB"));
        }
        if first.is_empty() {
            first = piece;
            continue;
        }
        if several.is_empty() {
            several.extend_from_slice(&first);
        }
        several.extend_from_slice(&piece);
    }
    Ok(if several.is_empty() { first } else { several.into() })
}

#[cfg(test)]
mod tests {
    use futures::stream::iter;

    use super::*;

    async fn read_pieces(pieces: &[&'static [u8]]) -> Result<Bytes, ApiError> {
        let pieces: Vec<Result<Bytes, std::io::Error>> =
            pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
        read(Body::from_stream(iter(pieces))).await
    }

    #[tokio::test]
    async fn a_body_is_whole_however_it_is_cut() {
        let cuts: [&[&[u8]]; 5] =
            [&[b"abcdef"], &[b"abc", b"def"], &[b"", b"ab", b"", b"c", b"def"], &[], &[b""]];
        let read = futures::future::join_all(cuts.map(read_pieces)).await;
        let read: Vec<Bytes> = read.into_iter().map(|body| body.expect("it is short")).collect();
        assert_eq!(read, [&b"abcdef"[..], b"abcdef", b"abcdef", b"", b""]);
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_not_read_to_its_end() {
        static MEBIBYTE: [u8; BODY_BYTES_MAX] = [b'x'; BODY_BYTES_MAX];
        assert_eq!(read_pieces(&[&MEBIBYTE]).await.expect("as large as may be").len(), BODY_BYTES_MAX);
        for pieces in [&[&MEBIBYTE[..], b"x"][..], &[b"x", &MEBIBYTE], &[&MEBIBYTE[1..], b"x", b"x"]] {
            let refused = read_pieces(pieces).await.expect_err("it is larger");
            assert_eq!(refused.code, Code::BodyTooLarge);
        }
    }
}
