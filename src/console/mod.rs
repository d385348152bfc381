//! The pages for people: `/console` for those who run the server, `/portal` for the platform's customers.
//!
//! Both are the same small application in the browser. It calls the API as any other client does, and
//! the API tells it which parts its user may see. This module has only the files of the application,
//! which are part of the binary, and the page that loads them; it does not know the store. A page
//! loads nothing from elsewhere, runs no script that is not a file of ours, and may be framed only
//! where the settings allow it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use actix_web::{HttpRequest, HttpResponse, guard, web};

use crate::asset::Asset;
use crate::config::Config;

mod assets;

const LOGO_BYTES_MAX: u64 = 256 * 1024;

const SHELL: &str = include_str!("assets/shell.html");

/// By the path behind `/console/assets/`: the same for every server of the process.
static ASSETS: LazyLock<BTreeMap<&'static str, Asset>> = LazyLock::new(|| {
    let assets = assets::ALL.iter();
    assets.map(|file| (file.name, made(file))).collect()
});

/// The answers beside the files of the application, ready to be sent.
pub struct Pages {
    console: Asset,
    portal: Asset,
    theme: Asset,
    logo: Option<Asset>,
    /// The picture that browsers ask for where a page names none.
    favicon: Asset,
}

impl Pages {
    /// Fails with the setting's name where the portal's picture cannot be used.
    pub fn new(config: &Config) -> Result<Pages, String> {
        let portal = &config.portal;
        let logo = portal
            .logo_file
            .as_deref()
            .map(logo)
            .transpose()
            .map_err(|problem| format!("portal.logo_file: {problem}"))?;
        let logo_path = logo.as_ref().map_or("", |_| "/portal/logo");
        let labels = serde_json::to_string(&portal.labels).expect("they are texts");
        Ok(Pages {
            console: shell(&Shell {
                surface: "console",
                name: "postrider",
                title: "postrider",
                logo: "",
                theme: "",
                labels: "{}",
                frame_origins: &config.console.frame_origins,
            }),
            portal: shell(&Shell {
                surface: "portal",
                name: &portal.name,
                title: &portal.name,
                logo: logo_path,
                theme: r#"<link rel="stylesheet" href="/portal/theme.css">"#,
                labels: &labels,
                frame_origins: &portal.frame_origins,
            }),
            theme: Asset::new(
                "text/css; charset=utf-8",
                format!(":root {{ --accent: {}; }}\n", portal.accent_color),
            ),
            logo,
            favicon: Asset::new("image/svg+xml", &include_bytes!("assets/icon.svg")[..]),
        })
    }
}

/// The values of the placeholders in the page that loads everything else.
struct Shell<'a> {
    surface: &'a str,
    name: &'a str,
    title: &'a str,
    logo: &'a str,
    /// HTML.
    theme: &'a str,
    /// The words of `portal.labels`, as JSON.
    labels: &'a str,
    frame_origins: &'a [String],
}

fn shell(shell: &Shell) -> Asset {
    let mut html = SHELL.to_owned();
    for (place, value) in [
        ("{{surface}}", shell.surface.to_owned()),
        ("{{logo}}", shell.logo.to_owned()),
        ("{{theme}}", shell.theme.to_owned()),
        // Braces in these texts are escaped, so that no text looks like a placeholder.
        ("{{title}}", escape(shell.title)),
        ("{{labels}}", escape(shell.labels)),
        ("{{name}}", escape(shell.name)),
    ] {
        html = html.replace(place, &value);
    }
    Asset::with_policy(
        "text/html; charset=utf-8",
        html,
        policy(shell.frame_origins),
    )
}

/// The Content-Security-Policy of the pages: they load only our files, and only these origins frame them.
fn policy(frame_origins: &[String]) -> String {
    let ancestors = match frame_origins.is_empty() {
        true => "'none'".to_owned(),
        false => frame_origins.join(" "),
    };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors {ancestors}"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('{', "&#123;")
}

fn made(file: &assets::File) -> Asset {
    let content_type = content_type(file.name).unwrap_or("application/octet-stream");
    Asset::compressed(content_type, file.bytes, file.gzip, file.brotli)
}

fn content_type(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "txt" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

/// The operator's picture. Nothing in one that is a document of its own runs or loads.
fn logo(path: &Path) -> Result<Asset, String> {
    let read = std::fs::metadata(path).and_then(|file| match file.len() <= LOGO_BYTES_MAX {
        true => std::fs::read(path).map(Some),
        false => Ok(None),
    });
    let bytes = read
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?
        .ok_or_else(|| format!("must have at most {LOGO_BYTES_MAX} bytes"))?;
    let content_type =
        picture_type(&bytes).ok_or("must be an SVG, PNG, JPEG or WebP file".to_owned())?;
    let policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox".to_owned();
    Ok(Asset::with_policy(content_type, bytes, policy))
}

/// By how it begins.
fn picture_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Some("image/webp"),
        _ => {
            let text = std::str::from_utf8(bytes).ok()?;
            let is_svg = text.trim_start().starts_with('<') && text.contains("<svg");
            is_svg.then_some("image/svg+xml")
        }
    }
}

