//! Content codings (RFC 9110, 8.4.1): what a body means, whatever it was packed in on its way.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::StreamingDecoder;

use crate::answer::Answer;
use crate::judge::Failure;
use crate::limits::{ANSWER_COPY_BYTES_MAX, CODINGS_MAX};

/// Why a body cannot be unpacked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
enum CodingError {
    /// None that is known here.
    #[error(
        "content-encoding: expected at most {CODINGS_MAX} of gzip, deflate, br, zstd and identity, got {0:?}"
    )]
    Unknown(String),
    /// The bytes are not what the header says.
    #[error("content-encoding {coding}: {why}")]
    Broken {
        /// What the header says.
        coding: String,
        /// What is wrong.
        why: String,
    },
    /// It is longer than what is compared.
    #[error("content-encoding {coding}: expected at most {most} bytes in it, got more")]
    TooLong {
        /// What the header says.
        coding: String,
        /// The limit.
        most: usize,
    },
}

/// An answer with its content coding taken off its body.
///
/// # Errors
/// Where that cannot be done: nobody knows then what it says.
pub fn plain(mut answer: Answer) -> Result<Answer, Failure> {
    // A body of no bytes (HEAD, 304) says what it would have been packed in.
    if let Some(codings) = answer.stated.content_encoding.as_deref().filter(|_| !answer.body.is_empty()) {
        let body = unpacked(codings, &answer.body, ANSWER_COPY_BYTES_MAX);
        let body = body.map_err(|error| Failure::protocol(&error))?;
        answer.packed = Some(std::mem::replace(&mut answer.body, Bytes::from(body)));
    }
    Ok(answer)
}

/// Unpacks `bytes`, whose `Content-Encoding` is `codings`, into at most `most` bytes.
///
/// # Errors
/// Where they cannot be unpacked to their end.
fn unpacked(codings: &str, bytes: &[u8], most: usize) -> Result<Vec<u8>, CodingError> {
    let names: Vec<&str> = codings.split(',').map(str::trim).filter(|name| *name != "identity").collect();
    if names.len() > CODINGS_MAX {
        return Err(CodingError::Unknown(codings.to_owned()));
    }
    // The last that was applied is the first to be taken off.
    names.iter().rev().try_fold(bytes.to_vec(), |bytes, name| one(name, &bytes, most))
}

fn one(coding: &str, bytes: &[u8], most: usize) -> Result<Vec<u8>, CodingError> {
    let out = match coding {
        "gzip" | "x-gzip" => whole(flate2::read::MultiGzDecoder::new(bytes), most),
        // RFC 9110 means zlib's format; some servers have always sent the bare one.
        "deflate" => inflated(bytes, Wrapper::Zlib, most).or_else(|_| inflated(bytes, Wrapper::None, most)),
        "br" => whole(brotli_decompressor::Decompressor::new(bytes, 4_096), most),
        "zstd" => frames(bytes, most),
        other => return Err(CodingError::Unknown(other.to_owned())),
    };
    let coding = coding.to_owned();
    match out {
        Ok(out) if out.len() > most => Err(CodingError::TooLong { coding, most }),
        Ok(out) => Ok(out),
        Err(error) => Err(CodingError::Broken { coding, why: error.to_string() }),
    }
}

/// Reads to the end, and one byte past `most` at the furthest.
fn whole(reader: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(most as u64 + 1).read_to_end(&mut out)?;
    Ok(out)
}

