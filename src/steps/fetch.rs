// SPDX-License-Identifier: GPL-2.0-or-later
//! Modules that were built elsewhere: `prebuilt` of framework.conf.
//!
//! Each place has a signed list for a kernel, which is asked for once, and the objects that it names. What is not signed
//! by a key of the administrator's is not used, and said; all else that goes wrong is a miss.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::object;
use crate::error::{Doing, Result, cannot};
use crate::model::manifest::{self, Offer};
use crate::model::module::Target;
use crate::model::origin::Origin;
use crate::model::site::Site;
use crate::model::store::{LOG, Made, Store};
use crate::system::download::{self, download};
use crate::system::modinfo::ModInfo;
use crate::system::output::Block;
use crate::system::scratch::Scratch;
use crate::system::signature;
use crate::system::trust::{self, WeakSpot};

/// A result that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The key of all that makes it, where that is all here.
    pub key: Option<&'a String>,
    /// What other machines know it by.
    pub origin: Option<&'a Origin>,
    /// The kernel.
    pub target: &'a Target,
}

/// The places.
#[derive(Debug)]
pub struct Places {
    places: Vec<Place>,
    keyring: PathBuf,
    patience: Duration,
    scratch: Scratch,
    /// When nobody waits any more; from when somebody began to.
    deadline: OnceLock<Instant>,
}

#[derive(Debug)]
struct Place {
    url: String,
    asked: Mutex<Asked>,
}

/// What a place said so far.
#[derive(Debug, Default)]
struct Asked {
    lists: HashMap<Target, (Instant, List)>,
    /// When it did not answer, and why.
    silent: Option<(Instant, String)>,
}

/// What a place has for a kernel; or why nothing of it is used.
type List = std::result::Result<Vec<Offer>, Miss>;

/// Why something is not to be had.
#[derive(Debug, Clone)]
pub struct Miss {
    /// As a sentence without its end.
    pub why: String,
    /// Whether a place answered that it does not have it yet.
    pub may_come: bool,
}

impl Places {
    /// Those of this machine, if there are any.
    pub fn of(site: &Site) -> Result<Option<Self>> {
        if !site.fetches() {
            return Ok(None);
        }
        let framework = &site.framework;
        let keyring = framework.prebuilt_signed_by.clone();
        let of_url = |url: &String| Place { url: url.trim_end_matches('/').to_owned(), asked: Mutex::default() };
        let (places, patience) = (framework.prebuilt.iter().map(of_url).collect(), framework.prebuilt_timeout);
        // Not where temporary files are: apt's user has to get there.
        let place = site.own_caches().unwrap_or(site.tree.root());
        fs::create_dir_all(place)
            .and_then(|()| Scratch::new(place))
            .doing(cannot("write", place))
            .map(|scratch| Some(Self { places, keyring, patience, scratch, deadline: OnceLock::new() }))
    }

    /// How long somebody may wait yet, who may wait for `limit` in all, together with all others.
    pub fn left(&self, limit: Duration) -> Duration {
        let now = Instant::now();
        self.deadline.get_or_init(|| now + limit).saturating_duration_since(now)
    }

    /// What some place has of a result, which goes to the store as if it had been built here.
    ///
    /// `no_older` is how old what a place said may be.
    ///
    /// # Errors
    /// Why none has it.
    pub fn fetch(
        &self,
        wanted: Wanted,
        store: Option<&Store>,
        no_older: Duration,
        say: &Block,
    ) -> std::result::Result<Made, Miss> {
        let (mut why, mut may_come) = (Vec::new(), false);
        for place in &self.places {
            let offer = match self.offer(place, wanted, no_older, say) {
                Ok(offer) => offer,
                Err(miss) => {
                    may_come |= miss.may_come;
                    why.push(miss.why);
                    continue;
                }
            };
            if let Some(made) = store.and_then(|store| store.get(&offer.key)) {
                return Ok(made);
            }
            match self.object(place, &offer) {
                Ok(made) => {
                    // What cannot be kept is fetched again.
                    let kept = store.map_or(Ok(()), |store| store.put(&offer.key, &made));
                    kept.unwrap_or_else(|error| log::warn!("{error}"));
                    return Ok(made);
                }
                Err(reason) => {
                    say.warn(format!("{reason}."));
                    why.push(format!("what {} has of it cannot be used", place.url));
                }
            }
        }
        Err(Miss { why: why.join("; "), may_come })
    }

