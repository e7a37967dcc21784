// SPDX-License-Identifier: GPL-2.0-or-later
//! How many jobs there is memory for.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::paths::Paths;
pub use super::sys::{have_heaps, keep_heap_small};

/// What a job may come to need. A compiler of kernel modules usually has some 100 MiB, and several times that for the
/// largest files, but not at once: what is given out now is seen in what is left only seconds later. The linker, make,
/// its shells and the files just read come on top, and the rest of the system wants to go on.
const PER_JOB: u64 = 512 << 20;

/// How long a job takes to show what it needs.
pub const SHOWN: Duration = Duration::from_secs(2);

/// Where to look for free memory.
#[derive(Debug, Clone)]
pub struct Gauge {
    meminfo: PathBuf,
    /// Control groups this process is in, innermost first.
    groups: Vec<PathBuf>,
}

impl Gauge {
    /// Of this process on the system below `paths`.
    pub fn new(paths: &Paths) -> Self {
        let cgroup = fs::read_to_string(paths.system("/proc/self/cgroup")).unwrap_or_default();
        Self { meminfo: paths.system("/proc/meminfo"), groups: groups(&cgroup, &paths.system("/sys/fs/cgroup")) }
    }

    /// Bytes that can be used without swapping, in the tightest of limits; `None` if that cannot be found out.
    fn available(&self) -> Option<u64> {
        let machine = fs::read_to_string(&self.meminfo).ok().and_then(|text| kilobytes(&text, "MemAvailable:"));
        self.groups.iter().filter_map(|group| left_in(group)).chain(machine).min()
    }

    /// How many jobs there is room for where nothing else limits them.
    pub fn room(&self) -> Option<usize> {
        self.available().map(|available| jobs(0, 0, available))
    }

    /// How many of `wanted` jobs may run while `running` do.
    pub fn jobs(&self, running: usize, wanted: usize) -> usize {
        self.available().map_or(usize::MAX, |available| jobs(running, wanted, available))
    }
}

/// All memory of the machine, in bytes, with what it can swap to.
pub fn machine_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    kilobytes(&text, "MemTotal:")?.checked_add(kilobytes(&text, "SwapTotal:").unwrap_or(0))
}

/// How many jobs may run while `running` do and so many bytes are left: those, and what there is room for; never none.
///
/// A make gives no token back as long as it has work. So where there is not plenty for all that are wanted, it is one more
/// at a time, and those before show what they need: not sooner than [`SHOWN`].
fn jobs(running: usize, wanted: usize, available: u64) -> usize {
    let room = usize::try_from(available / PER_JOB).unwrap_or(usize::MAX);
    let more = if room < wanted.saturating_mul(2) { room.min(1) } else { room };
    running.saturating_add(more).max(1)
}

/// The number in a line of /proc/meminfo, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The directories of the control groups that /proc/self/cgroup names, from the process' own up to the root of what is
/// mounted: the kernel's second kind, in which limits of memory have names of their own.
fn groups(cgroup: &str, mounted: &Path) -> Vec<PathBuf> {
    let Some(own) = cgroup.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
    let own = mounted.join(own);
    own.ancestors().take_while(|dir| dir.starts_with(mounted)).map(Path::to_owned).collect()
}

/// What a control group may use beyond what it does. Files that were read count as used there, but go when memory is
/// needed.
fn left_in(group: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number("memory.max")?;
    let used = number("memory.current")?;
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let files: u64 = ["inactive_file ", "active_file "].iter().filter_map(|name| stat_of(&stat, name)).sum();
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

fn stat_of(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    #[test]
    fn jobs_are_those_that_run_and_those_there_is_room_for() {
        for (running, available, expected) in [
            (0, 0, 1),
            (0, 100 * MIB, 1),
            (0, GIB, 1),
            (0, 16 * GIB, 32),
            // What runs goes on, however little is left.
            (4, 0, 4),
            (4, 511 * MIB, 4),
            (4, 512 * MIB, 5),
            (4, 2 * GIB, 5),
            (4, 4 * GIB, 12),
        ] {
            assert_eq!(jobs(running, 4, available), expected, "{running} and {available}");
        }
    }

    #[test]
    fn the_tightest_limit_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let file = dir.path().join(path);
            fs::create_dir_all(file.parent().expect("below the root")).expect("made");
            fs::write(file, text).expect("written");
        };
        let paths = Paths::new(dir.path());
        assert_eq!(Gauge::new(&paths).jobs(0, 2), usize::MAX, "nothing known, nothing withheld");
        write("proc/meminfo", "MemTotal:  9999999 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\n");
        write("proc/self/cgroup", "1:memory:/old\n0::/a/b\n");
        assert_eq!(Gauge::new(&paths).available(), Some(4 * GIB));
        // No limit is called max.
        write("sys/fs/cgroup/a/b/memory.max", "max\n");
        write("sys/fs/cgroup/a/b/memory.current", "1\n");
        assert_eq!(Gauge::new(&paths).available(), Some(4 * GIB));
        // A group further out has one; what is cached there goes when it has to.
        write("sys/fs/cgroup/a/memory.max", &format!("{}\n", 2 * GIB));
        write("sys/fs/cgroup/a/memory.current", &format!("{}\n", 2 * GIB));
        write("sys/fs/cgroup/a/memory.stat", &format!("anon 1\ninactive_file {GIB}\nactive_file 0\n"));
        assert_eq!(Gauge::new(&paths).available(), Some(GIB));
        assert_eq!(Gauge::new(&paths).jobs(1, 1), 3);
    }
}
