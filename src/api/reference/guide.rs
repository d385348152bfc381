//! The pages of `docs/` as HTML, for `/docs/guide/NAME`.
//!
//! They are compiled in, so that the pages are those of the version that runs. Their links lead to
//! each other here as they do in the repository. Pictures are left out, so that a page loads
//! nothing else.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};

use super::html::escape;

/// A page of `docs/`.
pub struct Guide {
    /// The file's name without its ending, and the page's in the path.
    pub name: &'static str,
    /// A word or three, for the list of pages.
    pub label: &'static str,
    markdown: &'static str,
}

macro_rules! guides {
    ($($name:literal, $label:literal;)*) => {
        [$(Guide {
            name: $name,
            label: $label,
            markdown: include_str!(concat!("../../../docs/", $name, ".md")),
        }),*]
    };
}

/// All pages, in the order in which a newcomer needs them.
pub static GUIDES: &[Guide] = &guides! {
    "operations", "Operations";
    "backup", "Backup and restore";
    "notify", "Telling people";
    "behind-a-proxy", "Behind a proxy";
    "settings", "Settings";
    "command-line", "Command line";
    "api", "Using the API";
    "event-types", "Event types";
    "profiles", "Endpoints, profiles";
    "filters", "Filters";
    "transformations", "Transformations";
    "behaviour", "How it behaves";
    "verification", "Verifying endpoints";
    "credentials", "Credentials, roles";
    "console-and-portal", "Console and portal";
    "svix", "Coming from Svix";
    "ovation", "Ovation's API";
    "ocrolus", "Ocrolus's API";
    "systems", "Five systems";
    "limits", "Limits";
    "durability", "How nothing is lost";
    "testing", "Tests";
    "benchmarks", "Benchmarks";
};

/// Returns the path where a page is served.
pub fn path(name: &str) -> String {
    format!("/docs/guide/{name}")
}

impl Guide {
    /// The page's content, beginning with its heading.
    pub fn html(&self) -> String {
        let mut events: Vec<Event> = Vec::new();
        let mut in_picture = false;
        let mut heading = None;
        let mut is_link = false;
        let mut table = Table::default();
        for event in Parser::new_ext(self.markdown, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Image { .. }) => in_picture = true,
                Event::End(TagEnd::Image) => in_picture = false,
                _ if in_picture => {}
                // Nothing in the files is markup of its own.
                Event::Html(text) | Event::InlineHtml(text) => events.push(Event::Text(text)),
                Event::Start(Tag::Heading { .. }) => {
                    heading = Some(events.len());
                    events.push(event);
                }
                Event::End(TagEnd::Heading(_)) => {
                    let begun = heading.take().expect("a heading begins before it ends");
                    let words = slug(&events[begun..]);
                    if let Event::Start(Tag::Heading { id, .. }) = &mut events[begun] {
                        *id = Some(words.into());
                    }
                    events.push(event);
                }
                Event::Start(Tag::TableHead) => {
                    table = Table::default();
                    events.push(event);
                }
                Event::Start(Tag::TableCell) if !table.has_head => {
                    table.begun = events.len();
                    events.push(event);
                }
                Event::End(TagEnd::TableCell) if !table.has_head => {
                    table.head.push(words(&events[table.begun..]));
                    events.push(event);
                }
                Event::End(TagEnd::TableHead) => {
                    table.has_head = true;
                    events.push(event);
                }
                Event::Start(Tag::TableRow) => {
                    table.column = 0;
                    events.push(event);
                }
                Event::Start(Tag::TableCell) => events.push(table.cell_begins()),
                Event::End(TagEnd::TableCell) => events.push(table.cell_ends()),
                Event::Start(Tag::Link {
                    link_type,
                    dest_url,
                    title,
                    id,
                }) => {
                    let served = served(&dest_url);
                    is_link = served.is_some();
                    events.extend(served.map(|served| {
                        Event::Start(Tag::Link {
                            link_type,
                            dest_url: served.into(),
                            title,
                            id,
                        })
                    }));
                }
                Event::End(TagEnd::Link) if !is_link => {}
                _ => events.push(event),
            }
        }
        let mut page = String::new();
        html::push_html(&mut page, events.into_iter());
        // A block that scrolls sideways must be reachable by keyboard.
        page.replace("<pre>", "<pre tabindex=\"0\">")
            .replace("<table>", "<table class=\"guide\">")
    }
}

/// The table that is being written. A row's first cell heads it, and the others say which column they
/// are of: in a narrow window they stand below each other, without the table's head.
#[derive(Default)]
struct Table {
    head: Vec<String>,
    has_head: bool,
    /// Where the events of the head's current cell begin.
    begun: usize,
    column: usize,
}

