// SPDX-License-Identifier: GPL-2.0-or-later
//! Small work on many things, on as many cores as a job can get, told in order.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::tokens::JobToken;

/// Does `work` for each of `items`, on the token that the caller holds and on whatever else the pool can spare; `end`
/// is called by this thread with each result, in the order of the items. Its error, the first one, ends it all.
pub fn each<T, R, E>(
    items: &[T],
    token: &JobToken,
    work: impl Fn(&T) -> R + Sync,
    mut end: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E>
where
    T: Sync,
    R: Send,
{
    let queue = Queue {
        next: AtomicUsize::new(0),
        done: Mutex::new(items.iter().map(|_| None).collect()),
        more: Condvar::new(),
    };
    let wanted = || queue.next.load(Ordering::Relaxed) < items.len();
    // Takes the next item and does it; false if there is none.
    let step = || {
        let index = queue.next.fetch_add(1, Ordering::Relaxed);
        let Some(item) = items.get(index) else { return false };
        let result = catch_unwind(AssertUnwindSafe(|| work(item)));
        queue.lock()[index] = Some(result);
        queue.more.notify_all();
        true
    };
    thread::scope(|scope| {
        for _ in 1..token.at_most().min(items.len()) {
            // Where there can be no more threads, this one does it all.
            let _ = thread::Builder::new().spawn_scoped(scope, || {
                // Each time anew: somebody else may need it more.
                while let Some(_another) = token.another(&wanted) {
                    if !step() {
                        break;
                    }
                }
            });
        }
        let _rest = Stop(&queue.next, items.len());
        for index in 0..items.len() {
            loop {
                let result = queue.lock()[index].take();
                if let Some(result) = result {
                    end(result.unwrap_or_else(|panic| resume_unwind(panic)))?;
                    break;
                }
                if !step() {
                    queue.wait(index);
                }
            }
        }
        Ok(())
    })
}

/// Does `work` for `items` in parts of so many, on a thread for each part, as far as threads can be had; all results in
/// order.
pub fn parts<T, R>(items: &[T], size: usize, work: impl Fn(&[T]) -> Vec<R> + Sync) -> Vec<R>
where
    T: Sync,
    R: Send,
{
    if items.len() <= size {
        return work(items);
    }
    let work = &work;
    thread::scope(|scope| {
        let begin = |part| (part, thread::Builder::new().spawn_scoped(scope, move || work(part)));
        let begun: Vec<_> = items.chunks(size).map(begin).collect();
        let end = |(part, thread): (_, std::io::Result<thread::ScopedJoinHandle<'_, Vec<R>>>)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => work(part),
        };
        begun.into_iter().flat_map(end).collect()
    })
}

/// Keeps the others from beginning what nobody wants any more.
struct Stop<'a>(&'a AtomicUsize, usize);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, Ordering::Relaxed);
    }
}

struct Queue<R> {
    next: AtomicUsize,
    /// What came of each; of a panic too, or everybody would wait for it.
    done: Mutex<Vec<Option<thread::Result<R>>>>,
    more: Condvar,
}

impl<R> Queue<R> {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<thread::Result<R>>>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the result of `index` is there, which somebody works on.
    fn wait(&self, index: usize) {
        let mut done = self.lock();
        while done[index].is_none() {
            done = self.more.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::tokens::Pool;
    use std::sync::Barrier;
    use std::time::Duration;

    #[test]
    fn results_come_in_order_and_work_goes_side_by_side() -> std::io::Result<()> {
        let token = Pool::new(3, None).start(Duration::ZERO)?;
        // Nobody passes before all three are there.
        let together = Barrier::new(3);
        let mut seen = Vec::new();
        let items: Vec<usize> = (0..30).collect();
        let work = |&item: &usize| {
            if item < 3 {
                together.wait();
            }
            item
        };
        let ended = each(&items, &token, work, |item| {
            seen.push(item);
            if item == 20 { Err("enough") } else { Ok(()) }
        });
        assert_eq!(ended, Err("enough"));
        assert_eq!(seen, (0..=20).collect::<Vec<_>>());
        Ok(())
    }

    #[test]
    fn one_job_is_one_thing_after_the_other() -> std::io::Result<()> {
        let pool = Pool::new(1, None);
        let token = pool.start(Duration::ZERO)?;
        let order = Mutex::new(Vec::new());
        let note = |what: String| order.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        let ended: Result<(), ()> = each(
            &[1, 2],
            &token,
            |item| note(format!("work {item}")),
            |()| {
                note("told".into());
                Ok(())
            },
        );
        assert_eq!(ended, Ok(()));
        assert_eq!(*order.lock().unwrap_or_else(PoisonError::into_inner), ["work 1", "told", "work 2", "told"]);
        Ok(())
    }
}
