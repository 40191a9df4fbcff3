//! Progress on standard error while the work lasts, and what Ctrl-C does to it.

use flowproof_proofs::check::Watch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Work that takes no longer shows no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows on a terminal how far the work is, once it has taken a second; ends it on Ctrl-C.
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    interrupted: Arc<AtomicBool>,
    wants_each: bool,
}

impl Progress {
    /// Begins to watch work that is counted in parts.
    pub(crate) fn of_parts() -> Self {
        Self::new("{bar:40} {pos} of {len} parts, {elapsed}")
    }

    /// Begins to watch work that has no end of its own.
    pub(crate) fn of_words() -> Self {
        Self::new("{spinner} {elapsed}  {msg}")
    }

    /// A second Ctrl-C ends the process at once.
    fn new(template: &str) -> Self {
        let interrupted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupted);
        let _already_handled = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        });
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, started: Instant::now(), interrupted, wants_each: true }
    }

    /// The same, and packets are wanted for each port or not.
    pub(crate) fn wanting(self, each: bool) -> Self {
        Self { wants_each: each, ..self }
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Shows where things stand.
    pub(crate) fn show(&self, text: impl FnOnce() -> String) {
        if self.is_shown() {
            self.bar.set_message(text());
            self.bar.tick();
        }
    }

    fn is_shown(&self) -> bool {
        let shown = self.started.elapsed() > PATIENCE && io::stderr().is_terminal();
        if shown && self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        shown
    }

    /// Takes the line off the terminal.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Watch for Progress {
    fn wants_each(&self) -> bool {
        self.wants_each
    }

    fn done(&self, parts: usize) {
        self.bar.set_length(parts as u64);
        self.is_shown();
        self.bar.inc(1);
    }

    fn stop(&self) -> bool {
        self.interrupted()
    }
}
