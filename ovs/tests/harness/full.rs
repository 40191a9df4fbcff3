//! No space where the switch writes: the machine's fault, never something that a switch said.
//!
//! Needs a small file system of its own, and so a mount namespace (`unshare -Urm`); where there is none the test says so.

use super::suite::{flows, start, udp};
use std::{
    env, fs,
    io::{self, Write},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

const ROLE: &str = "FLOWPROOF_OVS_FULL_DISK";
/// `$0` is where the file system goes.
const SCRIPT: &str = "mount -t tmpfs -o size=2m flowproof \"$0\" && TMPDIR=\"$0\" exec \"$@\"";

/// A new directory with a short name: sockets are in it.
fn place() -> PathBuf {
    let place = env::temp_dir().join(format!("flowproof-full-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    place
}

fn in_small_file_system(place: &PathBuf) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", SCRIPT]).arg(place);
    command
}

/// Runs in a process of its own, which [`a_full_disk_is_a_failure_of_the_machine`] starts.
#[test]
fn victim() {
    if env::var_os(ROLE).is_none() {
        return;
    }
    let Some(mut switch) = start() else { return };
    switch.load(&flows("in_port=1 actions=output:9")).unwrap();
    let frame = udp();
    let expected = vec![(9, frame.clone())];
    assert_eq!(switch.send(1, &frame).unwrap(), expected, "while there is space");
    let mut ballast = fs::File::create(switch.directory().join("ballast")).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
    // What is left of the last block of a capture still takes some frames.
    let end = Instant::now() + Duration::from_secs(30);
    let error = loop {
        match switch.send(1, &frame) {
            Ok(out) if out == expected => assert!(Instant::now() < end, "it finds space"),
            Ok(out) => break switch.check_health().expect_err(&format!("{out:?} is believed")),
            Err(error) => break error,
        }
    };
    println!("\nvictim saw: {error}");
}

#[test]
fn a_full_disk_is_a_failure_of_the_machine() {
    if env::var_os(ROLE).is_some() || start().is_none() {
        return;
    }
    let place = place();
    let possible = in_small_file_system(&place).arg("true").output().is_ok_and(|out| out.status.success());
    if possible {
        let module = module_path!().split_once("::").map_or("", |(_, module)| module);
        let output = in_small_file_system(&place)
            .arg(env::current_exe().unwrap())
            .args([&format!("{module}::victim"), "--exact", "--nocapture"])
            .env(ROLE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("victim saw: cannot write captures: No space left"), "{said}");
    } else {
        let _nobody_listens =
            writeln!(io::stderr(), "NOT TESTED with a full disk: no mount namespace (`unshare -Urm`)");
    }
    fs::remove_dir(&place).unwrap();
}
