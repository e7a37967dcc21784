// SPDX-License-Identifier: GPL-2.0-or-later
//! Asking bash what `dkms.conf` and the administrator's overrides say, as rarely as can be.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{Access, access};

use super::{Conf, DIRECTIVES, plain};
use crate::error::{Doing, Error, Result, cannot};
use crate::model::closed::{Copies, is_open};
use crate::model::framework::cores;
use crate::model::kernel::Kernel;
use crate::model::module::{Id, Target};
use crate::model::site::Site;
use crate::system::directories::list_if_open;
use crate::system::process::plain_environment;
use crate::system::sandbox::{Isolation, Limits, Sandbox, User};
use crate::system::shell::{Evaluation, Values};
use crate::system::side_by_side;
use crate::system::trust::{self, WeakSpot};

/// What the files see; the last two only where the package is known already.
pub(super) const VARIABLES: [&str; 18] = [
    "kernelver",
    "arch",
    "kernel_source_dir",
    "kernel_config",
    "dkms_tree",
    "source_tree",
    "install_tree",
    "tmp_location",
    "parallel_jobs",
    "verbose",
    "action",
    "force",
    "conf",
    "running_distribution",
    "current_kernel",
    "current_os",
    "module",
    "module_version",
];

/// Questions that one bash answers. More would have it copy more for each subshell.
const MOST_TOGETHER: usize = 64;

/// How long bash may take to read what it was given. Some look around on the system; none compiles.
const LONGEST: Duration = Duration::from_secs(300);

/// So many plain ones are worth another bash beside the first.
const WORTH_ANOTHER: usize = 8;

/// What is asked of a dkms.conf.
#[derive(Debug)]
pub struct Question<'a> {
    /// The machine.
    pub site: &'a Site,
    /// The kernel asked about.
    pub kernel: &'a Kernel,
    /// Module and version, where they are known already: a new source tree is asked for them.
    pub id: Option<&'a Id>,
    /// The dkms.conf itself.
    pub file: PathBuf,
    /// `--directive`.
    pub directives: &'a [String],
    /// The action that asks, for the file to see.
    pub action: &'a str,
    /// Whether `--force` was given, for the file to see.
    pub force: bool,
}

/// Names of the files in /etc/dkms by which an administrator overrides a module's dkms.conf, the last of them last.
pub fn overrides(Id { name, version }: &Id, Target { release, arch }: &Target) -> [String; 6] {
    [
        format!("{name}.conf"),
        format!("{name}-{version}.conf"),
        format!("{name}-{version}-{release}.conf"),
        format!("{name}-{version}-{release}-{arch}.conf"),
        format!("{name}--{release}.conf"),
        format!("{name}--{release}-{arch}.conf"),
    ]
}

/// A question and the files that answer it.
struct Asked<'a> {
    question: &'a Question<'a>,
    files: Vec<PathBuf>,
    /// Under which the answer is remembered, if it is always the same.
    key: Option<Vec<u8>>,
}

