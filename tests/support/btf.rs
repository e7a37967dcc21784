// SPDX-License-Identifier: GPL-2.0-or-later

//! The types in a `.BTF` section, whatever their order: pahole numbers them as they come, and with several jobs they
//! come in any order.

use std::hash::{DefaultHasher, Hash, Hasher};

/// What follows a type of this kind: so many words of its own, so many for each of its members; and which of them
/// (counted from the third word of the type itself) are names or types.
struct Kind {
    name: &'static str,
    /// The third word is a type, not a size.
    refers: bool,
    own: &'static str,
    member: &'static str,
}

/// `n` is a name, `t` a type, `v` a value.
const KINDS: [Kind; 20] = [
    kind("void", false, "", ""),
    kind("int", false, "v", ""),
    kind("ptr", true, "", ""),
    kind("array", false, "ttv", ""),
    kind("struct", false, "", "ntv"),
    kind("union", false, "", "ntv"),
    kind("enum", false, "", "nv"),
    kind("fwd", false, "", ""),
    kind("typedef", true, "", ""),
    kind("volatile", true, "", ""),
    kind("const", true, "", ""),
    kind("restrict", true, "", ""),
    kind("func", true, "", ""),
    kind("func_proto", true, "", "nt"),
    kind("var", true, "v", ""),
    kind("datasec", false, "", "tvv"),
    kind("float", false, "", ""),
    kind("decl_tag", true, "v", ""),
    kind("type_tag", true, "", ""),
    kind("enum64", false, "", "nvv"),
];

const fn kind(name: &'static str, refers: bool, own: &'static str, member: &'static str) -> Kind {
    Kind { name, refers, own, member }
}

/// A type as it is written, and the types that it refers to.
struct Type {
    shape: String,
    refers_to: Vec<u32>,
}

/// How many types and how many bytes of names the kernel has itself: a module's numbers go on from there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Base {
    types: u32,
    names: u32,
}

impl Base {
    /// Of the kernel's own `.BTF`.
    pub fn of(section: &[u8]) -> Base {
        let btf = Btf::parse(section, Base::default());
        Base { types: btf.types.len() as u32, names: btf.names }
    }
}

struct Btf {
    types: Vec<Type>,
    names: u32,
}

