// SPDX-License-Identifier: GPL-2.0-or-later
//! `export`: results as files that any web server can carry, with a signed list for each kernel. See [`manifest`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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
use crate::steps::sign::Signing;
use crate::system::directories::{find, find_all};
use crate::system::files::{At, replace_with_text};
use crate::system::lock::Lock;
use crate::system::output::{Block, Words};
use crate::system::{scratch, signature, trust};

/// How long an object stays that no list names any more.
const LATECOMERS: Duration = Duration::from_secs(24 * 3600);

/// `export`
pub fn run(site: &Site, invocation: &Invocation) -> Result<()> {
    site.need_root()?;
    let dir = invocation.to.clone().ok_or(Problem::NoPlace)?;
    let store = Store::of(site).ok_or(Problem::NoStore)?;
    let kept = kept(site, &store, invocation)?;
    let say = site.output.block();
    mktarball::make_writable(&dir.to_string_lossy())?;
    trust::check(&dir)?;
    let keys = Keys::of(invocation.gpg_key.clone())?;
    let _lock = Lock::take(&dir, |holder| say.complain(format!("dkms: waiting for {holder} to finish\n")))
        .doing(cannot("lock", &dir))?;
    scratch::sweep(&dir, scratch::PREFIX);
    let export = Export { site, store, dir, keys, say };
    // What cannot be is found out before anything is written.
    let mut lists = Vec::new();
    for (target, results) in kept {
        let signing = if invocation.sign_modules { Some(decide(site, &target)?) } else { None };
        lists.push((export.list(&target)?, target, results, signing));
    }
    for (list, target, results, signing) in lists {
        export.put(list, &target, results, signing.as_ref())?;
    }
    export.tidy().doing(|| format!("Cannot tidy {}", export.dir.display()))
}

/// What there is of a module, and the key of it.
type Kept = (Origin, String);