impl Table {
    fn cell_begins(&self) -> Event<'static> {
        let markup = match self.column {
            0 => "<th scope=\"row\">".to_owned(),
            // A table of names and their meanings needs no headings in its cells.
            _ if self.head.len() == 2 => "<td>".to_owned(),
            column => {
                let label = self.head.get(column).map_or("", String::as_str);
                format!("<td data-label=\"{}\">", escape(label))
            }
        };
        Event::InlineHtml(markup.into())
    }

    fn cell_ends(&mut self) -> Event<'static> {
        self.column += 1;
        Event::InlineHtml(if self.column == 1 { "</th>" } else { "</td>" }.into())
    }
}

/// The anchor of a heading, as the forges that show the files make it.
fn slug(heading: &[Event]) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
    let text = words(heading).to_lowercase();
    text.chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

fn words(events: &[Event]) -> String {
    let words = events.iter().filter_map(|event| match event {
        Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
        _ => None,
    });
    words.collect()
}

/// Returns the server's path for a link of a file; `None` for files that have no page here.
fn served(link: &str) -> Option<String> {
    if link.starts_with('#') || link.contains("://") {
        return Some(link.to_owned());
    }
    let (file, anchor) = match link.find('#') {
        Some(at) => link.split_at(at),
        None => (link, ""),
    };
    if file == "../README.md" {
        return Some("/docs".to_owned());
    }
    let name = file.strip_suffix(".md")?;
    let guide = GUIDES.iter().find(|guide| guide.name == name)?;
    Some(format!("{}{anchor}", path(guide.name)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn targets(html: &str) -> impl Iterator<Item = &str> {
        html.split("href=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn every_file_of_the_documentation_is_a_page() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let files = std::fs::read_dir(directory).expect("the documentation");
        let names = files.map(|file| file.expect("a file").file_name().into_string().unwrap());
        let files: BTreeSet<String> = names.filter(|name| name.ends_with(".md")).collect();
        let guides = GUIDES.iter().map(|guide| format!("{}.md", guide.name));
        assert_eq!(guides.collect::<BTreeSet<_>>(), files);
    }

    #[test]
    fn links_between_pages_lead_to_headings_that_are_there() {
        for guide in GUIDES {
            let page = guide.html();
            for target in targets(&page).filter(|target| !target.contains("://")) {
                let (to, anchor) = target.split_once('#').unwrap_or((target, ""));
                let to = match to {
                    "/docs" => continue,
                    "" => guide,
                    to => GUIDES
                        .iter()
                        .find(|guide| path(guide.name) == to)
                        .unwrap_or_else(|| panic!("{}: {target}", guide.name)),
                };
                let found = anchor.is_empty() || to.html().contains(&format!("id=\"{anchor}\""));
                assert!(found, "{}: {target}", guide.name);
            }
        }
    }

    /// The files themselves, as a forge shows them: what a link names is in the repository.
    #[test]
    fn links_to_files_lead_to_files_that_are_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
        let mut pages = vec![("README.md", "", readme.as_str())];
        pages.extend(GUIDES.iter().map(|one| (one.name, "docs", one.markdown)));
        for (name, directory, markdown) in pages {
            for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
                let (Event::Start(Tag::Link { dest_url, .. })
                | Event::Start(Tag::Image { dest_url, .. })) = event
                else {
                    continue;
                };
                let file = dest_url.split('#').next().unwrap_or_default();
                if !file.is_empty() && !file.contains("://") {
                    let path = root.join(directory).join(file);
                    assert!(path.exists(), "{name}: {dest_url}");
                }
            }
        }
    }

    #[test]
    fn cells_say_which_column_they_are_of() {
        let guide = Guide {
            name: "x",
            label: "x",
            markdown: "| | `a` & \"b\" | c |\n|-|-|-|\n| one | 1 | **2** |\n\n| k | v |\n|-|-|\n| x | y |\n",
        };
        let html = guide.html();
        for row in [
            "<th scope=\"row\">one</th><td data-label=\"a &amp; &quot;b&quot;\">1</td>\
             <td data-label=\"c\"><strong>2</strong></td>",
            "<th scope=\"row\">x</th><td>y</td>",
        ] {
            assert!(html.contains(row), "{html}");
        }
    }

    #[test]
    fn markup_in_a_page_is_text() {
        let guide = Guide {
            name: "x",
            label: "x",
            markdown: "# A `b` c!\n<b>x</b> ![picture](x.png) [file](../x.toml) [page](limits.md#limits)\n",
        };
        let html = guide.html();
        assert!(html.starts_with("<h1 id=\"a-b-c\">"), "{html}");
        assert!(html.contains("&lt;b&gt;x"), "{html}");
        assert!(
            !html.contains("picture") && !html.contains("x.toml"),
            "{html}"
        );
        assert!(
            html.contains("href=\"/docs/guide/limits#limits\""),
            "{html}"
        );
    }
}
