//! Model and tables side by side: written scenarios, random ones, and what is made of failures.

mod command;
mod explore;
mod properties;
mod scenarios;
mod shrinking;
mod text;
