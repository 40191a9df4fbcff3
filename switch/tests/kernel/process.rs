//! The process that asks the kernel.

use crate::frames::Way;
use flowproof_switch::conntrack::CtRequest;
use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// The exit status that says that the machine cannot do this.
const CANNOT: i32 = 77;

/// What the kernel says of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// As `new`, `est+rpl`, `inv`; `none` if no packet was looked up.
    pub(crate) state: String,
    /// The connection's mark before this packet.
    pub(crate) mark: u32,
    /// Bytes of the packet that was looked up.
    pub(crate) bytes: usize,
}

/// A running judge.
#[derive(Debug)]
pub(crate) struct Judge {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The kernel's release.
    pub(crate) release: String,
}

impl Judge {
    /// Starts one; or why this machine cannot.
    pub(crate) fn start() -> Result<Self, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/judge.py");
        let mut child = Command::new("unshare")
            .args(["-Urn", "python3", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let Some(release) = line.strip_prefix("ready ") else {
            let mut why = String::new();
            child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            let status = child.wait().unwrap();
            // Without a namespace the script never ran.
            let cannot = status.code() == Some(CANNOT) || why.starts_with("unshare: ");
            assert!(cannot, "the judge fails: {status}, {why}");
            return Err(why.trim().to_owned());
        };
        Ok(Self { child, input, output, release: release.trim().to_owned() })
    }

    fn tell(&mut self, command: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{command}").and_then(|()| input.flush()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        if self.output.read_line(&mut line).unwrap() == 0 {
            let mut why = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            panic!("the judge fails: {why}");
        }
        line.trim().to_owned()
    }

    /// Sends a frame.
    pub(crate) fn ask(&mut self, way: Way, frame: &[u8], request: &CtRequest) -> Seen {
        let way = if way == Way::There { "there" } else { "back" };
        let (commit, zone, mark) = (u8::from(request.commit), request.zone, request.mark.0);
        let mut command = format!("frame {way} {commit} {zone} {mark} ");
        for byte in frame {
            write!(command, "{byte:02x}").unwrap();
        }
        self.tell(&command);
        let answer = self.line();
        let words: Vec<&str> = answer.split_whitespace().collect();
        let [state, mark, bytes] = words[..] else { panic!("no answer: `{answer}`") };
        let number = |text: &str| text.split_once('=').unwrap().1.parse().unwrap();
        Seen { state: state.to_owned(), mark: number(mark), bytes: number(bytes) as usize }
    }

    /// The connections, one a line, as `/proc/net/nf_conntrack` shows them; none where the kernel does not show them.
    pub(crate) fn entries(&mut self) -> Option<Vec<String>> {
        self.tell("entries");
        let count: usize = self.line().parse().unwrap();
        let lines: Vec<String> = (0..count).map(|_| self.line()).collect();
        (lines != ["unknown"]).then_some(lines)
    }

    /// Forgets all connections.
    pub(crate) fn flush(&mut self) {
        self.tell("flush");
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.input.take());
        let _status = self.child.wait();
    }
}
