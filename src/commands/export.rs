// SPDX-License-Identifier: GPL-2.0-or-later
//! `export`: results as files that any web server can carry, with a signed list for each kernel. See [`manifest`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::commands::{Invocation, mktarball};
use crate::error::export::Problem;
use crate::error::{Doing, Error, Result, cannot};
use crate::model::kernel::Kernel;
use crate::model::manifest::{self, Offer};
use crate::model::module::Target;
use crate::model::origin::Origin;
use crate::model::site::Site;
use crate::model::store::{Made, Store};
use crate::steps::object;
use crate::steps::sign::{Signing, is_signed};
use crate::system::files::{At, replace_with_text};
use crate::system::lock::Lock;
use crate::system::output::{Block, Words};
use crate::system::{scratch, signature};

/// `export`
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    site.need_root()?;
    let place = Place { dir: invocation.to.clone().ok_or(Problem::NoPlace)?, key: invocation.gpg_key.clone() };
    let store = Store::of(site).ok_or(Problem::NoStore)?;
    let kept = kept(&store, invocation)?;
    let say = site.output.block();
    mktarball::make_writable(&place.dir.to_string_lossy())?;
    let _lock = Lock::take(&place.dir, |holder| say.complain(format!("dkms: waiting for {holder} to finish\n")))
        .doing(cannot("lock", &place.dir))?;
    scratch::sweep(&place.dir, scratch::PREFIX);
    for (target, results) in kept {
        let signing = if invocation.sign_modules { Some(decide(site, &target)?) } else { None };
        let mut objects = Vec::new();
        for (origin, key, mut made) in results {
            if let Some(signing) = &signing {
                sign(site, &mut made, signing, &target, &say)?;
            }
            let object = object::write(&key, &made).doing(|| format!("Cannot pack {}", origin.id))?;
            objects.push((Offer::of(origin, key, &object), object));
        }
        let list = place.put(site, &target, &objects)?;
        for (Offer { origin: Origin { id, target, .. }, .. }, _) in &objects {
            say.say(format!("{id}, {}, {}: exported", target.release, target.arch));
        }
        say.say(format!("List: {}", list.display()));
    }
    Ok(())
}

/// A result, what it was made of, and its key.
type Kept = (Origin, String, Made);

/// The results that were asked for, by their kernels; of several of the same the one that was used last.
fn kept(store: &Store, invocation: &Invocation) -> Result<BTreeMap<Target, Vec<Kept>>> {
    let named = |said: &Option<String>, name: &str| said.as_deref().is_none_or(|said| said == name);
    let mut kept: BTreeMap<Target, Vec<Kept>> = BTreeMap::new();
    for key in store.keys() {
        let Some(origin) = store.origin(&key) else { continue };
        let (id, target) = (&origin.id, &origin.target);
        let wanted = named(&invocation.name, &id.name)
            && named(&invocation.version, &id.version)
            && (invocation.targets.is_empty() || invocation.targets.contains(target));
        let known = kept.get(target).is_some_and(|results| results.iter().any(|(other, ..)| *other == origin));
        if wanted && !known {
            // Read now: what is kept may go at any time.
            if let Some(made) = store.get(&key) {
                kept.entry(target.clone()).or_default().push((origin, key, made));
            }
        }
    }
    if kept.is_empty() {
        let what = match (&invocation.name, &invocation.version) {
            (Some(name), Some(version)) => format!("{name}/{version}"),
            (Some(name), None) => name.clone(),
            _ => "any module".into(),
        };
        return Err(Problem::NothingKept { what }.into());
    }
    Ok(kept)
}

/// How modules for a kernel are signed; it is an error if they are not.
fn decide(site: &Site, target: &Target) -> Result<Signing> {
    let signing = Signing::decide(site, &Kernel::new(site, target, None, None))?;
    if signing.is_on() {
        return Ok(signing);
    }
    Err(Problem::ModulesNotSigned { kernel: target.to_string(), why: signing.prologue.trim().to_owned() }.into())
}

/// Signs the modules of a result.
fn sign(site: &Site, made: &mut Made, signing: &Signing, target: &Target, say: &Block) -> Result<()> {
    let scratch = site.scratch()?;
    let module = |name: &Path| name.extension().is_some_and(|it| it == "ko");
    for (name, bytes) in made.files.iter_mut().filter(|(name, bytes)| module(name) && !is_signed(bytes)) {
        let file = scratch.path().join("module.ko");
        fs::write(&file, &*bytes).doing(cannot("write", &file))?;
        let mut words = Words::default();
        signing.sign(&file, bytes, name, &mut words)?;
        let signed = fs::read(&file).doing(cannot("read", &file))?;
        if signed == *bytes {
            say.pass_on(words);
            return Err(Problem::ModulesNotSigned {
                kernel: target.to_string(),
                why: format!("{} stays unsigned.", name.display()),
            }
            .into());
        }
        *bytes = signed;
    }
    Ok(())
}

/// Where results go.
struct Place {
    dir: PathBuf,
    /// gpg's name of the key that signs the lists; its own choice if there is none.
    key: Option<String>,
}

impl Place {
    /// Adds objects for a kernel, then the list that names them and those that were there: whoever reads the list finds
    /// all of them. Gives where it is.
    fn put(&self, site: &Site, target: &Target, objects: &[(Offer, Vec<u8>)]) -> Result<PathBuf> {
        let list = self.dir.join(manifest::place(target));
        let mut offers: Vec<Offer> = objects.iter().map(|(offer, _)| offer.clone()).collect();
        offers.extend(self.listed(&list, target, &offers)?);
        offers.sort_by(|a, b| a.origin.id.cmp(&b.origin.id));
        let scratch = site.scratch()?;
        let signed = signature::sign(&manifest::write(target, &offers), self.key.as_deref(), scratch.path())
            .map_err(|error| Problem::NotSigned { why: error.to_string() })?;
        for (offer, object) in objects {
            let file = self.dir.join(manifest::object(&offer.key));
            // The same again would be another file for whoever copies what is new.
            if !fs::read(&file).is_ok_and(|there| there == *object) {
                put(&file, object)?;
            }
        }
        put(&list, &signed)?;
        Ok(list)
    }

    /// What a list has beside `offers`. We do not sign what we have not signed before.
    fn listed(&self, list: &Path, target: &Target, offers: &[Offer]) -> Result<Vec<Offer>> {
        if !list.exists() {
            return Ok(Vec::new());
        }
        let refused = |why: String| Problem::NotOurs { file: list.to_owned(), why };
        let text = signature::signed_here(list).map_err(|error| refused(error.to_string()))?;
        let mut listed = manifest::read(target, &text).map_err(refused)?;
        listed.retain(|old| {
            let replaced = offers.iter().any(|new| new.origin == old.origin || new.key == old.key);
            !replaced && self.dir.join(manifest::object(&old.key)).exists()
        });
        Ok(listed)
    }
}

fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    let parent = file.parent().unwrap_or(Path::new("."));
    let put = fs::create_dir_all(parent).at(parent).and_then(|()| replace_with_text(bytes, file));
    put.map_err(|source| Error::Io { what: "Cannot export".into(), source })
}
