//! The option that names a datapath.

use crate::text::list;
use flowproof_switch::conntrack::Profile;

/// One datapath, or all of them.
#[derive(Clone, Debug)]
pub(crate) struct Datapath(pub(crate) Vec<Profile>);

/// The datapaths of this name.
pub(crate) fn datapath(name: &str) -> Result<Datapath, String> {
    if name == "all" {
        return Ok(Datapath(Profile::ALL.to_vec()));
    }
    let known = Profile::ALL.into_iter().find(|profile| profile.name() == name);
    known
        .map(|profile| Datapath(vec![profile]))
        .ok_or_else(|| format!("the datapaths are {} and all", list(Profile::ALL.map(Profile::name))))
}
