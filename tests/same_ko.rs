// SPDX-License-Identifier: GPL-2.0-or-later

//! The modules that we install are those that Debian's dkms installs.

use std::collections::BTreeMap;

use flate2::Crc;
use object::{Object, ObjectSection, SectionFlags};

use crate::support::btf::{self, Base};
use crate::support::{Layer, PACKAGES, Root};

/// Packages' sources, from where they are in a root. By these alone, because the peer declares that it breaks one of
/// the packages.
#[derive(Clone, Copy)]
enum From {
    ThisDebian,
    Debian13,
}

/// Puts `kernel` into a root, unless it is there, and what gives modules BTF.
fn with_btf(root: &mut Root, kernel: &str) {
    // Nobody boots it.
    root.write("/usr/sbin/update-initramfs", "#!/bin/sh\n");
    root.sh(&format!("apt-get -qq -y install linux-image-{kernel} linux-headers-{kernel} dwarves"));
}

/// Ours and the peer's, with one key.
fn roots() -> [Root; 2] {
    [Layer::Ours, Layer::Peer].map(|layer| {
        let mut root = Root::with(layer, &[]);
        root.same_key();
        root
    })
}

/// Installs the modules of all packages.
fn install_all(root: &mut Root, kernel: &str, from: From) {
    let directory = match from {
        From::ThisDebian => "/var/cache/apt/archives",
        From::Debian13 => "/var/cache/apt/archives/trixie",
    };
    for package in PACKAGES {
        root.sh(&format!("dpkg --fsys-tarfile {directory}/{package}_*.deb | tar -x -C / ./usr/src"));
    }
    root.sh("for source in /usr/src/*/dkms.conf; do dkms add \"${source%/dkms.conf}\" || exit; done");
    let timed =
        root.sh(&format!("TIMEFORMAT='%R s, of the processor %U s and %S s'; time dkms autoinstall -k {kernel}"));
    println!("{}: dkms autoinstall took {}", root.layer.name(), timed.lines().last().unwrap_or_default());
}

/// Name of a module's file to what is in it, unpacked.
fn installed(root: &mut Root, kernel: &str) -> BTreeMap<String, Vec<u8>> {
    let directory = format!("/lib/modules/{kernel}/updates/dkms");
    let names = root.sh(&format!("ls {directory}"));
    names.lines().map(|name| (name.to_owned(), root.bytes(&format!("xz -dcf {directory}/{name}")))).collect()
}

type Section = (String, SectionFlags, u64, Vec<u8>);

/// All sections in their order, but for the note that hashes debug information and its paths. What is in `.BTF` is not
/// its bytes, but its types.
fn sections(module: &[u8], base: Base) -> object::Result<Vec<Section>> {
    let file = object::File::parse(module)?;
    let sections = file
        .sections()
        .map(|section| {
            let name = section.name().expect("a section has a name").to_owned();
            let data = section.data().expect("a section lies in the file");
            let data = if name == ".BTF" { btf::types(data, base).join("\n").into_bytes() } else { data.to_vec() };
            (name, section.flags(), section.align(), data)
        })
        .filter(|(name, ..)| name != ".note.gnu.build-id")
        .collect();
    Ok(sections)
}

/// Whether both are modules, and the same but for that note and the signatures that follow from it.
pub fn same_sections(one: &[u8], other: &[u8]) -> bool {
    let sections = |module| sections(module, Base::default());
    matches!((sections(one), sections(other)), (Ok(one), Ok(other)) if one == other)
}

/// The types in the headers' vmlinux, which modules build upon; none if it is empty.
pub fn base_of(vmlinux: &[u8]) -> Base {
    if vmlinux.is_empty() {
        return Base::default();
    }
    let vmlinux = object::File::parse(vmlinux).expect("an ELF file");
    let types = vmlinux.section_by_name(".BTF").expect("the kernel's own types");
    Base::of(types.data().expect("a section lies in the file"))
}

