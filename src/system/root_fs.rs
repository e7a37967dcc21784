// SPDX-License-Identifier: GPL-2.0-or-later
//! Which kernel modules the running system's root file system stands on, as the kernel tells it in /proc and /sys.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::system::directories::names;
use crate::system::paths::Paths;

/// File systems whose disks are elsewhere: the way there is the network.
const REMOTE: [&str; 5] = ["nfs", "nfs4", "cifs", "smb3", "ceph"];

/// Names of the modules without which the root file system that is mounted now could not be: that of the file system,
/// those of the disks it lies on, whatever is between the two, and what all of these use. Written with `_`.
///
/// What is built into the kernel has a name too, or none. In a chroot, whose root is no mount of its own, there are none.
pub fn modules(paths: &Paths) -> BTreeSet<String> {
    let mounts = fs::read_to_string(paths.system("/proc/self/mountinfo")).unwrap_or_default();
    let Some(root) = root_mount(&mounts) else { return BTreeSet::new() };
    let mut found = Found { paths, modules: BTreeSet::new(), seen: BTreeSet::new() };
    found.add(root.kind);
    if root.kind == "nfs4" {
        found.add("nfs");
        found.add("nfsv4");
    }
    for device in found.devices(&root) {
        found.follow(&device);
    }
    let remote = |device: &PathBuf| device.iter().any(|part| part.as_encoded_bytes().starts_with(b"session"));
    if REMOTE.contains(&root.kind) || found.seen.iter().any(remote) {
        for card in names(&paths.system("/sys/class/net")) {
            found.follow(&paths.system("/sys/class/net").join(card));
        }
    }
    found.add_used();
    found.modules
}

/// What is mounted at `/`.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    /// MAJOR:MINOR; of no block device where a file system spans several.
    device: &'a str,
    kind: &'a str,
    source: &'a str,
}

/// The last mount on `/` in the text of /proc/PID/mountinfo, see proc(5).
fn root_mount(mountinfo: &str) -> Option<Mount<'_>> {
    mountinfo.lines().rev().find_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(2);
        let device = place.next()?;
        let mut what = what.split(' ');
        let (kind, source) = (what.next()?, what.next()?);
        (place.nth(1)? == "/").then_some(Mount { device, kind, source })
    })
}

/// A module's name as the kernel knows it, which takes `-` for `_`, and kmod, to which it ends at the first dot.
pub fn module_name(name: &str) -> String {
    name.split('.').next().unwrap_or_default().replace('-', "_")
}

struct Found<'a> {
    paths: &'a Paths,
    modules: BTreeSet<String>,
    /// Devices that were followed, by their places below /sys/devices.
    seen: BTreeSet<PathBuf>,
}

