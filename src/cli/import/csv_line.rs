//! One line of CSV → its fields (RFC 4180), without forgiveness.
//!
//! The `csv` crate reads what it can: it goes on over line ends after a quote that nobody closed, and makes `100` of
//! `"1"00`. In a file of money both are mistakes to be told.

use csv::ByteRecord;

/// Why a line is no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuoteError {
    /// No second quote.
    #[error("column {column}: expected a closing quote before the line's end: a record may not span lines")]
    Open {
        /// From 1.
        column: usize,
    },
    /// Something behind the closing quote.
    #[error("column {column}: expected a comma or the line's end behind the closing quote")]
    Behind {
        /// From 1.
        column: usize,
    },
    /// A quote in a field that does not begin with one.
    #[error(
        "column {column}: expected a field with a quote in it to be quoted, and its quotes to be doubled"
    )]
    Inside {
        /// From 1.
        column: usize,
    },
}

/// Fills `record` with the fields of `line`. After an error it holds the pieces between the commas, as they came.
pub fn split(line: &[u8], record: &mut ByteRecord) -> Result<(), QuoteError> {
    record.clear();
    if memchr::memchr(b'"', line).is_none() {
        line.split(|&byte| byte == b',').for_each(|field| record.push_field(field));
        return Ok(());
    }
    split_quoted(line, record).inspect_err(|_| {
        record.clear();
        line.split(|&byte| byte == b',').for_each(|piece| record.push_field(piece));
    })
}

fn split_quoted(line: &[u8], record: &mut ByteRecord) -> Result<(), QuoteError> {
    let mut rest = line;
    let mut field = Vec::new();
    for column in 1.. {
        let Some(mut quoted) = rest.strip_prefix(b"\"") else {
            let end = memchr::memchr(b',', rest).unwrap_or(rest.len());
            if rest[..end].contains(&b'"') {
                return Err(QuoteError::Inside { column });
            }
            record.push_field(&rest[..end]);
            let Some(next) = rest.get(end + 1..) else { break };
            rest = next;
            continue;
        };
        field.clear();
        loop {
            let end = memchr::memchr(b'"', quoted).ok_or(QuoteError::Open { column })?;
            field.extend_from_slice(&quoted[..end]);
            quoted = &quoted[end + 1..];
            let Some(doubled) = quoted.strip_prefix(b"\"") else { break };
            field.push(b'"');
            quoted = doubled;
        }
        record.push_field(&field);
        match quoted.split_first() {
            None => break,
            Some((b',', next)) => rest = next,
            Some(_) => return Err(QuoteError::Behind { column }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(line: &str) -> Result<Vec<String>, QuoteError> {
        let mut record = ByteRecord::new();
        split(line.as_bytes(), &mut record)?;
        Ok(record.iter().map(|field| String::from_utf8(field.to_vec()).unwrap()).collect())
    }

    #[test]
    fn quotes_are_read_as_rfc_4180_has_them_or_refused() {
        for (line, expected) in [
            ("a,b", &["a", "b"][..]),
            ("", &[""]),
            ("a,", &["a", ""]),
            (",\"\"", &["", ""]),
            ("\"a,b\",\"say \"\"c\"\"\"", &["a,b", "say \"c\""]),
            ("\"a\",", &["a", ""]),
        ] {
            assert_eq!(fields(line).unwrap(), expected, "{line}");
        }
        for (line, refusal) in [
            ("a,\"b", QuoteError::Open { column: 2 }),
            ("\"", QuoteError::Open { column: 1 }),
            ("\"a\"\"", QuoteError::Open { column: 1 }),
            ("\"1\"00,b", QuoteError::Behind { column: 1 }),
            ("\"a\" ,b", QuoteError::Behind { column: 1 }),
            ("a,b,1\"0\"", QuoteError::Inside { column: 3 }),
        ] {
            assert_eq!(fields(line), Err(refusal), "{line}");
        }
    }

    proptest! {
        /// What the `csv` crate writes on one line is read as it was meant.
        #[test]
        fn what_is_written_is_read(written in prop::collection::vec("[a-c\",]{0,5}", 2..8)) {
            let mut csv = csv::Writer::from_writer(Vec::new());
            csv.write_record(&written).unwrap();
            let line = String::from_utf8(csv.into_inner().unwrap()).unwrap();
            prop_assert_eq!(fields(line.trim_end_matches('\n')).unwrap(), written);
        }

        #[test]
        fn whatever_is_refused_is_kept_whole(line in "[ab\",]{0,12}") {
            let mut record = ByteRecord::new();
            if split(line.as_bytes(), &mut record).is_err() {
                prop_assert_eq!(record.iter().collect::<Vec<_>>().join(&b","[..]), line.as_bytes());
            }
        }
    }
}
