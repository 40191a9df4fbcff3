//! The harness around a real switch, judged by a real switch.

#[cfg(test)]
mod full;
#[cfg(test)]
mod furnish;
#[cfg(test)]
mod judge;
#[cfg(test)]
mod suite;