impl Found<'_> {
    fn add(&mut self, module: &str) {
        self.modules.insert(module_name(module));
    }

    /// Where /sys has the devices that a file system lies on.
    fn devices(&self, root: &Mount) -> Vec<PathBuf> {
        let numbered = |numbers: &str| self.paths.system("/sys/dev/block").join(numbers);
        if numbered(root.device).exists() {
            return vec![numbered(root.device)];
        }
        let udev = Udev::read(self.paths);
        if root.kind == "zfs" {
            let pool = root.source.split('/').next().unwrap_or_default();
            return udev.with("ID_FS_LABEL", pool, Some("zfs_member")).map(numbered).collect();
        }
        // Several: the one that is named, and all that have its file system's identity.
        let named = fs::canonicalize(self.paths.system(root.source)).ok();
        let named =
            named.as_deref().and_then(Path::file_name).map(|name| self.paths.system("/sys/class/block").join(name));
        let numbers = named.as_ref().and_then(|place| fs::read_to_string(place.join("dev")).ok()).unwrap_or_default();
        let identity = udev.value(numbers.trim(), "ID_FS_UUID").unwrap_or_default();
        let others = udev.with("ID_FS_UUID", identity, None).map(numbered);
        named.iter().filter(|place| place.exists()).cloned().chain(others.filter(|_| !identity.is_empty())).collect()
    }

    /// Adds the drivers of a device and of all that it hangs on, and those of the devices that it is made of.
    fn follow(&mut self, device: &Path) {
        let Ok(device) = fs::canonicalize(device) else { return };
        if !self.seen.insert(device.clone()) {
            return;
        }
        let top = fs::canonicalize(self.paths.system("/sys/devices")).unwrap_or_default();
        for dir in device.ancestors().take_while(|dir| dir.starts_with(&top)) {
            if let Some(module) = fs::read_link(dir.join("driver/module")).ok().as_deref().and_then(Path::file_name) {
                self.add(&module.to_string_lossy());
            }
            let text = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
            if dir.starts_with(top.join("virtual")) && dir.join("dev").exists() {
                // Such disks have no driver, and are called after what makes them.
                let name = dir.file_name().unwrap_or_default().to_string_lossy();
                match name.split(|c: char| c.is_ascii_digit() || c == '-').next().unwrap_or_default() {
                    "dm" => self.add("dm_mod"),
                    "md" => self.add("md_mod"),
                    "zd" => self.add("zfs"),
                    other => self.add(other),
                }
            }
            if text("dm/uuid").starts_with("CRYPT-") {
                self.add("dm_crypt");
            }
            match text("md/level").trim() {
                "" => {}
                "raid4" | "raid5" | "raid6" => self.add("raid456"),
                level => self.add(level),
            }
            for below in names(&dir.join("slaves")) {
                self.follow(&dir.join("slaves").join(below));
            }
        }
    }

    /// Adds the modules that those found use: each says by whom it is held.
    fn add_used(&mut self) {
        let loaded = self.paths.system("/sys/module");
        let holders: Vec<(String, Vec<String>)> =
            names(&loaded).into_iter().map(|name| (name.clone(), names(&loaded.join(name).join("holders")))).collect();
        loop {
            let used = holders.iter().filter(|(name, by)| {
                !self.modules.contains(name) && by.iter().any(|holder| self.modules.contains(holder))
            });
            let used: Vec<String> = used.map(|(name, _)| name.clone()).collect();
            if used.is_empty() {
                return;
            }
            self.modules.extend(used);
        }
    }
}

/// What udev knows of block devices, by MAJOR:MINOR.
struct Udev(Vec<(String, String)>);

impl Udev {
    fn read(paths: &Paths) -> Self {
        let dir = paths.system("/run/udev/data");
        let block = names(&dir).into_iter().filter_map(|name| {
            let numbers = name.strip_prefix('b')?.to_owned();
            Some((numbers, fs::read_to_string(dir.join(&name)).ok()?))
        });
        Self(block.collect())
    }

    fn value(&self, numbers: &str, property: &str) -> Option<&str> {
        let (_, text) = self.0.iter().find(|(known, _)| known == numbers)?;
        property_of(text, property)
    }

    /// The devices with a property, and a kind of file system if that matters.
    fn with<'a>(
        &'a self,
        property: &'a str,
        value: &'a str,
        kind: Option<&'a str>,
    ) -> impl Iterator<Item = &'a str> + 'a {
        let fits = move |text: &str| {
            property_of(text, property) == Some(value)
                && kind.is_none_or(|kind| property_of(text, "ID_FS_TYPE") == Some(kind))
        };
        self.0.iter().filter(move |(_, text)| fits(text)).map(|(numbers, _)| numbers.as_str())
    }
}

