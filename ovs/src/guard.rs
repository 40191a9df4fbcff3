//! The processes of a private switch, and the certainty that they end.
//!
//! What it means: a shell starts the daemons and then reads from a pipe whose other end only this process holds. The
//! pipe closes when a [`Guard`] is dropped and also when this process dies of whatever cause; the shell then
//! kills the daemons and removes the directory. Invariant: nothing here needs a signal handler of ours.

use crate::error::EnvError;
use std::{
    env, fs,
    io::{self, Write},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt},
        net::UnixStream,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long a daemon may take to open its socket.
const PATIENCE: Duration = Duration::from_secs(20);

/// `$1` directory, `$2` ovsdb-server, `$3` ovs-vswitchd. The database server starts at once, the switch after the
/// first line from the pipe.
const SCRIPT: &str = r#"
a= b=
trap 'kill -KILL $a $b; wait; cd /; rm -rf "$1"' EXIT
trap 'exit 1' HUP INT TERM
cd "$1" || exit 1
"$2" conf.db --no-chdir --remote=punix:"$1/db.sock" --unixctl="$1/db.ctl" -vconsole:off -vsyslog:off -vfile:off </dev/null &
a=$!
read -r line || exit 0
"$3" unix:"$1/db.sock" --enable-dummy --disable-system --disable-system-route --no-chdir \
    --unixctl="$1/vs.ctl" -vconsole:emer -vsyslog:off -vfile:off </dev/null &
b=$!
read -r line
exit 0
"#;

/// Two daemons and their directory.
#[derive(Debug)]
pub(crate) struct Guard {
    directory: PathBuf,
    shell: Child,
}

/// Where programs are, besides `PATH`: an ordinary user's does not name the daemons' place.
const PLACES: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// Where programs are instead of all that, for those who have several Open vSwitches.
const OVERRIDE: &str = "FLOWPROOF_OVS";

/// A program by its name.
pub(crate) fn program(name: &str) -> Result<PathBuf, EnvError> {
    let path = match env::var_os(OVERRIDE) {
        Some(only) => only,
        None => {
            let mut path = env::var_os("PATH").unwrap_or_default();
            path.push(":");
            path.push(PLACES);
            path
        }
    };
    let found = env::split_paths(&path)
        .map(|place| place.join(name))
        .find(|file| file.is_absolute() && file.is_file());
    found.ok_or_else(|| EnvError::Missing { name: name.to_owned() })
}

/// The database schema that comes with the switch.
fn schema() -> Result<PathBuf, EnvError> {
    const NAME: &str = "vswitch.ovsschema";
    let own = env::var_os("OVS_PKGDATADIR").map(PathBuf::from);
    let usual = ["/usr/share/openvswitch", "/usr/local/share/openvswitch"].map(PathBuf::from);
    let found = own.into_iter().chain(usual).map(|place| place.join(NAME)).find(|file| file.is_file());
    found.ok_or_else(|| EnvError::Missing { name: NAME.to_owned() })
}

/// A new directory that only this user can enter; its path is short, for sockets take no more than 107 bytes.
fn private_directory() -> Result<PathBuf, EnvError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const LONGEST: usize = 60;
    let parent = Some(env::temp_dir()).filter(|path| path.is_absolute() && path.as_os_str().len() <= LONGEST);
    let parent = parent.unwrap_or_else(|| PathBuf::from("/tmp"));
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("flowproof-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(EnvError::file("create", &path)(error)),
        }
    }
}

impl Guard {
    /// Starts the database server, lets `configure` fill the database, and starts the switch.
    pub(crate) fn start(configure: impl FnOnce(&Self) -> Result<(), EnvError>) -> Result<Self, EnvError> {
        let [server, switch] = [program("ovsdb-server")?, program("ovs-vswitchd")?];
        let (tool, schema) = (program("ovsdb-tool")?, schema()?);
        let directory = private_directory()?;
        let shell = spawn(&directory, &server, &switch);
        let mut guard = match shell {
            Ok(shell) => Self { directory, shell },
            Err(error) => {
                let _best_effort = fs::remove_dir_all(&directory);
                return Err(error);
            }
        };
        let database = guard.path("conf.db");
        guard.run(Command::new(tool).arg("create").arg(&database).arg(schema), "")?;
        guard.proceed()?;
        guard.wait_for("db.sock")?;
        configure(&guard)?;
        guard.proceed()?;
        guard.wait_for("vs.ctl")?;
        Ok(guard)
    }

