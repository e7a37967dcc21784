// SPDX-License-Identifier: GPL-2.0-or-later
//! What the options of gzip, xz and zstd ask for, as far as people use them for modules, and doing it.
//!
//! What kernels demand comes from the options, as it always did: a check that the kernel knows for xz, one frame for
//! zstd, a header without a name for gzip. Threads are not among what we do: modules are compressed side by side, and
//! the bytes do not depend on the number of cores.

use std::io::{self, Read};
use std::str::Chars;

use flate2::read::GzEncoder;
use liblzma::stream::{Check, Filters, LzmaOptions, MatchFinder, Mode, PRESET_EXTREME, Stream};
use zstd::zstd_safe::CParameter;

/// How to compress.
#[derive(Debug)]
pub struct Recipe {
    format: Format,
    /// Whether the file stays beside the compressed one.
    pub keep: bool,
}

#[derive(Debug)]
enum Format {
    Gzip { level: u32 },
    Xz { preset: u32, check: Check, lzma2: Option<Vec<(String, String)>> },
    Zstd { level: i32, checksum: bool },
}

impl Recipe {
    /// What `program` would do if it were given `opts`; `None` where that is more than we know.
    pub fn parse(program: &str, opts: &str) -> Option<Self> {
        let words = opts.split_whitespace();
        let recipe = match program {
            "gzip" => gzip(words),
            "xz" => xz(words),
            "zstd" => zstd(words),
            _ => None,
        }?;
        // What the library refuses the program shall explain.
        recipe.lzma_options().is_some().then_some(recipe)
    }

    /// Compresses `bytes`; the same bytes give the same result.
    pub fn compress(&self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut compressed = Vec::new();
        match &self.format {
            Format::Gzip { level } => {
                GzEncoder::new(bytes, flate2::Compression::new(*level)).read_to_end(&mut compressed)?;
            }
            Format::Xz { check, .. } => {
                let options = self.lzma_options().ok_or(io::ErrorKind::InvalidInput)?;
                let stream = Stream::new_stream_encoder(Filters::new().lzma2(&options), *check)?;
                liblzma::bufread::XzEncoder::new_stream(bytes, stream).read_to_end(&mut compressed)?;
            }
            Format::Zstd { level, checksum } => {
                let mut compressor = zstd::bulk::Compressor::new(*level)?;
                compressor.set_parameter(CParameter::ChecksumFlag(*checksum))?;
                compressed = compressor.compress(bytes)?;
            }
        }
        Ok(compressed)
    }

    /// The options of xz's filter, those of the preset for other formats; `None` if they are no good.
    fn lzma_options(&self) -> Option<LzmaOptions> {
        let Format::Xz { preset, check, lzma2 } = &self.format else { return Some(LzmaOptions::new()) };
        let mut options = LzmaOptions::new_preset(*preset).ok()?;
        for (name, value) in lzma2.iter().flatten() {
            set_lzma_option(&mut options, name, value)?;
        }
        Stream::new_stream_encoder(Filters::new().lzma2(&options), *check).ok()?;
        Some(options)
    }
}

/// Letters of a word such as `-9qf`, and what the last of them takes: the rest of the word, or the next one.
struct Letters<'w, W> {
    rest: Chars<'w>,
    words: W,
}

impl<'w, W: Iterator<Item = &'w str>> Letters<'w, W> {
    fn number(&mut self) -> Option<u32> {
        let rest = std::mem::replace(&mut self.rest, "".chars()).as_str();
        if rest.is_empty() { self.words.next()?.parse().ok() } else { rest.parse().ok() }
    }
}

/// The letters of a word that is an option of one letter or several.
fn letters<'w, W>(word: &'w str, words: W) -> Option<Letters<'w, W>> {
    let rest = word.strip_prefix('-').filter(|rest| !rest.is_empty() && !rest.starts_with('-'))?;
    Some(Letters { rest: rest.chars(), words })
}

fn gzip<'w>(words: impl Iterator<Item = &'w str>) -> Option<Recipe> {
    let (mut level, mut keep) = (6, false);
    for word in words {
        match word {
            "--fast" => level = 1,
            "--best" => level = 9,
            "--keep" => keep = true,
            "--no-name" | "--force" | "--quiet" => {}
            _ => {
                for letter in letters(word, ())?.rest {
                    match letter {
                        '1'..='9' => level = letter.to_digit(10)?,
                        'k' => keep = true,
                        'n' | 'f' | 'q' => {}
                        _ => return None,
                    }
                }
            }
        }
    }
    Some(Recipe { format: Format::Gzip { level }, keep })
}

