//! What we promised. One binary for all of it, so that Z3 links once.

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod constructs;
#[cfg(test)]
mod genuine;
#[cfg(test)]
mod intent;
#[cfg(test)]
mod language;
#[cfg(test)]
mod lockstep;
#[cfg(test)]
mod mutants;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod real_switch;
#[cfg(test)]
mod tidy;
