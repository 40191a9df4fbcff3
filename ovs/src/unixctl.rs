//! The control socket of a daemon: JSON-RPC 1.0, objects back to back.
//!
//! Source: ovs-appctl(8); RFC 7047 section 4.

use crate::error::EnvError;
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to one daemon.
#[derive(Debug)]
pub(crate) struct Unixctl {
    stream: UnixStream,
    received: Vec<u8>,
    scanner: Scanner,
    next_id: u64,
}

/// Finds the end of a JSON object in bytes that come in pieces.
#[derive(Debug, Default)]
struct Scanner {
    /// Bytes looked at.
    at: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Scanner {
    /// The length of the first object, once it is complete.
    fn object(&mut self, bytes: &[u8]) -> Option<usize> {
        for byte in bytes.iter().skip(self.at) {
            self.at += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(std::mem::take(self).at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

impl Unixctl {
    pub(crate) fn connect(path: &Path) -> Result<Self, EnvError> {
        let failed = || EnvError::file("connect to", path);
        let stream = UnixStream::connect(path).map_err(failed())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed())?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed())?;
        Ok(Self { stream, received: Vec::new(), scanner: Scanner::default(), next_id: 0 })
    }

    /// One command and its answer.
    pub(crate) fn call(&mut self, method: &str, arguments: &[&str]) -> Result<String, EnvError> {
        self.calls(&[(method, arguments)])?.pop().unwrap_or(Err(EnvError::answer("")))
    }

    /// Several commands at once, and their answers. The daemon carries them out in order.
    pub(crate) fn calls(
        &mut self,
        commands: &[(&str, &[&str])],
    ) -> Result<Vec<Result<String, EnvError>>, EnvError> {
        let mut text = Vec::with_capacity(256 * commands.len());
        for (method, arguments) in commands {
            self.next_id += 1;
            let object = json!({"id": self.next_id, "method": method, "params": arguments});
            text.extend(object.to_string().into_bytes());
        }
        self.stream.write_all(&text).map_err(|error| lost(&error))?;
        commands.iter().map(|(method, _)| self.answer(method)).collect()
    }

    fn answer(&mut self, method: &str) -> Result<Result<String, EnvError>, EnvError> {
        let length = loop {
            if let Some(length) = self.scanner.object(&self.received) {
                break length;
            }
            let mut chunk = [0; 1 << 16];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(EnvError::Ended { log: "the control socket closed".to_owned() }),
                Ok(count) => self.received.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(&error)),
            }
        };
        let object: Vec<u8> = self.received.drain(..length).collect();
        let unexpected = || EnvError::answer(&String::from_utf8_lossy(&object));
        let mut object: Value = serde_json::from_slice(&object).map_err(|_| unexpected())?;
        let mut part = |name| match object.get_mut(name).map(Value::take) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(other) => Some(other.to_string()),
        };
        Ok(match part("error") {
            Some(message) => {
                Err(EnvError::Command { command: method.to_owned(), message: message.trim().to_owned() })
            }
            None => Ok(part("result").unwrap_or_default()),
        })
    }
}

fn lost(error: &std::io::Error) -> EnvError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => EnvError::Timeout { what: "a command".to_owned() },
        kind => EnvError::Ended { log: kind.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that is there, with nobody behind it, is a failure of the machine; so is one that hangs up.
    #[test]
    fn a_socket_that_refuses_or_hangs_up_is_no_answer() {
        let path = std::env::temp_dir().join(format!("flowproof-refused-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut caller = Unixctl::connect(&path).unwrap();
        drop(listener.accept().unwrap());
        let hung_up = caller.call("version", &[]).unwrap_err();
        assert!(matches!(hung_up, EnvError::Ended { .. }), "{hung_up}");
        drop(listener);
        let refused = Unixctl::connect(&path).unwrap_err();
        std::fs::remove_file(&path).unwrap();
        let EnvError::Io { source, .. } = &refused else { panic!("{refused}") };
        assert_eq!(source.kind(), ErrorKind::ConnectionRefused, "{refused}");
        assert!(!refused.is_missing());
    }

    #[test]
    fn objects_are_told_apart_wherever_they_are_cut() {
        let first = r#"{"id":1,"result":"a \"}{\" \\","error":null}"#;
        let both = format!("{first}\n{{\"id\":2,\"params\":[\"]\"]}}");
        for cut in 0..both.len() {
            let mut scanner = Scanner::default();
            let early = scanner.object(&both.as_bytes()[..cut]);
            let found = early.or_else(|| scanner.object(both.as_bytes()));
            assert_eq!(found, Some(first.len()), "cut at {cut}");
            assert_eq!(scanner.object(&both.as_bytes()[first.len()..]), Some(both.len() - first.len()));
        }
    }
}
