//! `--watch`: proves again when the file of the flows is another one.
//!
//! Only senders' properties are kept from one time to the next; what else is asked (isolation, agreement with an intent) is
//! proved anew each time. A file that cannot be read, or is not finished, is complained about, and waited for.

use super::{Options, once};
use crate::console::{Console, complain};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::text::count;
use flowproof_proofs::check::{Findings, Task};
use flowproof_proofs::incremental::{Again, Kept, check_again};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// How often the file is looked at.
const EVERY: Duration = Duration::from_millis(50);

/// What tells one version of a file from another.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(path: &Path) -> Stamp {
    let data = path.metadata().ok()?;
    Some((data.modified().ok()?, data.len()))
}

/// Proves until somebody presses Ctrl-C.
pub(super) fn run(options: &Options, console: &Console, progress: &Progress) -> Result<Exit, Failure> {
    let flows = &options.flows.flows;
    if flows.as_os_str() == "-" {
        return Err(Failure::input(["--watch wants a file, not standard input".to_owned()]));
    }
    let mut kept = None;
    let mut seen = stamp(flows);
    once(options, console, progress, Some(&mut kept))?;
    let mut last = seen;
    while !progress.interrupted() {
        std::thread::sleep(EVERY);
        let now = stamp(flows);
        // Who writes a large file writes it in pieces.
        let settled = now == last;
        last = now;
        if settled && now.is_some() && now != seen {
            seen = now;
            if let Err(failure) = once(options, console, progress, Some(&mut kept)) {
                complain(&failure.to_string());
            }
        }
    }
    Ok(Exit::Interrupted)
}

/// What of senders' properties must be proved again, with what is kept of the others.
pub(super) fn again(task: &Task<'_>, kept: &mut Option<Kept>, console: &Console) -> Findings {
    let started = Instant::now();
    let first = kept.is_none();
    let Again { findings, proved, changed, kept: now } = check_again(task, kept.take());
    *kept = Some(now);
    if !first {
        let flows = count(changed, "flow");
        let ports = count(task.ports.len(), "port");
        let seconds = started.elapsed().as_secs_f64();
        console.remark(&format!("{flows} changed; {} of {ports} proved again, {seconds:.3} s", proved.len()));
    }
    findings
}