fn xz<'w>(mut words: impl Iterator<Item = &'w str>) -> Option<Recipe> {
    let (mut level, mut extreme, mut check, mut keep) = (6, 0, Check::Crc64, false);
    // What stands here says more than a preset, until another preset comes.
    let mut lzma2: Option<Vec<(String, String)>> = None;
    while let Some(word) = words.next() {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("--check", Some(kind)) => check = check_of(kind)?,
            ("--lzma2", value) if lzma2.is_none() => lzma2 = Some(settings(value.unwrap_or_default())?),
            ("--threads", Some(number)) => drop(number.parse::<u32>().ok()?),
            ("--extreme", None) => (extreme, lzma2) = (PRESET_EXTREME, None),
            ("--best", None) => (level, lzma2) = (9, None),
            ("--keep", None) => keep = true,
            ("--quiet" | "--force" | "--compress", None) => {}
            _ => {
                let mut letters = letters(word, &mut words)?;
                while let Some(letter) = letters.rest.next() {
                    match letter {
                        '0'..='9' => (level, lzma2) = (letter.to_digit(10)?, None),
                        'e' => (extreme, lzma2) = (PRESET_EXTREME, None),
                        'T' => drop(letters.number()?),
                        'k' => keep = true,
                        'q' | 'f' | 'z' => {}
                        _ => return None,
                    }
                }
            }
        }
    }
    // A chain of filters begins with the default, not with a preset that stands before it.
    let preset = if lzma2.is_some() { 6 } else { level | extreme };
    Some(Recipe { format: Format::Xz { preset, check, lzma2 }, keep })
}

fn check_of(kind: &str) -> Option<Check> {
    Some(match kind {
        "none" => Check::None,
        "crc32" => Check::Crc32,
        "crc64" => Check::Crc64,
        "sha256" => Check::Sha256,
        _ => return None,
    })
}

/// `NAME=VALUE,NAME=VALUE`.
fn settings(text: &str) -> Option<Vec<(String, String)>> {
    let setting = |setting: &str| setting.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.split(',').filter(|setting| !setting.is_empty()).map(setting).collect()
}

fn set_lzma_option(options: &mut LzmaOptions, name: &str, value: &str) -> Option<()> {
    match name {
        "preset" => {
            let (level, extreme) = value.strip_suffix('e').map_or((value, 0), |level| (level, PRESET_EXTREME));
            let level = level.parse().ok().filter(|level: &u32| *level <= 9)?;
            *options = LzmaOptions::new_preset(level | extreme).ok()?;
        }
        "dict" => drop(options.dict_size(size(value)?)),
        "lc" => drop(options.literal_context_bits(value.parse().ok()?)),
        "lp" => drop(options.literal_position_bits(value.parse().ok()?)),
        "pb" => drop(options.position_bits(value.parse().ok()?)),
        "nice" => drop(options.nice_len(value.parse().ok()?)),
        "depth" => drop(options.depth(value.parse().ok()?)),
        "mode" => drop(options.mode(match value {
            "fast" => Mode::Fast,
            "normal" => Mode::Normal,
            _ => return None,
        })),
        "mf" => drop(options.match_finder(match value {
            "hc3" => MatchFinder::HashChain3,
            "hc4" => MatchFinder::HashChain4,
            "bt2" => MatchFinder::BinaryTree2,
            "bt3" => MatchFinder::BinaryTree3,
            "bt4" => MatchFinder::BinaryTree4,
            _ => return None,
        })),
        _ => return None,
    }
    Some(())
}

/// A number with a suffix for powers of 1024, as xz(1) has them.
fn size(text: &str) -> Option<u32> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "KiB" | "Ki" | "k" | "kB" | "K" | "KB" => 1 << 10,
        "MiB" | "Mi" | "m" | "M" | "MB" => 1 << 20,
        "GiB" | "Gi" | "g" | "G" | "GB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u32>().ok()?.checked_mul(factor)
}

fn zstd<'w>(mut words: impl Iterator<Item = &'w str>) -> Option<Recipe> {
    let (mut level, mut ultra, mut checksum, mut keep) = (3, false, true, true);
    while let Some(word) = words.next() {
        match word {
            "--rm" => keep = false,
            "--keep" => keep = true,
            "--ultra" => ultra = true,
            "--fast" => level = -1,
            "--check" => checksum = true,
            "--no-check" => checksum = false,
            "--quiet" | "--force" | "--no-progress" | "--single-thread" | "--compress" => {}
            _ => {
                if let Some(threads) = word.strip_prefix("--threads=") {
                    threads.parse::<u32>().ok()?;
                    continue;
                }
                let mut letters = letters(word, &mut words)?;
                while let Some(letter) = letters.rest.next() {
                    match letter {
                        '0'..='9' => level = i32::try_from(leading_number(letter, &mut letters.rest)?).ok()?,
                        'T' => drop(letters.number()?),
                        'C' => checksum = true,
                        'k' => keep = true,
                        'q' | 'f' | 'z' => {}
                        _ => return None,
                    }
                }
            }
        }
    }
    let highest = if ultra { 22 } else { 19 };
    let level = if level == 0 { 3 } else { level.min(highest) };
    Some(Recipe { format: Format::Zstd { level, checksum }, keep })
}

/// The number of which `first` is the first digit; the rest of the digits are taken.
fn leading_number(first: char, rest: &mut Chars) -> Option<u32> {
    let mut number = first.to_digit(10)?;
    while let Some(digit) = rest.clone().next().and_then(|c| c.to_digit(10)) {
        number = number.checked_mul(10)?.checked_add(digit)?;
        rest.next();
    }
    Some(number)
}