/// The text of a file of plain assignments, and the variables of ours in it.
type Plain = Option<Rc<(String, BTreeSet<&'static str>)>>;

/// What was seen of files, most of which answer for several kernels, while one set of questions is answered.
#[derive(Default)]
struct Seen {
    texts: HashMap<PathBuf, Plain>,
    /// Files, and directories with all in them.
    checked: HashMap<PathBuf, std::result::Result<(), WeakSpot>>,
    readable: HashMap<PathBuf, bool>,
}

impl Seen {
    /// Whether there is such a file for who asks: one that is closed to him is none, as it always was.
    fn is_readable(&mut self, file: &Path) -> bool {
        let look = || file.is_file() && access(file, Access::READ_OK).is_ok();
        *self.readable.entry(file.to_owned()).or_insert_with(look)
    }

    /// Refuses a file that others than root could change.
    fn check(&mut self, file: &Path) -> std::result::Result<(), WeakSpot> {
        self.checked.entry(file.to_owned()).or_insert_with(|| trust::check(file)).clone()
    }

    /// The same for a source.
    fn check_source(&mut self, dir: &Path) -> std::result::Result<(), WeakSpot> {
        self.checked.entry(dir.to_owned()).or_insert_with(|| trust::check_source(dir)).clone()
    }

    fn text(&mut self, file: &Path) -> Plain {
        let find = || {
            let text = read(file).ok()?;
            let mentions = plain::mentions(&text)?;
            Some(Rc::new((text, mentions)))
        };
        self.texts.entry(file.to_owned()).or_insert_with(find).clone()
    }
}

impl Question<'_> {
    /// Evaluates dkms.conf and the administrator's overrides in /etc/dkms.
    pub fn answer(&self) -> Result<Conf> {
        let none = || Err(Error::NoConf(self.file.clone()));
        Self::answer_all(std::slice::from_ref(self)).pop().unwrap_or_else(none)
    }

    /// Answers several about one machine, in their order: from memory, or in as few bashes as can be while no module's
    /// programs can do anything to another one's answer.
    pub fn answer_all(questions: &[Self]) -> Vec<Result<Conf>> {
        let Some(site) = questions.first().map(|question| question.site) else {
            return Vec::new();
        };
        let mut answers: Vec<Option<Result<Conf>>> = questions.iter().map(|_| None).collect();
        // By whether they are plain: what these say does not depend on the working directory, so they get one in which
        // no file's name looks like an assignment.
        let (mut plain, mut other) = (Vec::new(), Vec::new());
        let etc = site.paths.etc();
        let overrides: HashSet<String> = match list_if_open(&etc) {
            Ok(names) => names.into_iter().collect(),
            Err(error) => {
                let again = || io::Error::new(error.kind(), error.to_string());
                return questions.iter().map(|_| Err(again()).doing(cannot("read", &etc))).collect();
            }
        };
        let mut seen = Seen::default();
        let alike = is_environment_alike();
        for (question, answer) in questions.iter().zip(&mut answers) {
            if !seen.is_readable(&question.file) {
                *answer = Some(Err(Error::NoConf(question.file.clone())));
                continue;
            }
            let mut files = vec![std::path::absolute(&question.file).unwrap_or_else(|_| question.file.clone())];
            files.extend(question.overrides(&overrides));
            if let Err(spot) = question.check(&files, &mut seen) {
                *answer = Some(Err(spot.into()));
                continue;
            }
            let key = if alike { question.key(&files, &mut seen) } else { None };
            let known = key.as_ref().zip(question.id).and_then(|(key, id)| site.memory.values(id, key));
            match known {
                Some(values) => *answer = Some(Ok(question.conf(values, Vec::new()))),
                None if key.is_some() => plain.push((Asked { question, files, key }, answer)),
                None => other.push((Asked { question, files, key }, answer)),
            }
        }
        other.sort_by_key(|(asked, _)| asked.question.id);
        let cwd = std::env::current_dir().unwrap_or_else(|_| "/".into());
        for (asked, cwd) in [(plain, Path::new("/")), (other, &cwd)] {
            if asked.is_empty() {
                continue;
            }
            let (asked, places): (Vec<Asked>, Vec<_>) = asked.into_iter().unzip();
            for (place, answer) in places.into_iter().zip(ask_all(&asked, site.build_user(), cwd)) {
                *place = Some(answer);
            }
        }
        answers.into_iter().flatten().collect()
    }

    /// Refuses files that others than root could change. That of a source which is to be added may be anybody's: nothing of
    /// it is root's yet.
    fn check(&self, files: &[PathBuf], seen: &mut Seen) -> std::result::Result<(), WeakSpot> {
        if let Some(dir) = self.file.parent().filter(|_| self.is_registered()) {
            seen.check_source(dir)?;
        }
        files.iter().skip(usize::from(self.id.is_none())).try_for_each(|file| seen.check(file))
    }

    /// What a file sees under one of [`VARIABLES`].
    fn variable(&self, name: &str) -> Option<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let framework = &self.site.framework;
        Some(match name {
            "kernelver" => self.kernel.target.release.clone(),
            "arch" => self.kernel.target.arch.clone(),
            "kernel_source_dir" => text(&self.kernel.build_dir),
            "kernel_config" => text(&self.kernel.config),
            "dkms_tree" => text(&framework.dkms_tree),
            "source_tree" => text(&framework.source_tree),
            "install_tree" => text(&framework.install_tree),
            "tmp_location" => text(&framework.tmp_location),
            "parallel_jobs" => framework.parallel_jobs.to_string(),
            "verbose" => if framework.verbose { "true" } else { "" }.into(),
            "action" => self.action.into(),
            "force" => if self.force { "true" } else { "" }.into(),
            // Only one that was named.
            "conf" if self.id.is_none() || self.is_registered() => String::new(),
            "conf" => text(&self.file),
            "running_distribution" => self.site.distribution.name().into(),
            "current_kernel" => Target::running().release,
            "current_os" => "Linux".into(),
            "module" => self.id?.name.clone(),
            "module_version" => self.id?.version.clone(),
            _ => return None,
        })
    }

    /// The administrator's files for this module, the more special the later; only those that exist.
    fn overrides(&self, present: &HashSet<String>) -> Vec<PathBuf> {
        let Some(id) = self.id else {
            return Vec::new();
        };
        overrides(id, &self.kernel.target)
            .into_iter()
            .filter(|file| present.contains(file))
            .map(|file| self.site.paths.etc().join(file))
            .filter(|file| file.is_file())
            .collect()
    }

    /// Everything on which the answer can depend, if the files are plain: their texts, and what they see of what they
    /// mention.
    fn key(&self, files: &[PathBuf], seen: &mut Seen) -> Option<Vec<u8>> {
        if !self.directives.is_empty() {
            return None;
        }
        let mut parts = Vec::new();
        let mut variables = BTreeSet::new();
        for file in files {
            let plain = seen.text(file)?;
            variables.extend(&plain.1);
            parts.push(plain);
        }
        let mut key = Vec::new();
        for name in variables {
            let value = self.variable(name).filter(|value| plain::is_plain_value(value))?;
            key.extend_from_slice(format!("{name}={value}\n").as_bytes());
        }
        for part in parts {
            key.extend_from_slice(format!("file {}\n{}\n", part.0.len(), part.0).as_bytes());
        }
        Some(key)
    }

    /// Whether it is the file that lies in the module's own source.
    fn is_registered(&self) -> bool {
        let tree = &self.site.tree;
        let own = |id| [tree.source_link(id), tree.source_dir(id)].map(|dir| dir.join("dkms.conf"));
        self.id.is_some_and(|id| own(id).contains(&self.file))
    }

    fn evaluation(&self, files: &[PathBuf]) -> Evaluation {
        Evaluation {
            names: DIRECTIVES,
            variables: VARIABLES.iter().filter_map(|name| Some((*name, self.variable(name)?))).collect(),
            files: files.to_vec(),
            last: self.directives.to_vec(),
        }
    }

    fn conf(&self, values: Values, noise: Vec<u8>) -> Conf {
        let destination = match self.site.framework.addon_modules_dir.as_str() {
            "" => self.site.distribution.destination().map(str::to_owned),
            dir => Some(format!("/{dir}")),
        };
        Conf::new(values, noise, destination.as_deref())
    }
}