/// The results that were asked for, by their kernels; of several of the same the one that was used last. Without a kernel
/// named, those of the kernels that can be built for: of others nobody wants any.
fn kept(site: &Site, store: &Store, invocation: &Invocation) -> Result<BTreeMap<Target, Vec<Kept>>> {
    let named = |said: &Option<String>, name: &str| said.as_deref().is_none_or(|said| said == name);
    let mut kept: BTreeMap<Target, Vec<Kept>> = BTreeMap::new();
    for key in store.keys() {
        let Some(origin) = store.origin(&key) else { continue };
        let (id, target) = (&origin.id, &origin.target);
        let on = if invocation.targets.is_empty() {
            Kernel::new(site, target, None, None).has_headers()
        } else {
            invocation.targets.contains(target)
        };
        let known = kept.get(target).is_some_and(|results| results.iter().any(|(other, _)| *other == origin));
        if on && !known && named(&invocation.name, &id.name) && named(&invocation.version, &id.version) {
            kept.entry(target.clone()).or_default().push((origin, key));
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

/// The keys that lists are signed by.
struct Keys {
    /// gpg's name of the one that signs; its own choice if there is none.
    name: Option<String>,
    /// Those that this may mean.
    signing: Vec<String>,
    /// All that we have.
    ours: Vec<String>,
}

impl Keys {
    fn of(name: Option<String>) -> Result<Self> {
        let not_signed = |error: io::Error| {
            let of = name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
            Problem::NotSigned { why: format!("{of}{error}") }
        };
        let ours = signature::our_keys(None).map_err(not_signed)?;
        let signing = signature::our_keys(name.as_deref()).map_err(not_signed)?;
        Ok(Self { name, signing, ours })
    }
}

/// A list as it is.
#[derive(Default)]
struct List {
    file: PathBuf,
    text: String,
    /// The key that signed it.
    signer: String,
    offers: Vec<Offer>,
}

/// An export under way.
struct Export<'a> {
    site: &'a Site,
    store: Store,
    dir: PathBuf,
    keys: Keys,
    say: Block,
}

impl Export<'_> {
    /// The list for a kernel, empty if there is none. We do not sign what we have not signed before.
    fn list(&self, target: &Target) -> Result<List> {
        let file = self.dir.join(manifest::place(target));
        if !file.exists() {
            return Ok(List { file, ..List::default() });
        }
        let refused = |why: String| Problem::NotOurs { file: file.clone(), why };
        let signed = signature::signed_here(&file, &self.keys.ours).map_err(|error| refused(error.to_string()))?;
        let mut offers = manifest::read(target, &signed.text).map_err(refused)?;
        offers.retain(|offer| self.dir.join(offer.place()).exists());
        Ok(List { file, text: signed.text, signer: signed.signer, offers })
    }

    /// Adds results to a list, after their objects: whoever reads it finds all of them.
    fn put(&self, list: List, target: &Target, results: Vec<Kept>, signing: Option<&Signing>) -> Result<()> {
        let mut offers: Vec<Offer> = Vec::new();
        for (origin, key) in results {
            let there = list.offers.iter().find(|offer| offer.key == key && offer.signed == signing.is_some());
            let offer = match there {
                Some(offer) => offer.clone(),
                // What is kept may go at any time.
                None => match self.store.look(&key) {
                    Some(made) => self.put_object(origin, key, made, signing)?,
                    None => continue,
                },
            };
            self.say.say(format!("{}, {}, {}: exported", offer.origin.id, target.release, target.arch));
            offers.push(offer);
        }
        let (replaced, others): (Vec<Offer>, Vec<Offer>) = list
            .offers
            .into_iter()
            .partition(|old| offers.iter().any(|new| new.origin == old.origin || new.key == old.key));
        for old in replaced.iter().filter(|old| !offers.iter().any(|new| new.sha256 == old.sha256)) {
            // From now on it is of age.
            let file = fs::File::open(self.dir.join(old.place()));
            file.and_then(|file| file.set_modified(SystemTime::now())).doing(|| "Cannot export".into())?;
        }
        offers.extend(others);
        offers.sort_by(|a, b| a.origin.id.cmp(&b.origin.id).then_with(|| a.key.cmp(&b.key)));
        let text = manifest::write(target, &offers);
        // The same again would be another file for whoever copies what is new.
        if text.trim_end() != list.text.trim_end() || !self.keys.signing.contains(&list.signer) {
            let scratch = self.site.scratch()?;
            let signed = signature::sign(&text, self.keys.name.as_deref(), scratch.path());
            put(&list.file, &signed.map_err(|error| Problem::NotSigned { why: error.to_string() })?)?;
        }
        self.say.say(format!("List: {}", list.file.display()));
        Ok(())
    }

    fn put_object(&self, origin: Origin, key: String, mut made: Made, signing: Option<&Signing>) -> Result<Offer> {
        if let Some(signing) = signing {
            self.sign(&mut made, signing, &origin)?;
        }
        let object = object::write(&key, &made).doing(|| format!("Cannot pack {}", origin.id))?;
        let offer = Offer::of(origin, key, made.signed, &object);
        let file = self.dir.join(offer.place());
        if fs::read(&file).is_ok_and(|there| there == object) { Ok(offer) } else { put(&file, &object).map(|()| offer) }
    }

    /// Signs the modules of a result.
    fn sign(&self, made: &mut Made, signing: &Signing, Origin { target, .. }: &Origin) -> Result<()> {
        let scratch = self.site.scratch()?;
        let modules = made.files.iter_mut().filter(|(name, _)| name.extension().is_some_and(|it| it == "ko"));
        for (name, bytes) in modules.filter(|_| !made.signed) {
            let file = scratch.path().join("module.ko");
            fs::write(&file, &*bytes).doing(cannot("write", &file))?;
            let mut words = Words::default();
            signing.sign(&file, bytes, name, &mut words)?;
            let signed = fs::read(&file).doing(cannot("read", &file))?;
            if signed == *bytes {
                self.say.pass_on(words);
                let why = format!("{} stays unsigned.", name.display());
                return Err(Problem::ModulesNotSigned { kernel: target.to_string(), why }.into());
            }
            *bytes = signed;
        }
        made.signed = true;
        Ok(())
    }

    /// Removes the objects that no list names any more. Whoever has read an older list may still come for them, for a day.
    fn tidy(&self) -> io::Result<()> {
        let mut named = BTreeSet::new();
        for list in find_all(&self.dir, &mut |name| name == manifest::LIST)? {
            let text = fs::read_to_string(&list).at(&list)?;
            named.extend(text.lines().filter_map(|line| Some(line.strip_prefix("SHA256: ")?.to_owned())));
        }
        for file in find(&self.dir.join(manifest::OBJECTS), &mut |name| manifest::object_named(name).is_some()) {
            let name = file.file_name().and_then(|name| name.to_str()).and_then(manifest::object_named);
            let age = fs::symlink_metadata(&file)?.modified()?.elapsed().unwrap_or_default();
            if name.is_some_and(|name| !named.contains(name)) && age > LATECOMERS {
                fs::remove_file(&file).at(&file)?;
            }
        }
        Ok(())
    }
}

fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    let parent = file.parent().unwrap_or(Path::new("."));
    let put = fs::create_dir_all(parent).at(parent).and_then(|()| replace_with_text(bytes, file));
    put.map_err(|source| Error::Io { what: "Cannot export".into(), source })
}