    /// A path in the private directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn proceed(&mut self) -> Result<(), EnvError> {
        let pipe = self.shell.stdin.as_mut();
        let written = pipe.map_or(Ok(()), |pipe| pipe.write_all(b"\n"));
        written.map_err(|_| EnvError::Ended { log: self.log() })
    }

    /// Waits until a daemon listens on its socket.
    fn wait_for(&mut self, socket: &str) -> Result<(), EnvError> {
        let path = self.path(socket);
        let end = Instant::now() + PATIENCE;
        // The socket is there before anybody listens on it.
        while UnixStream::connect(&path).is_err() {
            if self.has_ended() {
                return Err(EnvError::Ended { log: self.log() });
            }
            if Instant::now() > end {
                return Err(EnvError::Timeout { what: format!("`{socket}`; {}", self.log()) });
            }
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Whether the shell is gone, and with it the daemons.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.shell.try_wait(), Ok(None))
    }

    /// The last that the daemons said.
    pub(crate) fn log(&self) -> String {
        let text = fs::read(self.path("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last: Vec<_> = text.lines().rev().take(3).collect();
        if last.is_empty() { "it said nothing".to_owned() } else { last.join("; ") }
    }

    /// What the system says when something is written where the switch writes.
    pub(crate) fn probe(&self) -> io::Result<()> {
        let path = self.path("probe");
        let written = fs::write(&path, [0; 1 << 16]);
        written.and(fs::remove_file(path))
    }

    /// Runs a program of Open vSwitch to its end; what it prints.
    pub(crate) fn run(&self, command: &mut Command, input: &str) -> Result<String, EnvError> {
        let name = command.get_program().to_string_lossy().into_owned();
        let failed = || EnvError::io(format!("cannot run `{name}`"));
        let output = self.path("output");
        // Files and not pipes: a program that fills both pipes would wait for us for ever.
        let file = || fs::File::create(&output).map_err(EnvError::file("create", &output));
        let mut child = in_directory(command, &self.directory)
            .stdin(Stdio::piped())
            .stdout(file()?)
            .stderr(self.append("errors", true)?)
            .spawn()
            .map_err(failed())?;
        if let Some(mut pipe) = child.stdin.take() {
            // A program that refuses its input early closes the pipe; its exit status says why.
            let _closed_early = pipe.write_all(input.as_bytes());
        }
        let status = child.wait().map_err(failed())?;
        if status.success() {
            return fs::read_to_string(&output).map_err(EnvError::file("read", &output));
        }
        let message = fs::read(self.path("errors")).unwrap_or_default();
        let message = plain(&String::from_utf8_lossy(&message));
        let name = Path::new(&name).file_name().map_or(name.clone(), |name| name.to_string_lossy().into());
        Err(EnvError::Command { command: name, message })
    }

    fn append(&self, name: &str, afresh: bool) -> Result<fs::File, EnvError> {
        append(&self.directory, name, afresh)
    }
}

/// What a program complains about, without the bytes that some of them show beside it.
fn plain(message: &str) -> String {
    let odd = |c: char| c == char::REPLACEMENT_CHARACTER || c.is_control() && c != '\n';
    message.trim().chars().map(|c| if odd(c) { '.' } else { c }).collect()
}

fn append(directory: &Path, name: &str, afresh: bool) -> Result<fs::File, EnvError> {
    let path = directory.join(name);
    let mut options = fs::OpenOptions::new();
    options.create(true).mode(0o600).write(true).truncate(afresh).append(!afresh);
    options.open(&path).map_err(EnvError::file("create", &path))
}

fn spawn(directory: &Path, server: &Path, switch: &Path) -> Result<Child, EnvError> {
    // The first line lets the server start only when its database is there.
    let script = format!("read -r line || {{ rm -rf \"$1\"; exit 0; }}\n{SCRIPT}");
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(script).arg("flowproof-guard").args([directory, server, switch]);
    in_directory(&mut shell, directory)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(append(directory, "log", false)?)
        .stderr(append(directory, "log", false)?)
        .spawn()
        .map_err(EnvError::io("cannot run `/bin/sh`"))
}

/// The program looks for sockets and files in the private directory only.
fn in_directory<'c>(command: &'c mut Command, directory: &Path) -> &'c mut Command {
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, directory);
    }
    command.env_remove("OVS_BRIDGE_REMOTE").env("LC_ALL", "C").current_dir(directory)
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let end = Instant::now() + PATIENCE;
        while !self.has_ended() {
            if Instant::now() > end {
                let _best_effort = self.shell.kill();
                break;
            }
            sleep(Duration::from_millis(1));
        }
        let _best_effort = self.shell.wait();
        let _best_effort = fs::remove_dir_all(&self.directory);
    }
}
