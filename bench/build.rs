//! Lets the benches find Z3.

use std::process::ExitCode;

#[path = "../tools/link_z3.rs"]
mod link_z3;

fn main() -> ExitCode {
    link_z3::link("..")
}