/// All routes. A path below a surface that is no file is a place in its application.
pub fn configure(
    pages: web::Data<Pages>,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    move |config: &mut web::ServiceConfig| {
        let read = || web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
        config
            .app_data(pages.clone())
            .route("/console/assets/{name:.*}", read().to(asset))
            .route("/", read().to(first))
            .route("/favicon.ico", read().to(favicon))
            .route("/portal/logo", read().to(portal_logo))
            .route("/portal/theme.css", read().to(theme));
        for path in ["/console", "/console/{place:.*}"] {
            config.route(path, read().to(console));
        }
        for path in ["/portal", "/portal/{place:.*}"] {
            config.route(path, read().to(portal));
        }
    }
}

/// The bare address leads to the console.
async fn first() -> HttpResponse {
    let to = (actix_web::http::header::LOCATION, "/console");
    HttpResponse::Found().insert_header(to).finish()
}

async fn favicon(request: HttpRequest, pages: web::Data<Pages>) -> HttpResponse {
    pages.favicon.answer(&request)
}

async fn console(request: HttpRequest, pages: web::Data<Pages>) -> HttpResponse {
    pages.console.answer(&request)
}

async fn portal(request: HttpRequest, pages: web::Data<Pages>) -> HttpResponse {
    pages.portal.answer(&request)
}

async fn theme(request: HttpRequest, pages: web::Data<Pages>) -> HttpResponse {
    pages.theme.answer(&request)
}

async fn portal_logo(request: HttpRequest, pages: web::Data<Pages>) -> HttpResponse {
    answer(&request, pages.logo.as_ref())
}

async fn asset(request: HttpRequest) -> HttpResponse {
    let name = request.match_info().get("name").unwrap_or_default();
    answer(&request, ASSETS.get(name))
}

fn answer(request: &HttpRequest, asset: Option<&Asset>) -> HttpResponse {
    match asset {
        Some(asset) => asset.answer(request),
        None => HttpResponse::NotFound().finish(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All files of the folder and of the folders in it.
    fn files(folder: &Path, found: &mut Vec<String>) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/assets");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => files(&path, found),
                false => {
                    let name = path.strip_prefix(&root).unwrap();
                    found.push(name.to_str().unwrap().to_owned());
                }
            }
        }
    }

    #[test]
    fn every_file_is_served_with_its_type() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/assets");
        let mut there = Vec::new();
        files(&folder, &mut there);
        there.retain(|name| name != "shell.html");
        there.sort();
        let mut served: Vec<&str> = assets::ALL.iter().map(|file| file.name).collect();
        served.sort_unstable();
        assert_eq!(served, there);
        for name in served {
            let is_licence = name.starts_with("vendor/LICENSE");
            assert!(is_licence || content_type(name).is_some(), "{name}");
        }
    }

    #[test]
    fn scripts_stay_small() {
        let scripts = assets::ALL.iter();
        let scripts = scripts.filter(|file| file.name.ends_with(".js"));
        let sent: usize = scripts.map(|file| made(file).bytes_sent()).sum();
        assert!(sent < 100 * 1024, "{sent} bytes as they are sent");
    }

    #[test]
    fn the_page_is_filled_in_and_nothing_in_it_becomes_html() {
        let made = |name: &str| {
            let shell = shell(&Shell {
                surface: "portal",
                name,
                title: name,
                logo: "/portal/logo",
                theme: "<link>",
                labels: r#"{"menu":"\"}"}"#,
                frame_origins: &[],
            });
            String::from_utf8(shell.body().to_vec()).unwrap()
        };
        let html = made("Tom & <b>\"{{theme}}");
        assert!(html.contains("<title>Tom &amp; &lt;b&gt;&quot;&#123;&#123;theme}}</title>"));
        assert!(
            html.contains(r#"data-surface="portal""#)
                && html.contains(r#"data-logo="/portal/logo""#)
        );
        assert!(!made("n").contains("{{"), "every place is filled");
    }

    #[test]
    fn a_picture_is_known_by_how_it_begins() {
        for (bytes, expected) in [
            (&b"\x89PNG\r\n\x1a\nrest"[..], Some("image/png")),
            (b"\xff\xd8\xff\xe0", Some("image/jpeg")),
            (b"RIFF\x01\x02\x03\x04WEBPVP8", Some("image/webp")),
            (b" <?xml version=\"1.0\"?><svg/>", Some("image/svg+xml")),
            (b"<html>", None),
            (b"GIF89a", None),
            (b"", None),
        ] {
            assert_eq!(picture_type(bytes), expected, "{bytes:?}");
        }
    }
}
