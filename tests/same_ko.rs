// SPDX-License-Identifier: GPL-2.0-or-later

//! The modules that we install are those that Debian's dkms installs.

use std::collections::BTreeMap;

use object::{Object, ObjectSection, SectionFlags};

use crate::support::{Layer, PACKAGES, Root};

/// Installs the modules of all packages for the newest kernel, with this key. By their sources
/// alone, because the peer declares that it breaks one of the packages.
fn install_all(root: &mut Root, key: &str, certificate: &str) {
    root.sh(&format!(
        "base64 -d <<<'{key}' >/var/lib/dkms/mok.key && base64 -d <<<'{certificate}' >/var/lib/dkms/mok.pub
         chmod 600 /var/lib/dkms/mok.key"
    ));
    for package in PACKAGES {
        root.sh(&format!("dpkg --fsys-tarfile /var/cache/apt/archives/{package}_*.deb | tar -x -C / ./usr/src"));
    }
    root.sh("for source in /usr/src/*/dkms.conf; do dkms add \"${source%/dkms.conf}\" || exit; done");
    let timed = root.sh("TIMEFORMAT='%R s, of the processor %U s and %S s'; time dkms autoinstall -k $K");
    println!("{}: dkms autoinstall took {}", root.layer.name(), timed.lines().last().unwrap_or_default());
}

/// Name of a module to the bytes of its file.
fn installed(root: &mut Root) -> BTreeMap<String, Vec<u8>> {
    let names = root.sh("cd /lib/modules/$K/updates/dkms && ls");
    names
        .lines()
        .map(|name| {
            let dump = root.sh(&format!("od -An -v -w64 -tx1 /lib/modules/$K/updates/dkms/{name}"));
            let bytes = dump.split_whitespace().map(|byte| u8::from_str_radix(byte, 16));
            let bytes: Result<_, _> = bytes.collect();
            (name.to_owned(), bytes.expect("od prints bytes"))
        })
        .collect()
}

type Section = (String, SectionFlags, u64, Vec<u8>);

/// All sections in their order, but for the note that hashes debug information and its paths.
fn sections(module: &[u8]) -> Vec<Section> {
    let file = object::File::parse(module).expect("an ELF file");
    file.sections()
        .map(|section| {
            (
                section.name().expect("a section has a name").to_owned(),
                section.flags(),
                section.align(),
                section.data().expect("a section lies in the file").to_vec(),
            )
        })
        .filter(|(name, ..)| name != ".note.gnu.build-id")
        .collect()
}

#[test]
fn every_section_of_every_module_is_the_peers() {
    let mut ours = Root::with(Layer::Ours, &[]);
    let mut peer = Root::with(Layer::Peer, &[]);
    ours.sh("dkms generate_mok");
    let key = ours.sh("base64 -w0 /var/lib/dkms/mok.key");
    let certificate = ours.sh("base64 -w0 /var/lib/dkms/mok.pub");
    for root in [&mut ours, &mut peer] {
        install_all(root, &key, &certificate);
    }

    let (our_modules, peer_modules) = (installed(&mut ours), installed(&mut peer));
    assert_eq!(our_modules.keys().collect::<Vec<_>>(), peer_modules.keys().collect::<Vec<_>>());
    assert!(our_modules.len() >= PACKAGES.len());
    for (name, module) in &our_modules {
        let (our_sections, peer_sections) = (sections(module), sections(&peer_modules[name]));
        let names =
            |sections: &[Section]| -> Vec<String> { sections.iter().map(|section| section.0.clone()).collect() };
        assert_eq!(names(&our_sections), names(&peer_sections), "{name}");
        for (our_section, peer_section) in our_sections.iter().zip(&peer_sections) {
            // Not assert_eq: nobody wants to see the bytes.
            assert!(our_section == peer_section, "{name}: {} differs", our_section.0);
        }
    }
    let signatures = "cd /lib/modules/$K/updates/dkms && for module in *.ko; do \
                      for field in sig_id signer sig_key sig_hashalgo; do \
                      modinfo -F $field ./$module; done; done";
    let signed = ours.sh(signatures);
    assert_eq!(signed, peer.sh(signatures));
    assert_eq!(signed.lines().count(), 4 * our_modules.len());
}
