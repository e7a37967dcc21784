// SPDX-License-Identifier: GPL-2.0-or-later
//! What a place has of modules that were built: a signed list for each kernel, and the objects that it names.
//!
//! ```text
//! KERNEL/ARCH/manifest.asc    the list, signed, in the manner of deb822(5)
//! objects/SHA256.tar.zst      a result, see steps/object.rs
//!
//! Kernel: 6.1.0-56-amd64
//! Architecture: x86_64
//!
//! Module: hello
//! Version: 0.1
//! Kernel-Version: 6.1.192-2
//! Source: 4b1a...
//! Key: 9c07...
//! Size: 3211
//! SHA256: 77fe...
//! Signed: yes                 by the builder, if it was told to
//! ```

use std::fmt::Write;

use deb822_lossless::{Deb822, Paragraph};

use crate::model::module::{Id, Target};
use crate::model::origin::Origin;
use crate::system::digest;

/// The largest list that is looked at, in bytes: some ten thousand modules.
pub const LARGEST: u64 = 4 << 20;

/// The largest object, in bytes: nvidia's modules have some 100 MiB before they are compressed.
pub const LARGEST_OBJECT: u64 = 512 << 20;

/// A result that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What it was made of.
    pub origin: Origin,
    /// The key of what was made.
    pub key: String,
    /// The object's size, in bytes.
    pub size: u64,
    /// Its digest, and its name.
    pub sha256: String,
    /// Whether its modules are signed.
    pub signed: bool,
}

impl Offer {
    /// Of an object.
    pub fn of(origin: Origin, key: String, signed: bool, object: &[u8]) -> Self {
        Self { origin, key, size: object.len() as u64, sha256: digest::of(object), signed }
    }

    /// Where its object is, below a place. A list that names it is good for as long as that is there: there is never
    /// another of this name.
    pub fn place(&self) -> String {
        format!("{OBJECTS}/{}{OBJECT}", self.sha256)
    }

    /// Whether an object is the one that is meant.
    pub fn is(&self, object: &[u8]) -> bool {
        object.len() as u64 == self.size && digest::of(object) == self.sha256
    }
}

/// What lists are called.
pub const LIST: &str = "manifest.asc";

/// Where the list for a kernel is, below a place.
pub fn place(Target { release, arch }: &Target) -> String {
    format!("{release}/{arch}/{LIST}")
}

/// The directory of the objects.
pub const OBJECTS: &str = "objects";

/// How their names end, behind the digest.
const OBJECT: &str = ".tar.zst";

/// The digest in the name of an object.
pub fn object_named(name: &str) -> Option<&str> {
    name.strip_suffix(OBJECT).filter(|name| is_digest(name))
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The list for a kernel, in the order in which it is looked through.
pub fn write(target: &Target, offers: &[Offer]) -> String {
    let mut text = format!("Kernel: {}\nArchitecture: {}\n", target.release, target.arch);
    for Offer { origin: Origin { id, kernel_version, source, .. }, key, size, sha256, signed } in offers {
        let _ = write!(
            text,
            "\nModule: {}\nVersion: {}\nKernel-Version: {kernel_version}\nSource: {source}\nKey: {key}\nSize: {size}\nSHA256: \
             {sha256}\n",
            id.name, id.version
        );
        if *signed {
            text.push_str("Signed: yes\n");
        }
    }
    text
}

/// Reads a list that is to be for this kernel.
///
/// # Errors
/// Why it is none, as a clause whose subject is the list.
pub fn read(target: &Target, text: &str) -> Result<Vec<Offer>, String> {
    let list: Deb822 = text.parse().map_err(|_| "is no list of modules".to_owned())?;
    let mut paragraphs = list.paragraphs();
    let field = |paragraph: &Paragraph, name: &str| {
        paragraph.get(name).filter(|value| !value.is_empty()).ok_or_else(|| format!("lacks a field {name}"))
    };
    let head = paragraphs.next().ok_or("is empty")?;
    // Signed for another kernel it says nothing of this one.
    if (field(&head, "Kernel")?, field(&head, "Architecture")?) != (target.release.clone(), target.arch.clone()) {
        return Err("is that of another kernel".into());
    }
    let digest = |paragraph: &Paragraph, name: &str| {
        let value = field(paragraph, name)?;
        if is_digest(&value) { Ok(value) } else { Err(format!("has a field {name} that is no digest")) }
    };
    let offer = |it: Paragraph| {
        let origin = Origin {
            id: Id::new(field(&it, "Module")?, field(&it, "Version")?),
            target: target.clone(),
            kernel_version: field(&it, "Kernel-Version")?,
            source: digest(&it, "Source")?,
        };
        let size = field(&it, "Size")?.parse().map_err(|_| "has a field Size that is no number")?;
        let (key, sha256, signed) = (digest(&it, "Key")?, digest(&it, "SHA256")?, it.get("Signed").is_some());
        Ok(Offer { origin, key, size, sha256, signed })
    };
    paragraphs.map(offer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(name: &str) -> Offer {
        let target = Target::new("6.1.0-1-amd64", "x86_64");
        let origin =
            Origin { id: Id::new(name, "1:0~rc1"), target, kernel_version: "6.1.1-1".into(), source: "a".repeat(64) };
        Offer::of(origin, "b".repeat(64), name == "a", b"object")
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        let offers = vec![offer("a"), offer("b-c")];
        let target = &offers[0].origin.target;
        let text = write(target, &offers);
        assert_eq!(read(target, &text), Ok(offers.clone()));
        assert_eq!(read(target, &write(target, &[])), Ok(Vec::new()));
        assert!(offers[0].is(b"object") && !offers[0].is(b"objecT") && !offers[0].is(b"objec"));
    }

    #[test]
    fn what_is_no_list_for_this_kernel_is_refused() {
        let target = Target::new("6.1.0-1-amd64", "x86_64");
        let text = write(&target, &[offer("a")]);
        for (from, to, why) in [
            ("6.1.0-1-amd64", "6.1.0-2-amd64", "is that of another kernel"),
            ("x86_64", "aarch64", "is that of another kernel"),
            ("Key: bb", "Key: ../", "has a field Key that is no digest"),
            ("Size: 6", "Size: many", "has a field Size that is no number"),
            ("Source: ", "Sauce: ", "lacks a field Source"),
        ] {
            assert_eq!(read(&target, &text.replace(from, to)), Err(why.into()), "{from}");
        }
        assert_eq!(read(&target, ""), Err("is empty".into()));
    }
}
