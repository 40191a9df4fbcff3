//! The laws of the model: what loads and what does not, and each row of what security groups mean.

#[cfg(test)]
mod connections;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod infrastructure;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod support;
#[cfg(test)]
mod switches;
#[cfg(test)]
mod theorems;
#[cfg(test)]
mod validation;