fn property_of<'a>(text: &'a str, property: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(property)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::os::unix::fs::symlink;

    /// A machine below a directory, by files with a text and links: `path=text`, `path->target`.
    fn machine(lines: &str) -> io::Result<(tempfile::TempDir, Paths)> {
        let dir = tempfile::tempdir()?;
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (path, target, link) = match (line.split_once("->"), line.split_once('=')) {
                (Some((path, target)), _) => (path, target, true),
                (_, Some((path, text))) => (path, text, false),
                _ => panic!("{line}"),
            };
            let path = dir.path().join(path);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            if link {
                symlink(target, path)?;
            } else {
                fs::write(path, target.replace("\\n", "\n"))?;
            }
        }
        let paths = Paths::new(dir.path());
        Ok((dir, paths))
    }

    #[track_caller]
    fn needs(lines: &str, expected: &str) -> io::Result<()> {
        let (_dir, paths) = machine(lines)?;
        assert_eq!(modules(&paths).into_iter().collect::<Vec<_>>().join(" "), expected);
        Ok(())
    }

    const SATA: &str = "
        sys/dev/block/8:1->../../devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1
        sys/class/block/sda1->../../devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1
        sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda/dev=8:0
        sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1/dev=8:1
        sys/devices/pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/driver->../../../../../../../bus/scsi/drivers/sd
        sys/devices/pci0000:00/0000:00:17.0/driver->../../../bus/pci/drivers/ahci
        sys/bus/scsi/drivers/sd/module->../../../../module/sd_mod
        sys/bus/pci/drivers/ahci/module->../../../../module/ahci
        sys/module/libahci/holders/ahci=
        sys/module/libata/holders/ahci=
        sys/module/libata/holders/libahci=
        sys/module/scsi_mod/holders/libata=
        sys/module/snd/holders/snd_hda_intel=
        sys/class/net/eth0->../../devices/pci0000:00/0000:03:00.0/net/eth0
        sys/devices/pci0000:00/0000:03:00.0/net/eth0/mtu=1500
        sys/devices/pci0000:00/0000:03:00.0/driver->../../../bus/pci/drivers/r8125
        sys/bus/pci/drivers/r8125/module->../../../../module/r8125
    ";

    #[test]
    fn a_disk_hangs_on_its_controller() -> io::Result<()> {
        needs(
            &format!(
                "{SATA}\nproc/self/mountinfo=1 1 0:1 / / rw - rootfs rootfs rw\\n22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\\n23 22 0:5 / /proc rw - proc proc rw"
            ),
            "ahci ext4 libahci libata scsi_mod sd_mod",
        )
    }

    #[test]
    fn what_is_between_file_system_and_disk_counts() -> io::Result<()> {
        // An encrypted volume on a mirror of partitions.
        needs(
            &format!(
                "{SATA}
                proc/self/mountinfo=22 1 254:0 / / rw - xfs /dev/mapper/root rw
                sys/dev/block/254:0->../../devices/virtual/block/dm-0
                sys/devices/virtual/block/dm-0/dev=254:0
                sys/devices/virtual/block/dm-0/dm/uuid=CRYPT-LUKS2-0-root
                sys/devices/virtual/block/dm-0/slaves/md0p1->../../md0/md0p1
                sys/devices/virtual/block/md0/dev=9:0
                sys/devices/virtual/block/md0/md/level=raid1\\n
                sys/devices/virtual/block/md0/md0p1/dev=259:0
                sys/devices/virtual/block/md0/slaves/sda1->../../../../pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1"
            ),
            "ahci dm_crypt dm_mod libahci libata md_mod raid1 scsi_mod sd_mod xfs",
        )
    }

    #[test]
    fn three_levels_of_raid_are_one_module() -> io::Result<()> {
        for (level, module) in [("raid5", "raid456"), ("raid6", "raid456"), ("raid10", "raid10")] {
            needs(
                &format!(
                    "proc/self/mountinfo=22 1 9:0 / / rw - ext4 /dev/md0 rw
                    sys/dev/block/9:0->../../devices/virtual/block/md0
                    sys/devices/virtual/block/md0/dev=9:0
                    sys/devices/virtual/block/md0/md/level={level}\\n"
                ),
                &format!("ext4 md_mod {module}"),
            )?;
        }
        Ok(())
    }

    #[test]
    fn a_pool_of_zfs_is_found_by_its_name() -> io::Result<()> {
        needs(
            &format!(
                "{SATA}
                proc/self/mountinfo=22 1 0:26 / / rw - zfs rpool/ROOT/debian rw
                run/udev/data/b8:1=E:ID_FS_TYPE=zfs_member\\nE:ID_FS_LABEL=rpool\\n
                run/udev/data/b8:17=E:ID_FS_TYPE=zfs_member\\nE:ID_FS_LABEL=tank\\n
                run/udev/data/c1:1=E:ID_FS_TYPE=zfs_member\\nE:ID_FS_LABEL=rpool\\n
                sys/module/spl/holders/zfs="
            ),
            "ahci libahci libata scsi_mod sd_mod spl zfs",
        )
    }

    #[test]
    fn all_disks_of_one_file_system_count() -> io::Result<()> {
        needs(
            &format!(
                "{SATA}
                proc/self/mountinfo=22 1 0:26 /@ / rw - btrfs /dev/sda1 rw,subvol=/@
                dev/sda1=
                run/udev/data/b8:1=E:ID_FS_TYPE=btrfs\\nE:ID_FS_UUID=11-22\\n
                run/udev/data/b259:1=E:ID_FS_UUID=11-22\\nE:ID_FS_TYPE=btrfs\\n
                run/udev/data/b259:2=E:ID_FS_UUID=33-44\\n
                sys/dev/block/259:1->../../devices/pci0000:00/0000:04:00.0/nvme/nvme0/nvme0n1
                sys/devices/pci0000:00/0000:04:00.0/nvme/nvme0/nvme0n1/dev=259:1
                sys/devices/pci0000:00/0000:04:00.0/driver->../../../bus/pci/drivers/nvme
                sys/bus/pci/drivers/nvme/module->../../../../module/nvme
                sys/module/nvme_core/holders/nvme="
            ),
            "ahci btrfs libahci libata nvme nvme_core scsi_mod sd_mod",
        )
    }

    #[test]
    fn the_network_counts_where_the_disk_is_behind_it() -> io::Result<()> {
        needs(&format!("{SATA}\nproc/self/mountinfo=22 1 0:26 / / rw - nfs4 server:/root rw"), "nfs nfs4 nfsv4 r8125")?;
        needs(
            "proc/self/mountinfo=22 1 8:0 / / rw - ext4 /dev/sda rw
            sys/dev/block/8:0->../../devices/platform/host2/session1/target2:0:0/2:0:0:1/block/sda
            sys/devices/platform/host2/session1/target2:0:0/2:0:0:1/block/sda/dev=8:0
            sys/class/net/eth0->../../devices/pci0000:00/0000:03:00.0/net/eth0
            sys/devices/pci0000:00/0000:03:00.0/net/eth0/mtu=1500
            sys/devices/pci0000:00/0000:03:00.0/driver->../../../bus/pci/drivers/r8125
            sys/bus/pci/drivers/r8125/module->../../../../module/r8125",
            "ext4 r8125",
        )
    }

    #[test]
    fn disks_that_a_module_makes_name_it() -> io::Result<()> {
        for (name, module) in [("drbd0", "drbd"), ("zd16", "zfs"), ("bcache3", "bcache")] {
            needs(
                &format!(
                    "proc/self/mountinfo=22 1 7:0 / / rw - ext4 /dev/{name} rw
                    sys/dev/block/7:0->../../devices/virtual/block/{name}
                    sys/devices/virtual/block/{name}/dev=7:0"
                ),
                &if module < "ext4" { format!("{module} ext4") } else { format!("ext4 {module}") },
            )?;
        }
        Ok(())
    }

    #[test]
    fn where_there_is_no_such_mount_nothing_is_needed() -> io::Result<()> {
        needs("proc/self/mountinfo=22 1 8:1 / /srv rw - ext4 /dev/sda1 rw", "")?;
        needs("sys/module/x/holders/y=", "")?;
        needs("proc/self/mountinfo=22 1 8:9 / / rw - ext4 /dev/nosuch rw", "ext4")
    }

    #[test]
    fn damage_names_nothing() {
        for text in ["", "\n\n", "22 1 8:1 / /", " - ", "22 1 - ext4 x", "22 1 8:1 / / rw - ext4"] {
            assert_eq!(root_mount(text), None, "{text:?}");
        }
    }
}