impl Btf {
    fn parse(section: &[u8], base: Base) -> Btf {
        let word = |at: usize| u32::from_le_bytes(section[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(word(0) & 0xff_ffff, 0x01_eb9f, "version 1");
        let [header, types_at, types_len, names_at, names_len] = [4, 8, 12, 16, 20].map(|at| word(at) as usize);
        let names = &section[header + names_at..][..names_len];
        let name = |at: u32| match at.checked_sub(base.names) {
            None => format!("#{at}"),
            Some(at) => {
                let text = names[at as usize..].split(|byte| *byte == 0).next().unwrap_or_default();
                format!("'{}'", String::from_utf8_lossy(text))
            }
        };
        let mut words = section[header + types_at..][..types_len]
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")));
        let mut types = Vec::new();
        while let Some(name_at) = words.next() {
            let mut next = || words.next().expect("a type is whole");
            let (info, third) = (next(), next());
            let (members, kind) = (info & 0xffff, &KINDS[(info >> 24 & 0x1f) as usize]);
            let mut shape = format!("{} {} {:#x}", kind.name, name(name_at), info);
            let mut refers_to = Vec::new();
            let mut take = |meaning: char, word: u32| match meaning {
                't' => refers_to.push(word),
                'n' => shape += &format!(" {}", name(word)),
                _ => shape += &format!(" {word}"),
            };
            take(if kind.refers { 't' } else { 'v' }, third);
            // A function has its linkage there, not members.
            let members = if kind.member.is_empty() { 0 } else { members };
            for meaning in kind.own.chars().chain(kind.member.repeat(members as usize).chars()) {
                take(meaning, next());
            }
            types.push(Type { shape, refers_to });
        }
        Btf { types, names: names_len as u32 }
    }
}

/// The types of a module, each with a number that stands for its shape and for those of all types that can be reached
/// from it, in an order that only they decide.
///
/// A type that differs, and each that leads to it, has another number, so modules with the same list have the same
/// types; their places in the section and those of names do not count.
pub fn types(section: &[u8], base: Base) -> Vec<String> {
    let Btf { types, .. } = Btf::parse(section, base);
    let mut numbers = vec![0; types.len()];
    // Each round looks a step further, and no way that does not turn in circles has more steps than there are types.
    for _ in 0..=types.len() {
        numbers = types
            .iter()
            .map(|it| {
                let mut hasher = DefaultHasher::new();
                it.shape.hash(&mut hasher);
                for id in &it.refers_to {
                    // What is not its own is the kernel's, where 0 is void.
                    let own = id.checked_sub(base.types + 1).map(|own| numbers[own as usize]);
                    (own, *id * u32::from(own.is_none())).hash(&mut hasher);
                }
                hasher.finish()
            })
            .collect();
    }
    let mut told: Vec<String> =
        types.iter().zip(numbers).map(|(it, number)| format!("{} {number:016x}", it.shape)).collect();
    told.sort();
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section of these types, whose names are single letters at their places in `abc...`.
    fn section(types: &[&[u32]]) -> Vec<u8> {
        let words: Vec<u32> = types.concat();
        let names: Vec<u8> = b"\0".iter().copied().chain((b'a'..=b'z').flat_map(|letter| [letter, 0])).collect();
        let header = [0x01_eb9f, 24, 0, words.len() as u32 * 4, words.len() as u32 * 4, names.len() as u32];
        let bytes = header.iter().chain(&words).flat_map(|word| word.to_le_bytes());
        bytes.chain(names).collect()
    }

    fn name(letter: u8) -> u32 {
        u32::from(letter - b'a') * 2 + 1
    }

    /// struct a { struct a *b; int c; }, an int, and the pointer, in the order that is asked for.
    fn list(order: [usize; 3], bits: u32) -> Vec<u8> {
        let id = |which: usize| order.iter().position(|it| *it == which).expect("one of three") as u32 + 1;
        let all: [&[u32]; 3] = [
            &[name(b'a'), 4 << 24 | 2, 16, name(b'b'), id(1), 0, name(b'c'), id(2), 64],
            &[0, 2 << 24, id(0)],
            &[name(b'i'), 1 << 24, 4, bits],
        ];
        section(&order.map(|which| all[which]))
    }

    #[test]
    fn the_order_of_types_does_not_count() {
        let told = types(&list([0, 1, 2], 32), Base::default());
        assert_eq!(told.len(), 3);
        for order in [[0, 2, 1], [1, 0, 2], [2, 1, 0]] {
            assert_eq!(types(&list(order, 32), Base::default()), told);
        }
    }

    #[test]
    fn a_difference_is_seen_in_all_that_leads_to_it() {
        let (one, other) = (types(&list([0, 1, 2], 32), Base::default()), types(&list([2, 0, 1], 31), Base::default()));
        assert!(one.iter().all(|it| !other.contains(it)), "{one:#?} {other:#?}");
    }

    #[test]
    fn what_the_kernel_has_goes_before() {
        let kernel = list([0, 1, 2], 32);
        let base = Base::of(&kernel);
        assert_eq!((base.types, base.names), (3, 53));
        // A pointer to a struct of the kernel's and one to a typedef of its own, named after the kernel's names.
        let module = section(&[&[0, 2 << 24, 1], &[53 + name(b'z'), 8 << 24, 4]]);
        let other = section(&[&[53 + name(b'z'), 8 << 24, 5], &[0, 2 << 24, 1]]);
        assert_eq!(types(&module, base), types(&other, base));
        assert!(types(&module, base)[1].starts_with("typedef 'z'"));
    }
}
