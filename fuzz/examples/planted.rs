//! Whether the language's own generator finds what is mended once the mending is taken out: `planted [NAME...]`.
//!
//! `fuzz/planted.txt` has the edits. The tree is copied into the target directory; each edit in turn is made there, the
//! campaign built and run until it finds something, 60 seconds at most (`FLOWPROOF_PLANTED_SECONDS`). First comes the tree as
//! it is, for each oracle: what is found there is no merit of anything. An edit whose old text is not there, once, is an
//! error. `FLOWPROOF_PLANTED_PROFILE` says how to build (`release`).

use flowproof_fuzz::language::planted::{Entry, entries};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Directories that are not copied.
const LEFT: [&str; 5] = ["target", ".git", ".z3", "corpus", "node_modules"];

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            if !LEFT.iter().any(|left| name == *left) {
                copy(&entry.path(), &target)?;
            }
        } else if fs::read(&target).ok() != Some(fs::read(entry.path())?) {
            // What is the same keeps its time, so that it is not built again.
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// What a campaign came to.
enum Outcome {
    Found(Duration, String),
    Nothing,
    NotBuilt(String),
}

struct Place {
    tree: PathBuf,
    target: PathBuf,
    profile: String,
    seconds: u64,
}

impl Place {
    fn build(&self) -> Result<(), String> {
        let output = Command::new(env!("CARGO"))
            .args([
                "build",
                "--locked",
                "--quiet",
                "--package",
                "flowproof-fuzz",
                "--example",
                "language",
                "--profile",
            ])
            .arg(&self.profile)
            .arg("--target-dir")
            .arg(&self.target)
            .current_dir(&self.tree)
            .output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(text) }
    }

    fn run(&self, oracle: &str) -> Outcome {
        if let Err(why) = self.build() {
            return Outcome::NotBuilt(why);
        }
        let directory = match self.profile.as_str() {
            "test" | "dev" => "debug",
            other => other,
        };
        let program = self.target.join(directory).join("examples/language");
        let began = Instant::now();
        let child = Command::new(program)
            .args([oracle, "1000000000000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else { return Outcome::NotBuilt("the campaign does not start".to_owned()) };
        let (send, receive) = mpsc::channel();
        let Some(output) = child.stdout.take() else { return Outcome::NotBuilt("no output".to_owned()) };
        let reader = std::thread::spawn(move || {
            let mut lines = BufReader::new(output).lines().map_while(Result::ok);
            let found = lines.find(|line| line.starts_with("FINDING"));
            let _gone = send.send(found.map(|first| (first, lines.take(12).collect::<Vec<_>>().join("\n"))));
        });
        let told = receive.recv_timeout(Duration::from_secs(self.seconds));
        let spent = began.elapsed();
        let _ended = (child.kill(), child.wait(), reader.join());
        match told {
            Ok(Some((first, rest))) => Outcome::Found(spent, format!("{first}\n{rest}")),
            _ => Outcome::Nothing,
        }
    }

    /// Makes an edit; the text of before.
    fn edit(&self, entry: &Entry) -> Result<String, String> {
        let path = self.tree.join(&entry.file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", entry.file))?;
        fs::write(&path, entry.edited(&text)?).map_err(|error| error.to_string())?;
        Ok(text)
    }
}

fn say(text: &str) {
    let _nobody_listens = writeln!(stdout(), "{text}");
}

fn main() -> ExitCode {
    let names: BTreeSet<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let variable = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let target = PathBuf::from(variable("CARGO_TARGET_DIR", "target"));
    let target = if target.is_absolute() { target } else { root.join(target) };
    let place = Place {
        tree: target.join("planted/tree"),
        target: target.join("planted/target"),
        profile: variable("FLOWPROOF_PLANTED_PROFILE", "release"),
        seconds: variable("FLOWPROOF_PLANTED_SECONDS", "60").parse().unwrap_or(60),
    };
    let Ok(text) = fs::read_to_string(root.join("fuzz/planted.txt")) else {
        say("error: no fuzz/planted.txt");
        return ExitCode::FAILURE;
    };
    if let Err(error) = copy(&root, &place.tree) {
        say(&format!("error: the tree cannot be copied: {error}"));
        return ExitCode::FAILURE;
    }
    let z3 = place.tree.join(".z3");
    if !z3.exists() {
        let _there = std::os::unix::fs::symlink(root.join(".z3"), z3);
    }
    let chosen = |entry: &Entry| names.is_empty() || names.contains(&entry.name);
    let entries: Vec<Entry> = entries(&text).into_iter().filter(chosen).collect();
    let mut failed = false;
    for oracle in entries.iter().map(|entry| entry.oracle.as_str()).collect::<BTreeSet<_>>() {
        match place.run(oracle) {
            Outcome::Nothing => say(&format!("| as it is | {oracle} | nothing in {} s |", place.seconds)),
            Outcome::Found(spent, what) => {
                failed = true;
                say(&format!("| as it is | {oracle} | FOUND after {:.1} s |\n{what}", spent.as_secs_f64()));
            }
            Outcome::NotBuilt(why) => {
                say(&format!("error: {why}"));
                return ExitCode::FAILURE;
            }
        }
    }
    say("| planted | oracle | found after |\n|---|---|---|");
    for entry in &entries {
        let said = match place.edit(entry) {
            Err(why) => Err(format!("NOT PLANTED: {why}")),
            Ok(before) => {
                let outcome = place.run(&entry.oracle);
                let restored = fs::write(place.tree.join(&entry.file), before);
                match (outcome, restored) {
                    (Outcome::Found(spent, _), Ok(())) => Ok(format!("{:.1} s", spent.as_secs_f64())),
                    (Outcome::Nothing, _) => Err(format!("NOT FOUND in {} s", place.seconds)),
                    (Outcome::NotBuilt(why), _) => Err(format!("NOT BUILT: {why}")),
                    (_, Err(error)) => Err(error.to_string()),
                }
            }
        };
        failed |= said.is_err();
        let said = said.unwrap_or_else(|why| why);
        say(&format!("| {} | {} | {said} |", entry.name, entry.oracle));
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
