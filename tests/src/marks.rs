//! Looking for what must not be somewhere, in whatever way it may be written there.
//!
//! A mark is letters and digits in a row wherever that can be chosen: JSON, SQL, shells and
//! percent-encoding then leave it as it is, and only encodings of bytes remain. UTF-16 is searched
//! too, for nothing here writes it; compressed data is not.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// Fewer characters could stand somewhere by chance.
const BYTES_MIN: usize = 12;
/// What is shown around a finding.
const AROUND: usize = 60;

/// Names one of [`Marks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(usize);

/// A way a mark may be written.
struct Form {
    mark: Mark,
    encoding: &'static str,
    bytes: Vec<u8>,
}

/// Forms by their first two bytes, which tell most places apart.
#[derive(Default)]
struct Forms(HashMap<[u8; 2], Vec<Form>>);

/// What is looked for.
#[derive(Default)]
pub struct Marks {
    names: Vec<String>,
    /// In lower case, to be found in any.
    folded: Forms,
    exact: Forms,
}

/// Where a mark was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub mark: Mark,
    pub what: String,
    pub encoding: &'static str,
    pub around: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {}: …{}…", self.what, self.encoding, self.around)
    }
}

impl Marks {
    /// Adds something to look for.
    ///
    /// # Panics
    /// When it is so short that it could stand anywhere by chance.
    pub fn add(&mut self, what: impl Into<String>, mark: impl AsRef<[u8]>) -> Mark {
        let (what, bytes) = (what.into(), mark.as_ref());
        assert!(bytes.len() >= BYTES_MIN, "{what} is too short to be looked for");
        let mark = Mark(self.names.len());
        self.names.push(what);
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let decimals: Vec<String> = bytes.iter().map(u8::to_string).collect();
        let folded = [
            ("text", bytes.to_ascii_lowercase()),
            ("hex", hex.into_bytes()),
            ("a list of bytes", decimals.join(", ").into_bytes()),
            ("UTF-16", bytes.iter().flat_map(|byte| [byte.to_ascii_lowercase(), 0]).collect()),
        ];
        for (encoding, bytes) in folded {
            self.folded.push(Form { mark, encoding, bytes });
        }
        // Base64 of a longer text holds that of a part of it in one of three alignments, but for the
        // characters at either end that the neighbours have bits in.
        for before in 0..3 {
            let padded = [&[0; 2][..before], bytes].concat();
            let whole = padded.len() * 8 / 6;
            let shared = [0, 2, 3][before];
            let plain = STANDARD_NO_PAD.encode(&padded)[shared..whole].to_owned();
            let url = URL_SAFE_NO_PAD.encode(&padded)[shared..whole].to_owned();
            if url != plain {
                self.exact.push(Form { mark, encoding: "base64url", bytes: url.into() });
            }
            self.exact.push(Form { mark, encoding: "base64", bytes: plain.into() });
        }
        mark
    }

    /// Every mark that stands in these bytes, once for each way it is written.
    #[must_use]
    pub fn find(&self, haystack: &[u8]) -> Vec<Finding> {
        let mut found = BTreeMap::new();
        for (forms, haystack) in [(&self.folded, &haystack.to_ascii_lowercase()[..]), (&self.exact, haystack)]
        {
            forms.find(haystack, |form, at| {
                found.entry((form.mark, form.encoding)).or_insert_with(|| {
                    let end = haystack.len().min(at + form.bytes.len() + AROUND);
                    String::from_utf8_lossy(&haystack[at.saturating_sub(AROUND)..end])
                        .escape_default()
                        .to_string()
                });
            });
        }
        let named = |((mark, encoding), around): ((Mark, _), _)| {
            let what = self.names[mark.0].clone();
            Finding { mark, what, encoding, around }
        };
        found.into_iter().map(named).collect()
    }
}

impl Forms {
    fn push(&mut self, form: Form) {
        self.0.entry([form.bytes[0], form.bytes[1]]).or_default().push(form);
    }

    fn find<'a>(&'a self, haystack: &[u8], mut found: impl FnMut(&'a Form, usize)) {
        // A table of bits answers for nearly every place without a look at the forms.
        let mut begins = vec![false; 1 << 16];
        let pair = |first: u8, second: u8| usize::from(first) << 8 | usize::from(second);
        for [first, second] in self.0.keys() {
            begins[pair(*first, *second)] = true;
        }
        let mut before = 0;
        for (end, byte) in haystack.iter().enumerate() {
            if begins[pair(before, *byte)] && end > 0 {
                let at = end - 1;
                for form in self.0.get(&[before, *byte]).into_iter().flatten() {
                    if haystack[at..].starts_with(&form.bytes) {
                        found(form, at);
                    }
                }
            }
            before = *byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five of `>` in a row: whatever the alignment, the two alphabets of base64 write it differently.
    const SECRET: &str = "mark>>>>>Zoë0123456";

    fn encodings(haystack: &[u8]) -> Vec<&'static str> {
        let mut marks = Marks::default();
        marks.add("another", "something else altogether");
        let secret = marks.add("the secret", SECRET);
        let found = marks.find(haystack);
        assert!(found.iter().all(|finding| finding.mark == secret && finding.what == "the secret"));
        found.into_iter().map(|finding| finding.encoding).collect()
    }

    #[test]
    fn a_mark_is_found_however_it_is_written() {
        let hex = SECRET.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02X}"));
        let sixteen: Vec<u8> =
            SECRET.to_uppercase().replace('Ë', "ë").bytes().flat_map(|byte| [byte, 0]).collect();
        for (encoding, text) in [
            ("text", format!("before {SECRET} after").into_bytes()),
            ("text", SECRET.to_ascii_uppercase().into_bytes()),
            ("hex", format!("\\x00{hex}ff").into_bytes()),
            ("a list of bytes", format!("{:?}", SECRET.as_bytes()).into_bytes()),
            ("UTF-16", sixteen),
        ] {
            assert_eq!(encodings(&text), [encoding], "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn base64_is_found_in_every_alignment_and_both_alphabets() {
        for before in 0..7 {
            for after in 0..4 {
                let longer = format!("{}{SECRET}{}", "~".repeat(before), "~".repeat(after));
                assert_eq!(encodings(STANDARD_NO_PAD.encode(&longer).as_bytes()), ["base64"], "{longer}");
                assert_eq!(encodings(URL_SAFE_NO_PAD.encode(&longer).as_bytes()), ["base64url"], "{longer}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert_eq!(encodings(format!("{} {}", &SECRET[1..], &SECRET[..15]).as_bytes()), [""; 0]);
    }
}
