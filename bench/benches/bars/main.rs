//! How fast it is, side by side in one run: this workspace, a real Open vSwitch, Z3 alone, other diagram crates.
//!
//! `make bench` runs it and prints one table; the curves over flows and ports go to `docs/benchmarks.svg`. Tables
//! are generated, not stored. Deliberately absent: assertions about time; what is measured is told, not judged.

mod diagrams;
mod host;
mod interpret;
mod measure;
mod parse;
mod plot;
mod prove;

use anyhow::{Context, Result};
use host::Generated;
use measure::Bench;
use std::{env, fs, path::PathBuf};

/// Ports and rules of the hosts; the last two are the sizes that the bars are set for.
const HOSTS: [(u16, u16); 5] = [(10, 20), (32, 20), (100, 20), (316, 10), (1000, 10)];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn main() -> Result<()> {
    // `cargo test --benches` only asks whether it starts.
    if env::args().any(|word| word == "--test") {
        return Ok(());
    }
    let room = tempdir()?;
    let hosts = HOSTS
        .iter()
        .map(|(ports, rules)| Generated::new(*ports, *rules, &room))
        .collect::<Result<Vec<_>>>()?;
    let only = env::var("FLOWPROOF_BENCH").unwrap_or_default();
    let wanted = |part: &str| only.is_empty() || only.split(',').any(|word| word == part);
    let mut bench = Bench::new(room.join("criterion"));
    if wanted("parse") {
        parse::measure(&mut bench, &hosts)?;
    }
    if wanted("interpret") {
        interpret::measure(&mut bench, &hosts)?;
    }
    if wanted("diagrams") {
        diagrams::measure(&mut bench)?;
    }
    if wanted("prove") {
        prove::measure(&mut bench, &hosts)?;
    }
    let svg = root().join("docs/benchmarks.svg");
    if wanted("parse") && wanted("interpret") {
        plot::draw(&svg, bench.curves()).context("drawing docs/benchmarks.svg")?;
    }
    let table = bench.table();
    fs::write(target_dir()?.join("bench-table.txt"), &table)?;
    println!("\n{table}");
    fs::remove_dir_all(room)?;
    Ok(())
}

/// Where cargo builds: the benches run from its `release/deps`.
fn target_dir() -> Result<PathBuf> {
    let exe = env::current_exe()?;
    exe.ancestors().nth(3).map(PathBuf::from).context("the bench does not stand in a target directory")
}

/// The release binary of the command line, which `make bench` builds first.
fn binary() -> Result<PathBuf> {
    Ok(target_dir()?.join("release/flowproof"))
}

fn tempdir() -> Result<PathBuf> {
    let room = env::temp_dir().join(format!("flowproof-bench-{}", std::process::id()));
    fs::create_dir_all(&room)?;
    Ok(room)
}
