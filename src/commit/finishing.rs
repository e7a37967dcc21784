// SPDX-License-Identifier: GPL-2.0-or-later
//! What comes last for a kernel: depmod, and what can go when depmod has found what is to stay.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use super::Commit;
use crate::error::{Doing, Error, cannot};
use crate::model::module::{Id, Target};
use crate::steps::depmod::Preference;
use crate::steps::{archive, depmod, initramfs, installed, superseded};
use crate::system::files::replace_link;
use crate::system::output::Block;

impl Commit<'_> {
    /// Runs depmod unless that is not wanted. Where it fails the marks stay: nothing counts as installed that modprobe
    /// does not know, and the same command again ends it.
    fn depmod(
        &mut self,
        release: &str,
        preference: &Preference,
        here: &[PathBuf],
        marks: &[(PathBuf, Id)],
        say: &Block,
    ) -> bool {
        let run = || depmod::run(self.site, release, preference, here, say);
        let failed = if self.options.no_depmod { None } else { run().err() };
        if let Some(why) = &failed {
            self.put_off(release, format!("depmod failed for kernel {release}: {why}"), marks, say);
        }
        failed.is_none()
    }

    /// Has depmod prefer these modules, unless it is not run; None where that cannot be, which is told.
    fn prefer(
        &mut self,
        release: &str,
        preferred: &[PathBuf],
        marks: &[(PathBuf, Id)],
        say: &Block,
    ) -> Option<Preference> {
        let preferred = if self.options.no_depmod { &[] } else { preferred };
        let preference = Preference::new(self.site, release, preferred);
        let failed = |error: &Error| {
            // Deleting first would be to delete what depmod may not find a successor of.
            self.put_off(release, format!("depmod was not run for kernel {release}: {error}"), marks, say);
        };
        preference.inspect_err(failed).ok()
    }

    /// Why what was done to a kernel is not at its end, if it is not.
    pub fn why_stuck(&self, release: &str) -> Option<&str> {
        self.stuck.get(release).map(String::as_str)
    }

    /// Says why, and leaves the changes made to one kernel to the next command. On a full disk there was no room for all of
    /// the marks; what went made some.
    fn put_off(&mut self, release: &str, why: String, marks: &[(PathBuf, Id)], say: &Block) {
        say.warn(&why);
        self.stuck.insert(release.to_owned(), why);
        for (mark, id) in marks.iter().filter(|(mark, _)| !mark.exists()) {
            let noted = self.site.tree.note(mark, &format!("{id}\n"));
            noted.unwrap_or_else(|error| log::warn!("{}: {error}", mark.display()));
        }
    }

    /// Ends the changes made to one kernel: depmod, then what it does not name any more goes, then the marks. Whether that
    /// could be done; an error is told, unless something `failed` before, and the marks stay, so that the same command ends
    /// it. (That depmod fails has always been no error.)
    pub fn finish(&mut self, release: &str, failed: bool, say: &Block) -> bool {
        let first = RefCell::new(None);
        let tell = |error: Error| {
            // What comes of the first is none that a person has to look into.
            if failed || first.borrow().is_some() {
                say.warn(error.to_string())
            } else {
                say.error(&error)
            }
            first.borrow_mut().get_or_insert(error.to_string());
        };
        self.end(release, &tell, say);
        match first.into_inner() {
            None => true,
            Some(why) => {
                self.stuck.entry(release.to_owned()).or_insert(why);
                false
            }
        }
    }

    fn end(&mut self, release: &str, tell: &dyn Fn(Error), say: &Block) {
        let Some(mut touched) = self.touched.remove(release) else {
            return;
        };
        if self.options.depmod_later && touched.withdrawn {
            depmod::tell(self.site, release, say);
        }
        let done = Cell::new(true);
        let tell = |error| {
            done.set(false);
            tell(error)
        };
        let modules = self.site.modules(release);
        let placed = touched.placed.iter().flat_map(|(.., placed)| &placed.files);
        let successors: Vec<PathBuf> =
            placed.chain(touched.restored.iter().map(|(.., place)| place)).cloned().collect();
        let mut leaving = std::mem::take(&mut touched.leaving);
        leaving.sort();
        leaving.dedup();
        leaving.retain(|file| !successors.contains(file));
        // What stood there all the time may succeed as well.
        let is_followed = |file: &PathBuf| {
            successors.iter().any(|it| installed::is_succeeded(file, it) || installed::is_beside(file, it))
        };
        let orphans: Vec<PathBuf> = leaving.iter().filter(|file| !is_followed(file)).cloned().collect();
        let mut others = installed::namesakes(&orphans, &modules);
        others.retain(|file| !leaving.contains(file) && !successors.contains(file));
        let all = || successors.iter().chain(&others);
        let of = |file: &PathBuf| all().find(|other| installed::is_succeeded(file, other));
        let (mut leaving, gone): (Vec<_>, Vec<_>) = leaving.into_iter().partition(|file| of(file).is_some());
        // One whose successor lies beside it, compressed in another way, leads there until depmod names that: it cannot be
        // told to prefer one of two files in a directory.
        let twin = |file: &PathBuf| all().find(|other| installed::is_beside(file, other));
        let (mut twins, gone): (Vec<_>, Vec<_>) = gone.into_iter().partition(|file| twin(file).is_some());
        let giving_way = touched.placed.iter().flat_map(|(.., placed)| placed.giving_way());
        let (beside, giving_way): (Vec<_>, Vec<_>) = giving_way.partition(|file| twin(file).is_some());
        twins.extend(beside);
        let lead = |file: &PathBuf| {
            let name = twin(file).and_then(|other| other.file_name()).unwrap_or_default();
            replace_link(Path::new(name), file).doing(cannot("replace", file)).unwrap_or_else(tell)
        };

        let mut preferred: Vec<PathBuf> = leaving.iter().filter_map(of).cloned().collect();
        preferred.extend(touched.placed.iter().flat_map(|(.., placed)| placed.contested(&modules)).cloned());
        let Some(mut preference) = self.prefer(release, &preferred, &touched.marks, say) else {
            return;
        };
        let delete = |file: &PathBuf| installed::delete(file, &successors, &modules).unwrap_or_else(tell);
        gone.iter().for_each(delete);
        twins.iter().for_each(lead);
        if preference.is_none() {
            leaving.drain(..).for_each(|file| delete(&file));
        }
        if touched.changed {
            let mut going = leaving.clone();
            going.extend(giving_way);
            let named = || if self.options.no_depmod { Vec::new() } else { depmod::named(&modules, &going) };
            if !self.depmod(release, &preference, &successors, &touched.marks, say) {
                return;
            }
            // Its settings may have it prefer what goes, or it could not read the directory of ours.
            if !named().is_empty() {
                preferred.extend(going.iter().filter_map(of).cloned());
                preference = match self.prefer(release, &preferred, &touched.marks, say) {
                    Some(it) if self.depmod(release, &it, &successors, &touched.marks, say) => it,
                    _ => return,
                };
                if let Some(file) = named().first() {
                    let why = format!("depmod failed for kernel {release}: it still names {}", file.display());
                    self.put_off(release, why, &touched.marks, say);
                    return;
                }
            }
        }
        let is_misled = !self.options.no_depmod && !depmod::named(&modules, &twins).is_empty();
        leaving.iter().chain(&twins).for_each(delete);
        for (name, target, placed) in &touched.placed {
            placed.settle().unwrap_or_else(tell);
            archive::let_go(self.site, name, target, Some(&touched.back(name, target))).unwrap_or_else(tell);
            superseded::settle(self.site, name, target, &successors, &touched.waiting).unwrap_or_else(tell);
            superseded::take_over(self.site, name, target, &placed.files).unwrap_or_else(tell);
        }
        for (name, target, files) in &touched.given_up {
            archive::let_go(self.site, name, target, Some(&touched.back(name, target))).unwrap_or_else(tell);
            superseded::retain(self.site, name, target, |file| !files.contains(file)).unwrap_or_else(tell);
        }
        // Of those that are left depmod may prefer another one by itself.
        let again = is_misled || !preference.is_none() && !installed::namesakes(&preferred, &modules).is_empty();
        if again && !self.depmod(release, &Preference::default(), &successors, &touched.marks, say) {
            twins.iter().filter(|_| is_misled).for_each(lead);
            return;
        }
        for (name, target) in &touched.gone {
            archive::let_go(self.site, name, target, None).unwrap_or_else(tell);
            superseded::settle(self.site, name, target, &successors, &[]).unwrap_or_else(tell);
        }
        // As long as there is a mark, somebody comes back to it.
        if touched.changed && !self.options.initramfs_follows {
            initramfs::refresh(self.site, release);
        }
        // That of what others build upon is the last: whoever comes back to it comes to them as well.
        for (mark, _) in touched.marks.iter().rev().filter(|_| done.get()) {
            self.site.tree.forget(mark).doing(cannot("remove", mark)).unwrap_or_else(tell);
        }
        if self.site.framework.modprobe_on_install && !touched.placed.is_empty() && Target::running().release == release
        {
            crate::steps::load::modules();
        }
    }
}
