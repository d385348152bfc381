//! As much of S3 as the tests need, in memory.

use super::server::{Asked, Reply};
use super::*;
use url::Url;

/// Keys on a page of a list.
const PAGE: usize = 3;

/// The bucket `bucket`.
#[derive(Clone, Default)]
pub struct Bucket(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    objects: BTreeMap<String, Vec<u8>>,
    /// Of the upload that is under way, by number.
    parts: BTreeMap<usize, Vec<u8>>,
}

impl Bucket {
    pub fn new() -> Bucket {
        Bucket::default()
    }

    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.content().objects.insert(name.to_owned(), bytes);
    }

    /// Whether there is neither an object nor a part of one.
    pub fn is_empty(&self) -> bool {
        let content = self.content();
        content.objects.is_empty() && content.parts.is_empty()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    pub fn script(&self) -> impl FnMut(&Asked) -> Reply + Send + 'static {
        let bucket = self.clone();
        move |asked| bucket.content().answer(asked)
    }
}

impl Content {
    fn answer(&mut self, asked: &Asked) -> Reply {
        assert!(
            asked
                .header("authorization")
                .unwrap()
                .contains("AWS4-HMAC-SHA256")
        );
        let url = Url::parse(&format!("http://server{}", asked.path)).unwrap();
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let name = url.path().strip_prefix("/bucket").unwrap();
        let name = name.trim_start_matches('/');
        let asks = |word: &str| query.contains_key(word);
        match &asked.method[..] {
            "PUT" if asks("partNumber") => {
                let number = query["partNumber"].parse().unwrap();
                self.parts.insert(number, asked.body.clone());
                Reply::status(200).header("etag", format!("\"{number}\""))
            }
            "PUT" => self.put(name, asked),
            "POST" if asks("uploads") => {
                self.parts.clear();
                let text = "<R><UploadId>one</UploadId></R>";
                Reply::with_body(200, text)
            }
            "POST" if asks("uploadId") => {
                let parts = std::mem::take(&mut self.parts);
                let last = parts.len();
                let is_even = |(number, part): (&usize, &Vec<u8>)| {
                    *number == last || part.len() == PART_BYTES
                };
                assert!(parts.iter().all(is_even));
                let whole = parts.into_values().collect::<Vec<_>>().concat();
                self.objects.insert(name.to_owned(), whole);
                Reply::with_body(200, "<R><ETag>\"e\"</ETag></R>")
            }
            "POST" if asks("delete") => self.delete(asked),
            "DELETE" => {
                self.parts.clear();
                Reply::status(204)
            }
            "GET" if asks("list-type") => self.list(&query),
            "GET" => self.get(name, asked),
            method => panic!("{method} {}", asked.path),
        }
    }

    fn put(&mut self, name: &str, asked: &Asked) -> Reply {
        let is_new = asked.header("if-none-match") == Some("*");
        if is_new && self.objects.contains_key(name) {
            return Reply::code(412, "PreconditionFailed");
        }
        self.objects.insert(name.to_owned(), asked.body.clone());
        Reply::status(200).header("etag", "\"e\"")
    }

    fn get(&self, name: &str, asked: &Asked) -> Reply {
        let Some(bytes) = self.objects.get(name) else {
            return Reply::code(404, "NoSuchKey");
        };
        let range = asked.header("range").unwrap();
        let (begin, last) = range["bytes=".len()..].split_once('-').unwrap();
        let (begin, last): (usize, usize) = (begin.parse().unwrap(), last.parse().unwrap());
        if begin >= bytes.len() {
            return Reply::code(416, "InvalidRange");
        }
        let end = bytes.len().min(last + 1);
        let range = format!("bytes {begin}-{}/{}", end - 1, bytes.len());
        Reply::with_body(206, &bytes[begin..end])
            .header("content-range", range)
            .header("etag", "\"e\"")
            .header("last-modified", "Tue, 01 Jan 2030 00:00:00 GMT")
    }

    fn delete(&mut self, asked: &Asked) -> Reply {
        let text = String::from_utf8(asked.body.clone()).unwrap();
        let mut answer = "<DeleteResult>".to_owned();
        for key in text.split("<Key>").skip(1) {
            let (key, _) = key.split_once("</Key>").unwrap();
            self.objects.remove(key);
            answer += &format!("<Deleted><Key>{key}</Key></Deleted>");
        }
        Reply::with_body(200, answer + "</DeleteResult>")
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Reply {
        let word = |word: &str| query.get(word).map_or("", String::as_str);
        let (prefix, after) = (word("prefix"), word("continuation-token"));
        assert_eq!(word("delimiter"), "/");
        let mut entries: BTreeMap<String, String> = BTreeMap::new();
        for (key, bytes) in self
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
        {
            match key[prefix.len()..].split_once('/') {
                Some((folder, _)) => {
                    let folder = format!("{prefix}{folder}/");
                    let entry =
                        format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>");
                    entries.insert(folder, entry);
                }
                None => {
                    let entry = format!(
                        "<Contents><Key>{key}</Key><Size>{}</Size><ETag>\"e\"</ETag>\
                         <LastModified>2030-01-01T00:00:00Z</LastModified></Contents>",
                        bytes.len()
                    );
                    entries.insert(key.clone(), entry);
                }
            }
        }
        entries.retain(|key, _| key.as_str() > after);
        let next = entries.keys().nth(PAGE).is_some();
        let next = next
            .then(|| entries.keys().nth(PAGE - 1).cloned())
            .flatten();
        let mut page: String = entries.into_values().take(PAGE).collect();
        if let Some(next) = next {
            page += &format!("<NextContinuationToken>{next}</NextContinuationToken>");
        }
        Reply::with_body(200, format!("<ListBucketResult>{page}</ListBucketResult>"))
    }
}
