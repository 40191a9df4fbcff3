//! The capture of what left by one port, read while the switch writes it.
//!
//! Source: pcap-savefile(5).

use crate::error::EnvError;
use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Seek},
    path::PathBuf,
};

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// Bytes after which what was read is cut off.
const CUT_AFTER: u64 = 1 << 22;

/// The growing end of a capture.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    file: Option<File>,
    pending: Vec<u8>,
    skip: usize,
    since_cut: u64,
}

impl Tail {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path, file: None, pending: Vec::new(), skip: FILE_HEADER, since_cut: 0 }
    }

    /// The frames that were written since the last time.
    pub(crate) fn read(&mut self) -> Result<Vec<Vec<u8>>, EnvError> {
        if self.file.is_none() {
            match OpenOptions::new().read(true).write(true).open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(EnvError::file("open", &self.path)(error)),
            }
        }
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        let mut chunk = [0; 1 << 14];
        loop {
            let count = file.read(&mut chunk).map_err(EnvError::file("read", &self.path))?;
            self.since_cut += count as u64;
            self.pending.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if count < chunk.len() {
                break;
            }
        }
        if self.since_cut > CUT_AFTER {
            // The switch appends, so it goes on at the beginning.
            let cut = file.set_len(0).and_then(|()| file.rewind());
            cut.map_err(EnvError::file("truncate", &self.path))?;
            self.since_cut = 0;
        }
        Ok(self.complete())
    }

    /// Whether the last record is cut short. The switch writes records whole unless there is no space.
    pub(crate) const fn is_cut_short(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The whole records among the pending bytes.
    fn complete(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut rest = self.pending.as_slice();
        if self.skip > 0 {
            let Some(behind) = rest.get(self.skip..) else { return frames };
            rest = behind;
            self.skip = 0;
        }
        while let Some((header, behind)) = rest.split_first_chunk::<RECORD_HEADER>() {
            // Seconds, microseconds, bytes in the file, bytes on the wire; the switch writes its own byte order.
            let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = *header;
            let length = u32::from_ne_bytes([a, b, c, d]) as usize;
            let Some((frame, behind)) = behind.split_at_checked(length) else { break };
            frames.push(frame.to_vec());
            rest = behind;
        }
        let used = self.pending.len() - rest.len();
        self.pending.drain(..used);
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_cut_short_is_noticed() {
        let mut tail = Tail::new(PathBuf::new());
        tail.pending = vec![0; FILE_HEADER + RECORD_HEADER - 1];
        assert!(tail.complete().is_empty() && tail.is_cut_short());
    }

    #[test]
    fn records_are_whole_wherever_the_file_ends() {
        let mut file = vec![0; FILE_HEADER];
        for frame in [&b"first"[..], b"", b"third one"] {
            file.extend([0; 8]);
            file.extend((frame.len() as u32).to_ne_bytes());
            file.extend([0; 4]);
            file.extend(frame);
        }
        for cut in 0..=file.len() {
            let mut tail = Tail::new(PathBuf::new());
            let mut frames = Vec::new();
            for part in [&file[..cut], &file[cut..]] {
                tail.pending.extend_from_slice(part);
                frames.extend(tail.complete());
            }
            assert!(!tail.is_cut_short());
            assert_eq!(frames, [&b"first"[..], b"", b"third one"], "cut at {cut}");
        }
    }
}
