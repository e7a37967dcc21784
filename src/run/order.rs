// SPDX-License-Identifier: GPL-2.0-or-later
//! Which of the steps that can be built goes first: the one with the longest way behind it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::model::headers::Headers;
use crate::model::history::History;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::plan::{Step, Verdict};

/// Where the objects are another build's, a build takes so much less time.
const SPARED: u32 = 4;

/// How long the steps will take.
#[derive(Debug)]
pub struct Times {
    /// Of each as it is known from earlier builds; nothing for what builds nothing.
    pub known: Vec<Option<Duration>>,
    /// Of each and all that waits for it, as far as it can be guessed; more of what spares others the compiler, and less of
    /// these.
    pub urgency: Vec<Duration>,
}

impl Times {
    /// Of the steps of a plan. Where nothing is known the size of the source decides.
    pub fn of(site: &Site, steps: &[Step], history: &History) -> Self {
        let builds = |step: &Step| matches!(step.verdict, Verdict::Build);
        let known: Vec<_> =
            steps.iter().map(|step| history.time(&step.id, &step.kernel.target).filter(|_| builds(step))).collect();
        let own: Vec<Duration> = steps
            .iter()
            .zip(&known)
            .map(|(step, known)| match known {
                Some(time) => *time,
                None if builds(step) => guess(source_size(&site.tree.source_link(&step.id))),
                None => Duration::ZERO,
            })
            .collect();
        let waits_for: Vec<Vec<usize>> = steps.iter().map(|step| step.awaited().copied().collect()).collect();
        let mut urgency = critical_paths(&own, &waits_for);
        put_first(&mut urgency, &own, &originals(site, steps));
        Self { urgency, known }
    }
}

/// For each step the earlier one whose objects it is likely to find in the compile cache: that of the same module for a
/// kernel that is all but the same, as after a respin.
fn originals(site: &Site, steps: &[Step]) -> Vec<Option<usize>> {
    let builds = |step: &Step| site.framework.compile_cache && matches!(step.verdict, Verdict::Build);
    let mut kernels: HashMap<&Id, usize> = HashMap::new();
    steps.iter().filter(|step| builds(step)).for_each(|step| *kernels.entry(&step.id).or_default() += 1);
    let mut likenesses: HashMap<&Target, Option<String>> = HashMap::new();
    let mut first: HashMap<(&Id, String), usize> = HashMap::new();
    let mut originals = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let likeness = || Headers::of(&step.kernel.build_dir).ok().map(|headers| headers.likeness());
        let several = builds(step) && kernels[&step.id] > 1;
        let likeness =
            several.then(|| likenesses.entry(&step.kernel.target).or_insert_with(likeness).clone()).flatten();
        let original = likeness.map(|likeness| *first.entry((&step.id, likeness)).or_insert(index));
        originals.push(original.filter(|original| *original != index));
    }
    originals
}

/// What spares others the compiler goes before all that is as urgent, and these go after it.
fn put_first(urgency: &mut [Duration], own: &[Duration], originals: &[Option<usize>]) {
    for (index, original) in originals.iter().enumerate() {
        if let Some(original) = *original {
            urgency[original] += own[index] / SPARED;
            urgency[index] = urgency[index].saturating_sub(own[index] - own[index] / SPARED);
        }
    }
}

/// The longest way from the begin of each step to the end of all. A step waits for the commitment of earlier ones,
/// `waits_for`.
fn critical_paths(own: &[Duration], waits_for: &[Vec<usize>]) -> Vec<Duration> {
    let mut paths = own.to_vec();
    // The longest way of those that wait for each.
    let mut behind = vec![Duration::ZERO; own.len()];
    for index in (0..own.len()).rev() {
        paths[index] += behind[index];
        for &earlier in &waits_for[index] {
            behind[earlier] = behind[earlier].max(paths[index]);
        }
    }
    paths
}

