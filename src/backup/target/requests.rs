//! How calls wait, stop and are tried again; and the requests of few bytes: creating, listing, removing.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ListResult, ObjectStore, PutMode, PutPayload, PutResult};

use super::error::Doing;
use super::store::{Bucket, Store};
use super::{Target, TargetError, count};

/// How often a call looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A list with more names is not that of a backup.
const NAMES_MAX: usize = 1_000_000;

/// Pages of a list. One that is not the last has hundreds of names, but a target might send empty ones.
const PAGES_MAX: usize = 10_000;

/// Paths, one after the other.
struct Each(std::vec::IntoIter<Path>);

impl Stream for Each {
    type Item = object_store::Result<Path>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

impl Target {
    /// The error of a call that is to stop.
    pub(super) fn look(&self) -> Result<(), TargetError> {
        match (self.is_stopping)() {
            true => Err(TargetError::Stopped),
            false => Ok(()),
        }
    }

    /// Waits for a request, or until the target's user stops it. A request that is stopped may have been carried out.
    pub(super) fn wait<T>(&self, request: impl Future<Output = T>) -> Result<T, TargetError> {
        self.shared.connection.handle().block_on(async {
            let mut request = pin!(request);
            loop {
                self.look()?;
                if let Ok(done) = tokio::time::timeout(LOOK_EVERY, request.as_mut()).await {
                    return Ok(done);
                }
            }
        })
    }

    /// Makes a request that the store itself does not try again, until it is answered or all tries are used.
    pub(super) async fn again<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T, TargetError>
    where
        F: Future<Output = Result<T, TargetError>>,
    {
        let bounds = &self.shared.bounds;
        let mut wait = bounds.wait;
        for _ in 1..bounds.tries {
            match request().await {
                Err(TargetError::Unreachable { .. }) => tokio::time::sleep(wait).await,
                done => return done,
            }
            wait = (wait * 2).min(bounds.wait_max);
        }
        request().await
    }

    /// Creates an object. Nothing is returned where the answer to an earlier try got lost.
    pub(super) async fn created(
        &self,
        path: &Path,
        name: &str,
        stored: Bytes,
    ) -> Result<Option<PutResult>, TargetError> {
        count(&self.shared.counts.puts, 1);
        count(&self.shared.counts.bytes_up, stored.len());
        let is_unsure = std::cell::Cell::new(false);
        let created = self.again(async || {
            let payload = PutPayload::from(stored.clone());
            let store = self.shared.store.once();
            let put = store.put_opts(path, payload, PutMode::Create.into()).await;
            let put = put.map_err(|error| self.failed(name, Doing::Writing, &error));
            if let Err(TargetError::Unreachable { .. }) = put {
                is_unsure.set(true);
            }
            put
        });
        match created.await {
            Ok(result) => Ok(Some(result)),
            Err(TargetError::Exists { .. }) if is_unsure.get() => {
                match self.has(path, name, &stored).await? {
                    true => Ok(None),
                    false => Err(TargetError::Exists {
                        target: self.shown(),
                        name: name.to_owned(),
                    }),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the object has these very bytes.
    async fn has(&self, path: &Path, name: &str, stored: &Bytes) -> Result<bool, TargetError> {
        count(&self.shared.counts.gets, 1);
        let failed = |error| self.failed(name, Doing::Reading, &error);
        let options = GetOptions {
            // One more byte than there may be shows that the object is longer.
            range: Some(GetRange::Bounded(0..stored.len() as u64 + 1)),
            ..GetOptions::default()
        };
        let store = self.shared.store.often();
        let result = store.get_opts(path, options).await.map_err(failed)?;
        Ok(result.bytes().await.map_err(failed)? == stored)
    }

    /// Removes objects by as few requests as the service allows. All are asked for, also after an error.
    pub(super) async fn removed(&self, paths: Vec<Path>) -> Result<(), TargetError> {
        let paths = Box::pin(Each(paths.into_iter()));
        let mut answers = self.shared.store.once().delete_stream(paths);
        let mut done = Ok(());
        while let Some(answer) = poll_fn(|context| answers.as_mut().poll_next(context)).await {
            let failed = |error| self.failed("object to remove", Doing::Reading, &error);
            match answer.map_err(failed) {
                Ok(_) | Err(TargetError::NotFound { .. }) => {}
                Err(error) => done = Err(error),
            }
        }
        done
    }

    /// Hands out what is directly in this folder and begins so, page by page. `take` returns how many
    /// names it has in all.
    pub(super) fn pages(
        &self,
        prefix: &str,
        mut take: impl FnMut(ListResult) -> usize,
    ) -> Result<(), TargetError> {
        let start = self.folder_start();
        let mut page = None;
        for _ in 0..PAGES_MAX {
            count(&self.shared.counts.lists, 1);
            let (result, next) = match &self.shared.store {
                Store::Folder(folder) => (self.folder_page(folder, &start)?, None),
                Store::Bucket(bucket) => self.bucket_page(bucket, &start, prefix, page)?,
            };
            if take(result) > NAMES_MAX {
                break;
            }
            match next {
                Some(next) => page = Some(next),
                None => return Ok(()),
            }
        }
        Err(TargetError::Other {
            target: self.shown(),
            reason: "the list of names is too long for a backup".to_owned(),
        })
    }

    /// All of a folder. One that does not exist has nothing in it.
    fn folder_page(
        &self,
        folder: &dyn ObjectStore,
        start: &str,
    ) -> Result<ListResult, TargetError> {
        let path = match start.is_empty() {
            true => Path::default(),
            false => self.path("")?,
        };
        let page = self.wait(folder.list_with_delimiter(Some(&path)))?;
        page.map_err(|error| self.failed("folder", Doing::Listing, &error))
    }

    /// A page, and the token of the next one.
    fn bucket_page(
        &self,
        bucket: &Bucket,
        start: &str,
        prefix: &str,
        page: Option<String>,
    ) -> Result<(ListResult, Option<String>), TargetError> {
        let options = PaginatedListOptions {
            delimiter: Some("/".into()),
            page_token: page,
            ..PaginatedListOptions::default()
        };
        let prefix = format!("{start}{prefix}");
        let prefix = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let page = self.wait(bucket.pages.list_paginated(prefix, options))?;
        let page = page.map_err(|error| self.failed("folder", Doing::Listing, &error))?;
        let next = page.page_token.filter(|token| !token.is_empty());
        Ok((page.result, next))
    }
}
