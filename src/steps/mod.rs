// SPDX-License-Identifier: GPL-2.0-or-later
//! What is done for one module and one kernel, one thing in each file.
//!
//! They do not stand on each other, but for `install` and `uninstall`, which find what is `installed`, archive what was
//! there before (`archive`) and know what an upgrade left in place (`superseded`), `dependents`, which tells what these
//! would do, and `package`, which holds what a `tarball` does; both are packed by `pack`, as is an `object`, which `fetch`
//! gets from elsewhere.

pub mod apport;
pub mod archive;
pub mod compress;
pub mod dependents;
pub mod depmod;
pub mod fetch;
pub mod initramfs;
pub mod install;
pub mod installed;
pub mod load;
pub mod logged;
pub mod object;
pub mod pack;
pub mod package;
pub mod post_transaction;
pub mod prepare;
pub mod probes;
pub mod scripts;
pub mod sign;
pub mod superseded;
pub mod tarball;
pub mod uninstall;
pub mod unpack;

use crate::model::conf::Conf;
use crate::model::kernel::Kernel;
use crate::model::module::Id;
use crate::model::options::Options;
use crate::model::site::Site;
use crate::system::output::Block;

/// One module for one kernel, as every step needs it.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// The machine.
    pub site: &'a Site,
    /// What the caller said.
    pub options: &'a Options,
    /// The module.
    pub id: &'a Id,
    /// The kernel.
    pub kernel: &'a Kernel,
    /// The module's dkms.conf, evaluated for that kernel.
    pub conf: &'a Conf,
    /// Where its words go.
    pub say: &'a Block,
}
