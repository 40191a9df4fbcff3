//! Model and tables side by side: written scenarios, random ones, and what is made of failures.

mod command;
mod exhaustive;
mod explore;
mod known;
mod oracles;
mod properties;
mod scenarios;
mod shrinking;
mod text;