/// Reads a file that may be one of plain assignments.
fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(file)?.take(plain::LARGEST + 1).read_to_string(&mut text)?;
    if read as u64 > plain::LARGEST { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

/// Whether nothing in our environment makes bash read a file in another way, or gives directives.
fn is_environment_alike() -> bool {
    let meddles = |name: &[u8]| {
        [&b"DKMS_DIRECTIVE"[..], b"BASH", b"SHELLOPTS", b"POSIXLY_CORRECT"].iter().any(|it| name.starts_with(it))
    };
    !std::env::vars_os().any(|(name, _)| meddles(name.as_encoded_bytes()))
}

/// Asks bash, as many of them side by side as there are cores. What runs programs may do anything to the bash that reads
/// it, so that it shares one with nothing but itself, for other kernels; these questions stand in a row.
fn ask_all(asked: &[Asked], user: Option<User>, cwd: &Path) -> Vec<Result<Conf>> {
    let share = asked.len().div_ceil(cores()).clamp(WORTH_ANOTHER, MOST_TOGETHER);
    let may_share = |a: &Asked, b: &Asked| a.key.is_some() && b.key.is_some() || a.question.id == b.question.id;
    let together = asked.chunk_by(may_share).flat_map(|some| some.chunks(share)).collect::<Vec<_>>();
    let ask = |some: &[&[Asked]]| some.iter().flat_map(|asked| ask_together(asked, user, cwd)).collect();
    side_by_side::parts(&together, together.len().div_ceil(cores()).max(1), ask)
}

/// Asks one bash, and each question alone that it could not answer.
fn ask_together(asked: &[Asked], user: Option<User>, cwd: &Path) -> Vec<Result<Conf>> {
    let together = if asked.len() == 1 { Err(Error::silent(1)) } else { in_one_bash(asked, user, cwd) };
    let answers = together.unwrap_or_else(|_| asked.iter().map(|_| None).collect());
    let alone = |asked: &Asked| {
        let mut evaluation = asked.question.evaluation(&asked.files);
        let (mut bash, copies) = bash(&[asked], std::slice::from_mut(&mut evaluation), user, cwd)?;
        let file = &asked.question.file;
        let (values, noise) =
            evaluation.run(&mut bash).doing(|| format!("Cannot run bash to read {}", file.display()))?;
        Ok::<_, Error>((values, if let Some(copies) = copies { copies.rename(&noise) } else { noise }))
    };
    let conf = |(asked, answer): (&Asked, Option<Values>)| {
        let (values, noise) = answer.map_or_else(|| alone(asked), |values| Ok((values, Vec::new())))?;
        if noise.is_empty() {
            asked.remember(&values);
        }
        Ok(asked.question.conf(values, noise))
    };
    asked.iter().zip(answers).map(conf).collect()
}

/// `None` for those that have to be asked alone: what bash cannot tell of one among others, and files that lie in a
/// closed directory, all of which is copied for them.
fn in_one_bash(asked: &[Asked], user: Option<User>, cwd: &Path) -> Result<Vec<Option<Values>>> {
    let fits = |it: &&Asked| it.key.is_some() || user.is_none() || it.files.iter().all(|file| is_open(file));
    let fitting: Vec<&Asked> = asked.iter().filter(fits).collect();
    let mut evaluations: Vec<Evaluation> = fitting.iter().map(|it| it.question.evaluation(&it.files)).collect();
    let (mut bash, _copies) = bash(&fitting, &mut evaluations, user, cwd)?;
    let mut answers = Evaluation::run_all(&evaluations, &mut bash)
        .doing(|| "Cannot run bash to read dkms.conf files".into())?
        .into_iter();
    Ok(asked.iter().map(|it| if fits(&it) { answers.next().flatten() } else { None }).collect())
}

/// A stranger's script is read without rights: another user, no network, nothing writable.
///
/// What is closed to that user, because it lies below /root or was unpacked with a tight umask, he gets a copy of: the
/// evaluations name it then, and what is given back keeps it.
fn bash(
    asked: &[&Asked],
    evaluations: &mut [Evaluation],
    user: Option<User>,
    cwd: &Path,
) -> Result<(Command, Option<Copies>)> {
    let mut bash = Command::new("bash");
    plain_environment(&mut bash);
    for name in DIRECTIVES {
        bash.env_remove(name);
    }
    let mut copies = None;
    for (Asked { question, key, .. }, evaluation) in asked.iter().zip(evaluations) {
        let Some(user) = user else { break };
        for (index, file) in evaluation.files.iter_mut().enumerate().filter(|(_, file)| !is_open(file)) {
            let copies = match &mut copies {
                Some(copies) => copies,
                none => none.insert(Copies::begin(question.site)?),
            };
            // A registered package's conf may look at what lies beside it, which its build is given anyway; a plain one
            // does not, and whatever else is closed stands alone.
            copies.add(file, index == 0, index == 0 && key.is_none() && question.is_registered(), user)?;
        }
    }
    log::debug!("one bash for {} questions", asked.len());
    let site = asked.first().map(|asked| asked.question.site);
    let limits = site.map(|site| site.framework.build_limits.clone()).unwrap_or_default();
    let limits = Limits { time: limits.time.map(|time| time.min(LONGEST)), ..limits };
    let mounts = site.map(Site::without_caches).unwrap_or_default();
    Sandbox { user, mounts, cwd: cwd.to_owned(), tmp: None, limits }
        .confine(Isolation::available(), &mut bash)
        .doing(|| "Cannot set up the sandbox for dkms.conf".into())?;
    Ok((bash, copies))
}

impl Asked<'_> {
    /// Remembers an answer, unless a file is another one by now.
    fn remember(&self, values: &Values) {
        let Self { question, files, key } = self;
        let (Some(id), Some(key)) = (question.id, key) else {
            return;
        };
        if question.key(files, &mut Seen::default()).as_ref() == Some(key) {
            question.site.memory.remember_values(id, key, values);
        }
    }
}
