//! Reading files and standard input, within bounds.
//!
//! Invariant: memory stays bounded whatever the input is; every complaint names the file and, where there is one, the
//! line and the column, and holds no control characters that could disturb a terminal. What gzip has packed is read
//! as what it was; lines are those of what it was, and the hash is that of the file.

use crate::failure::Failure;
use flate2::read::MultiGzDecoder;
use flowproof_switch::flow::{FlowFile, ParseErrors, ParseOptions, parse_bytes, read_text};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes of a file that is no flow file: captures, lists of ports.
const LARGEST_INPUT: u64 = 1 << 28;

/// Whether `path` means standard input.
fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The name of an input in messages and reports.
pub(crate) fn name(path: &Path) -> String {
    if is_stdin(path) { "<stdin>".to_owned() } else { printable(&path.display().to_string()) }
}

/// `text` without control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The operating system's complaint about an input, as other tools print it: without the number.
pub(crate) fn io_failure(path: &Path, error: &io::Error) -> Failure {
    let text = error.to_string();
    let mut chars = text.split(" (os error").next().unwrap_or(&text).chars();
    let text: String =
        chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default();
    Failure::input([format!("{}: {text}", name(path))])
}

fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if is_stdin(path) {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(File::open(path).map_err(|error| io_failure(path, &error))?))
}

/// All bytes of an input.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut file = open(path)?;
    let read = unpacked(&mut file).and_then(|plain| plain.take(LARGEST_INPUT + 1).read_to_end(&mut bytes));
    read.map_err(|error| io_failure(path, &error))?;
    if bytes.len() as u64 > LARGEST_INPUT {
        return Err(Failure::input([format!("{}: larger than {} MiB", name(path), LARGEST_INPUT >> 20)]));
    }
    Ok(bytes)
}

/// What the input holds: its bytes, or what gzip made them of.
fn unpacked<'r>(input: &'r mut dyn Read) -> io::Result<Box<dyn Read + 'r>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let mut begin = Vec::with_capacity(GZIP.len());
    (&mut *input).take(GZIP.len() as u64).read_to_end(&mut begin)?;
    let packed = begin == GZIP;
    let whole = io::Cursor::new(begin).chain(input);
    Ok(if packed { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) })
}

/// The text of flows, and the SHA-256 of the file's bytes in hex.
pub(crate) fn read_flow_text(path: &Path) -> Result<(Vec<u8>, String), Failure> {
    let mut file = Hashed { inner: open(path)?, hash: Sha256::new() };
    let text = unpacked(&mut file).and_then(read_text).map_err(|error| io_failure(path, &error))?;
    let text = text.map_err(|errors| flow_failure(&name(path), &errors))?;
    Ok((text, file.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// The flows of an input, and the SHA-256 of its bytes in hex.
pub(crate) fn read_flows(path: &Path, options: &ParseOptions) -> Result<(FlowFile, String), Failure> {
    let (text, hash) = read_flow_text(path)?;
    let file = parse_bytes(&text, options).map_err(|errors| flow_failure(&name(path), &errors))?;
    Ok((file, hash))
}

/// Hashes what it reads.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// What is wrong with the text of flows, each with its place.
pub(crate) fn flow_failure(name: &str, errors: &ParseErrors) -> Failure {
    let place = |line, column| if line == 0 { name.to_owned() } else { format!("{name}:{line}:{column}") };
    let mut messages: Vec<_> = errors
        .errors
        .iter()
        .map(|error| match error.text.as_str() {
            "" => format!("{}: {}", place(error.line, error.column), error.message),
            text => format!("{}: {}: `{}`", place(error.line, error.column), error.message, printable(text)),
        })
        .collect();
    if errors.truncated {
        messages.push(format!("{name}: more errors follow"));
    }
    if errors.try_lenient {
        messages.push(format!("{name}: `--lenient` joins wrapped flows and passes over prose"));
    }
    Failure::input(messages)
}

/// Complains if standard input is asked for more than once: it can be read only once.
pub(crate) fn only_one_stdin<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), Failure> {
    match paths.into_iter().filter(|path| is_stdin(path)).count() {
        0 | 1 => Ok(()),
        _ => Err(Failure::input(["`-` (standard input) can be read only once".to_owned()])),
    }
}