/// A line on each section of a module, which tells one content from another.
pub fn summary(module: &[u8], base: Base) -> Vec<String> {
    let sections = sections(module, base).expect("an ELF file");
    let line = |(name, flags, align, data): Section| {
        let mut sum = Crc::new();
        sum.update(&data);
        format!("{name} {flags:?} {align} {} {:08x}", data.len(), sum.sum())
    };
    sections.into_iter().map(line).collect()
}

/// Looks that both have the same modules, which are signed with the same key; gives ours.
fn compare([ours, peer]: &mut [Root; 2], kernel: &str, base: Base) -> BTreeMap<String, Vec<u8>> {
    let status = &format!("dkms status -k {kernel}");
    assert_eq!(ours.sh(status), peer.sh(status));
    let (our_modules, peer_modules) = (installed(ours, kernel), installed(peer, kernel));
    assert_eq!(our_modules.keys().collect::<Vec<_>>(), peer_modules.keys().collect::<Vec<_>>());
    assert!(our_modules.len() >= PACKAGES.len());
    for (name, module) in &our_modules {
        let sections = |module| sections(module, base).expect("an ELF file");
        let (our_sections, peer_sections) = (sections(module), sections(&peer_modules[name]));
        let names =
            |sections: &[Section]| -> Vec<String> { sections.iter().map(|section| section.0.clone()).collect() };
        assert_eq!(names(&our_sections), names(&peer_sections), "{name}");
        for (our_section, peer_section) in our_sections.iter().zip(&peer_sections) {
            // Not assert_eq: nobody wants to see the bytes.
            assert!(our_section == peer_section, "{name}: {} differs", our_section.0);
        }
    }
    let signatures = &format!(
        "cd /lib/modules/{kernel}/updates/dkms && for module in *.ko*; do \
         for field in sig_id signer sig_key sig_hashalgo; do modinfo -F $field ./$module; done; done"
    );
    let signed = ours.sh(signatures);
    assert_eq!(signed, peer.sh(signatures));
    assert_eq!(signed.lines().count(), 4 * our_modules.len());
    our_modules
}

#[test]
fn every_section_of_every_module_is_the_peers() {
    let mut roots = roots();
    for root in &mut roots {
        install_all(root, "$K", From::ThisDebian);
    }
    compare(&mut roots, "$K", Base::default());
}

#[test]
fn every_type_of_every_module_is_the_peers_and_comes_in_the_same_order_each_time() {
    let mut roots = roots();
    let kernel = roots[0].sh("cat /etc/throwaway-btf-kernel");
    let kernel = kernel.trim_end();
    for root in &mut roots {
        with_btf(root, kernel);
        install_all(root, kernel, From::Debian13);
    }
    let headers = roots[0].bytes(&format!("cat /lib/modules/{kernel}/build/vmlinux"));
    let base = base_of(&headers);

    let modules = compare(&mut roots, kernel, base);
    for (name, module) in &modules {
        assert!(name.ends_with(".ko.xz"), "{name}");
        assert!(sections(module, base).expect("an ELF file").iter().any(|section| section.0 == ".BTF"), "{name}");
    }
    let [ours, peer] = &mut roots;
    let compression =
        &format!("cd /lib/modules/{kernel}/updates/dkms && xz --robot --list *.xz | cut -f 1,2,7 | sort -u");
    assert_eq!(ours.sh(compression), peer.sh(compression));

    // Some of them again, with another number of jobs: the same bytes.
    let files = "md5sum /var/lib/dkms/*/*/*/*/module/*";
    let before = ours.sh(files);
    ours.sh(&format!(
        "modules=$(dkms status -k {kernel} | cut -d, -f1 | sort -u | grep -E '^(evdi|tp_smapi|v4l2loopback)/') && [ $(wc -w <<<$modules) = 3 ] && \
         for module in $modules; do dkms build $module -k {kernel} --force -j 5 || exit; done"
    ));
    ours.unchanged(files, &before);
}