/// One zstd frame after the other.
fn frames(mut bytes: &[u8], most: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let decoder =
            StreamingDecoder::new(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        out.append(&mut whole(decoder, most)?);
        if bytes.is_empty() || out.len() > most {
            return Ok(out);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrapper {
    Zlib,
    None,
}

/// By hand: flate2's readers take a stream that breaks off for one that has ended.
fn inflated(bytes: &[u8], wrapper: Wrapper, most: usize) -> io::Result<Vec<u8>> {
    let mut stream = Decompress::new(wrapper == Wrapper::Zlib);
    let mut out = Vec::new();
    loop {
        if out.len() > most {
            return Ok(out);
        }
        out.reserve(out.len().max(4_096));
        let (taken, given) = (stream.total_in(), out.len());
        let rest = &bytes[usize::try_from(taken).unwrap_or(usize::MAX)..];
        let status = stream.decompress_vec(rest, &mut out, FlushDecompress::Finish)?;
        let has_moved = stream.total_in() > taken || out.len() > given;
        match status {
            Status::StreamEnd if stream.total_in() == bytes.len() as u64 => return Ok(out),
            Status::StreamEnd => return Err(io::Error::other("there are bytes behind its end")),
            Status::Ok | Status::BufError if has_moved => {}
            Status::Ok | Status::BufError => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;
    use crate::answer::{Form, Moment, Stated};

    const TEXT: &str = r#"{"user_id":"42","version":"7","balances":[{"asset":"COIN","available":"1200"}]}"#;
    const MOST: usize = 1 << 20;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    fn packed() -> Vec<(&'static str, Vec<u8>)> {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(TEXT.as_bytes()).unwrap();
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::fast());
        bare.write_all(TEXT.as_bytes()).unwrap();
        let zstd =
            ruzstd::encoding::compress_to_vec(TEXT.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest);
        vec![
            ("gzip", gzip(TEXT.as_bytes())),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", bare.finish().unwrap()),
            ("br", STANDARD.decode(BROTLI).unwrap()),
            ("zstd", zstd),
        ]
    }

    /// `TEXT`, packed by the reference implementation.
    const BROTLI: &str = "G04AwC0LeHOHKj/oiBFlzOWyOPW1iMzWXqcccltb8ygp4OOTpasvdEoEJufI6Frkq2wubMABc6CRL7sPfJZAJ0+vPhhAIgw/ducbLwUjCu0G";

    #[test]
    fn every_coding_is_taken_off() {
        for (coding, bytes) in packed() {
            assert_ne!(bytes, TEXT.as_bytes(), "{coding}");
            assert_eq!(unpacked(coding, &bytes, MOST).unwrap(), TEXT.as_bytes(), "{coding}");
        }
        assert_eq!(unpacked("identity", TEXT.as_bytes(), MOST).unwrap(), TEXT.as_bytes());
        let twice = gzip(&gzip(TEXT.as_bytes()));
        assert_eq!(unpacked("gzip, gzip", &twice, MOST).unwrap(), TEXT.as_bytes());
    }

    #[test]
    fn a_body_that_breaks_off_anywhere_or_goes_on_is_no_body() {
        for (coding, bytes) in packed() {
            for cut in 0..bytes.len() {
                let broken = unpacked(coding, &bytes[..cut], MOST);
                assert!(
                    matches!(broken, Err(CodingError::Broken { .. })),
                    "{coding} cut at {cut}: {broken:?}"
                );
            }
            let more = [&bytes[..], b"more"].concat();
            // Brotli's decoders leave alone what stands behind the end; the bytes are told apart all the same.
            let allows = coding == "br";
            assert!(
                allows || unpacked(coding, &more, MOST).ok().as_deref() != Some(TEXT.as_bytes()),
                "{coding}"
            );
        }
    }

    #[test]
    fn a_small_body_may_not_grow_without_bound() {
        let zeros = gzip(&vec![0; 10 << 20]);
        assert!(zeros.len() < 20_000);
        let error = unpacked("gzip", &zeros, 1_000).unwrap_err();
        assert_eq!(error, CodingError::TooLong { coding: "gzip".to_owned(), most: 1_000 });
        assert_eq!(unpacked("gzip", &gzip(&[0; 1_000]), 1_000).unwrap().len(), 1_000);
    }

    #[test]
    fn an_answer_keeps_what_it_came_in() {
        let answer = |coding: Option<&str>, body: Vec<u8>| Answer {
            status: 200,
            form: Form::Http,
            stated: Stated { content_encoding: coding.map(str::to_owned), ..Stated::default() },
            body: Bytes::from(body),
            packed: None,
            at: Moment::default(),
        };
        let came = gzip(TEXT.as_bytes());
        let read = plain(answer(Some("gzip"), came.clone())).unwrap();
        assert_eq!((read.body, read.packed), (Bytes::from_static(TEXT.as_bytes()), Some(Bytes::from(came))));
        assert_eq!(plain(answer(None, b"x".to_vec())).unwrap().packed, None);
        assert!(plain(answer(Some("gzip"), TEXT.as_bytes().to_vec())).is_err());
        // HEAD says what GET would have been packed in.
        assert!(plain(answer(Some("gzip"), Vec::new())).unwrap().packed.is_none());
    }

    #[test]
    fn what_is_not_known_is_named() {
        let error = unpacked("compress", b"x", MOST).unwrap_err().to_string();
        assert!(error.contains("gzip, deflate, br, zstd") && error.contains("\"compress\""), "{error}");
        assert!(unpacked("gzip,gzip,gzip", b"x", MOST).is_err());
    }
}