    /// Whether some place has a result.
    pub fn have(&self, wanted: Wanted, say: &Block) -> bool {
        self.places.iter().any(|place| self.offer(place, wanted, Duration::MAX, say).is_ok())
    }

    /// What a place has of a result; or why it has none.
    fn offer(
        &self,
        place: &Place,
        wanted: Wanted,
        no_older: Duration,
        say: &Block,
    ) -> std::result::Result<Offer, Miss> {
        let offers = place.list(self, wanted.target, no_older, say)?;
        let same = |offer: &&Offer| wanted.key == Some(&offer.key);
        let alike = |offer: &&Offer| wanted.origin == Some(&offer.origin);
        let found = offers.iter().find(same).or_else(|| offers.iter().find(alike));
        found.cloned().ok_or_else(|| Miss { why: format!("{} does not have it", place.url), may_come: true })
    }

    /// An object, if it is the one that was offered.
    fn object(&self, place: &Place, offer: &Offer) -> std::result::Result<Made, String> {
        let url = format!("{}/{}", place.url, offer.place());
        if offer.size > manifest::LARGEST_OBJECT {
            return Err(format!("{url} is larger than {} bytes", manifest::LARGEST_OBJECT));
        }
        let wanted = download::Wanted { url: &url, limit: offer.size, patience: self.patience, fresh: false };
        let bytes = download(wanted, self.scratch.path()).map_err(|why| {
            if !is_absence(&why) {
                place.asked().silent = Some((Instant::now(), format!("{url}: {why}")));
            }
            format!("{url}: {why}")
        })?;
        if !offer.is(&bytes) {
            return Err(format!("{url} is not what its signed list says: it was changed, or is not all there"));
        }
        let mut made = object::read(&offer.key, &bytes).map_err(|error| format!("{url}: {error}"))?;
        let release = &offer.origin.target.release;
        let module = |name: &Path| name.extension().is_some_and(|it| it == "ko");
        let made_for = |bytes: &[u8]| ModInfo::parse(bytes).unwrap_or_default().release().to_owned();
        if let Some((name, bytes)) = made.files.iter().find(|(name, bytes)| module(name) && made_for(bytes) != *release)
        {
            return Err(format!("{url}: {} is for kernel \"{}\"", name.display(), made_for(bytes)));
        }
        let log = made.files.entry(LOG.into()).or_default();
        log.extend_from_slice(format!("\n# That was elsewhere: the modules are from {url}\n").as_bytes());
        Ok(made)
    }
}

impl Place {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has for a kernel. It is asked once, and whoever else wants to know waits for the answer.
    fn list(&self, places: &Places, target: &Target, no_older: Duration, say: &Block) -> List {
        let mut asked = self.asked();
        // Who is silent is so for every kernel and object.
        if let Some((_, why)) = asked.silent.as_ref().filter(|(at, _)| at.elapsed() <= no_older) {
            return Err(Miss { why: why.clone(), may_come: false });
        }
        if let Some((_, list)) = asked.lists.get(target).filter(|(at, _)| at.elapsed() <= no_older) {
            return list.clone();
        }
        let url = format!("{}/{}", self.url, manifest::place(target));
        let wanted = download::Wanted { url: &url, limit: manifest::LARGEST, patience: places.patience, fresh: true };
        let list = match download(wanted, places.scratch.path()) {
            Ok(signed) => places.verified(&signed).and_then(|text| manifest::read(target, &text)).map_err(|why| {
                say.warn(format!("{url} {why}.\nNothing of what is there is used."));
                Miss { why: format!("{} is not to be believed", self.url), may_come: false }
            }),
            Err(why) => {
                let (may_come, why) = (is_absence(&why), format!("{url}: {why}"));
                if !may_come {
                    asked.silent = Some((Instant::now(), why.clone()));
                }
                Err(Miss { why, may_come })
            }
        };
        asked.lists.insert(target.clone(), (Instant::now(), list.clone()));
        list
    }
}

impl Places {
    /// The text of a list, if a key in the keyring has signed it.
    fn verified(&self, signed: &[u8]) -> std::result::Result<String, String> {
        let cannot = |spot: WeakSpot| format!("cannot be verified: {}", spot.to_string().replace('\n', " "));
        if self.keyring.exists() {
            trust::check(&self.keyring).map_err(cannot)?;
        }
        signature::verified(signed, &self.keyring, self.scratch.path())
    }
}

/// Whether apt says that a place is there but a file of it is not.
fn is_absence(why: &str) -> bool {
    ["404 ", "410 ", "403 ", "File not found"].iter().any(|word| why.starts_with(word))
}
