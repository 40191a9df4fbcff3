//! Measuring, and the table of what was measured.
//!
//! Times are medians: criterion's where one run is short, of three runs where it is not; what takes more than five
//! seconds is run once. Memory is the peak of the
//! resident set of a process that does this work and nothing else.

use anyhow::{Context, Result, bail};
use criterion::Criterion;
use serde_json::Value;
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A run that takes longer is measured three times and not more.
const LONG: Duration = Duration::from_millis(700);
/// A run that takes longer is measured once.
const VERY_LONG: Duration = Duration::from_secs(5);
/// A process that takes longer is ended, and the table says so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a row says.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The work.
    pub(crate) work: String,
    /// Who does it.
    pub(crate) who: String,
    /// How long one piece takes; nothing where it was not finished.
    pub(crate) time: Option<Duration>,
    /// Peak memory, in KiB.
    pub(crate) memory: Option<u64>,
}

/// A curve: its chart, its name, and its points.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    /// Which chart it belongs to.
    pub(crate) chart: &'static str,
    /// Its name in the legend.
    pub(crate) name: String,
    /// Size and seconds.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Collects rows.
pub(crate) struct Bench {
    criterion: Criterion,
    directory: PathBuf,
    timed: u32,
    rows: Vec<Row>,
    curves: Vec<Curve>,
}

impl Bench {
    /// Criterion keeps its files in `directory`.
    pub(crate) fn new(directory: PathBuf) -> Self {
        let criterion = Criterion::default()
            .output_directory(&directory)
            .without_plots()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(2));
        Self { criterion, directory, timed: 0, rows: Vec::new(), curves: Vec::new() }
    }

    /// The median time of `work`.
    pub(crate) fn time<T>(&mut self, mut work: impl FnMut() -> T) -> Result<Duration> {
        let first = once(&mut work);
        if first > VERY_LONG {
            return Ok(first);
        }
        if first > LONG {
            let mut all = [first, once(&mut work), once(&mut work)];
            all.sort_unstable();
            let [_, median, _] = all;
            return Ok(median);
        }
        self.timed += 1;
        let name = format!("work{}", self.timed);
        self.criterion.bench_function(&name, |bencher| bencher.iter(&mut work));
        let text = fs::read_to_string(self.directory.join(&name).join("new/estimates.json"))?;
        let estimates: Value = serde_json::from_str(&text)?;
        let median = estimates.pointer("/median/point_estimate").and_then(Value::as_f64);
        Ok(Duration::from_secs_f64(median.context("criterion wrote no median")? / 1e9))
    }

    /// The shortest time of `work`, which is itself shorter than a slice of the scheduler: what other processes take
    /// from a busy machine does not count.
    pub(crate) fn shortest<T>(mut work: impl FnMut() -> T) -> Duration {
        let start = Instant::now();
        let mut shortest = once(&mut work);
        while start.elapsed() < Duration::from_secs(2) {
            shortest = shortest.min(once(&mut work));
        }
        shortest
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, work: &str, who: &str, time: Option<Duration>, memory: Option<u64>) {
        eprintln!("measured: {work}: {who}: {}", time.map_or_else(|| "not finished".to_owned(), duration));
        self.rows.push(Row { work: work.to_owned(), who: who.to_owned(), time, memory });
    }

    /// Adds a point to a curve.
    pub(crate) fn point(&mut self, chart: &'static str, name: &str, size: f64, time: Duration) {
        let point = (size, time.as_secs_f64());
        match self.curves.iter_mut().find(|curve| curve.chart == chart && curve.name == name) {
            Some(curve) => curve.points.push(point),
            None => self.curves.push(Curve { chart, name: name.to_owned(), points: vec![point] }),
        }
    }

    /// The curves.
    pub(crate) fn curves(&self) -> &[Curve] {
        &self.curves
    }

    /// The rows as a Markdown table. The first row of a work is what the others are compared with.
    pub(crate) fn table(&self) -> String {
        let mut out = String::from("| work | by | time | compared | peak memory |\n|---|---|---|---|---|\n");
        let mut first: Option<&Row> = None;
        for row in &self.rows {
            let known = first.filter(|first| first.work == row.work);
            let compared =
                known.and_then(|first| Some((first.time?, row.time?))).map_or_else(String::new, ratio);
            if known.is_none() {
                first = Some(row);
            }
            let work = if known.is_none() { row.work.as_str() } else { "" };
            let time = row.time.map_or_else(|| format!("> {} s", PATIENCE.as_secs()), duration);
            let memory = row.memory.map_or_else(String::new, |kib| format!("{} MiB", kib / 1024));
            let _infallible = writeln!(out, "| {work} | {} | {time} | {compared} | {memory} |", row.who);
        }
        out
    }
}

fn ratio((first, other): (Duration, Duration)) -> String {
    let times = other.as_secs_f64() / first.as_secs_f64().max(1e-12);
    if times >= 10.0 { format!("{times:.0}×") } else { format!("{times:.1}×") }
}

fn once<T>(work: &mut impl FnMut() -> T) -> Duration {
    let start = Instant::now();
    std::hint::black_box(work());
    start.elapsed()
}

fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.1} ms", s * 1e3),
        s if s >= 1e-6 => format!("{:.1} µs", s * 1e6),
        s => format!("{:.0} ns", s * 1e9),
    }
}

/// What a process needed.
pub(crate) struct Needed {
    /// Time, to within a millisecond; nothing if it was ended.
    pub(crate) time: Option<Duration>,
    /// Peak memory, in KiB.
    pub(crate) memory: Option<u64>,
}

/// Runs a process to its end, or to the end of patience. `fine` are the exit codes that mean it did its work.
pub(crate) fn process(command: &mut Command, fine: &[i32]) -> Result<Needed> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn()?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut memory = None;
    loop {
        memory = peak(&status).max(memory);
        if let Some(exit) = child.try_wait()? {
            if !exit.code().is_some_and(|code| fine.contains(&code)) {
                bail!("{command:?} ended with {exit}");
            }
            return Ok(Needed { time: Some(start.elapsed()), memory });
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(Needed { time: None, memory });
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn peak(status: &Path) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}
