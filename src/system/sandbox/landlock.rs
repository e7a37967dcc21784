// SPDX-License-Identifier: GPL-2.0-or-later
//! What stands in for a private view where there are no namespaces.

use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, Scope, path_beneath_rules,
};

use super::plan::DEVICES;
use super::{Mount, Sandbox};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The newest rules that are asked for; of older kernels, as many as they know.
const KNOWN: ABI = ABI::V6;

/// Reading everywhere, writing in the writable places, no TCP, no signals or abstract sockets outwards.
pub fn ruleset(sandbox: &Sandbox) -> io::Result<OwnedFd> {
    let rules = rules(sandbox).map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))?;
    let fd = Option::<OwnedFd>::from(rules).ok_or(io::ErrorKind::Unsupported)?;
    // Not where the three streams of the command will be put.
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?)
}

fn rules(sandbox: &Sandbox) -> Result<RulesetCreated> {
    let mut writable: Vec<&Path> = sandbox.tmp.as_deref().into_iter().collect();
    for mount in &sandbox.mounts {
        match mount {
            Mount::Bind { from, at, .. } if from != at => {
                let (from, at) = (from.display(), at.display());
                return Err(format!("{from} cannot be shown at {at} without namespaces").into());
            }
            Mount::Bind { from, writable: true, .. } => writable.push(from),
            _ => {}
        }
    }
    let writable = writable.into_iter().map(|path| -> Result<_> {
        let access = if path.is_dir() { AccessFs::from_all(KNOWN) } else { AccessFs::from_file(KNOWN) };
        Ok(PathBeneath::new(PathFd::new(path)?, access))
    });
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::from_read(KNOWN)))?
        .add_rules(path_beneath_rules(DEVICES.iter().chain(&["/dev/ptmx", "/dev/pts"]), AccessFs::from_all(KNOWN)))?
        .add_rules(writable)
}