/// How long it takes until all is done, of which so much is left on `cores` cores; unknown if it is of one.
pub fn left(steps: &[Option<Duration>], cores: usize) -> Option<Duration> {
    let known: Option<Vec<Duration>> = steps.iter().copied().collect();
    let known = known?;
    let longest = known.iter().max().copied()?;
    let shared = known.iter().sum::<Duration>() / u32::try_from(cores.min(known.len())).unwrap_or(u32::MAX);
    Some(longest.max(shared))
}

/// Bytes of C source that a build would compile at most.
fn source_size(dir: &Path) -> u64 {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => source_size(&entry.path()),
            Ok(kind) if kind.is_file() && entry.file_name().as_encoded_bytes().ends_with(b".c") => {
                entry.metadata().map_or(0, |meta| meta.len())
            }
            _ => 0,
        })
        .sum()
}

/// What real packages take on one core: a second for kbuild, and eight for each megabyte.
fn guess(source: u64) -> Duration {
    Duration::from_millis(1000 + source / 125)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_end_is_what_counts() {
        type Case = (&'static [u64], &'static [&'static [usize]], &'static [u64]);
        let cases: [Case; 6] = [
            (&[], &[], &[]),
            (&[3, 5, 1], &[&[], &[], &[]], &[3, 5, 1]),
            // A chain.
            (&[1, 2, 3], &[&[], &[0], &[1]], &[6, 5, 3]),
            // Nobody waits for the first.
            (&[1, 1, 9, 4], &[&[], &[], &[1], &[]], &[1, 10, 9, 4]),
            // The longest of those that wait, one of them for two.
            (&[1, 2, 9, 3], &[&[], &[0], &[0, 1], &[1]], &[12, 11, 9, 3]),
            // What builds nothing is on the way all the same.
            (&[2, 0, 7], &[&[], &[0], &[1]], &[9, 7, 7]),
        ];
        for (own, waits_for, expected) in cases {
            let own: Vec<_> = own.iter().copied().map(Duration::from_secs).collect();
            let expected: Vec<_> = expected.iter().copied().map(Duration::from_secs).collect();
            let waits_for: Vec<_> = waits_for.iter().map(|steps| steps.to_vec()).collect();
            assert_eq!(critical_paths(&own, &waits_for), expected, "{own:?} {waits_for:?}");
        }
    }

    #[test]
    fn what_spares_another_the_compiler_goes_first_and_that_one_last() {
        let seconds = |times: [u64; 5]| times.map(Duration::from_secs);
        let mut urgency = seconds([8, 8, 8, 8, 9]);
        put_first(&mut urgency, &seconds([8, 8, 8, 8, 9]), &[None, None, Some(1), Some(1), None]);
        assert_eq!(urgency, seconds([8, 12, 2, 2, 9]));
    }

    #[test]
    fn what_is_left_is_the_longest_or_the_share_of_a_core() {
        for (steps, cores, expected) in [
            (&[][..], 2, None),
            (&[Some(4), None], 2, None),
            (&[Some(4)], 2, Some(4)),
            (&[Some(9), Some(1)], 2, Some(9)),
            (&[Some(4), Some(4), Some(4)], 2, Some(6)),
            (&[Some(4), Some(4), Some(4)], 8, Some(4)),
        ] {
            let seconds = |time: u64| Duration::from_secs(time);
            let steps: Vec<_> = steps.iter().map(|time| time.map(seconds)).collect();
            assert_eq!(left(&steps, cores), expected.map(seconds), "{steps:?} {cores}");
        }
    }

    #[test]
    fn only_what_is_compiled_counts_as_source() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("sub")).expect("made");
        for (name, size) in [("a.c", 10), ("sub/b.c", 5), ("README", 1000), ("firmware.bin", 9999)] {
            fs::write(dir.path().join(name), vec![b'x'; size]).expect("written");
        }
        std::os::unix::fs::symlink(".", dir.path().join("loop")).expect("made");
        assert_eq!(source_size(dir.path()), 15);
    }
}
