//! Compresses the files of the pages when the program is built, as much as can be, so that no start takes the time.
//! Browsers get our scripts without the comments, with each line where it was.
//!
//! Writes `assets.rs`: a list of all files below `src/console/assets`, but the page that loads them, by name.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

const ASSETS: &str = "src/console/assets";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={ASSETS}");
    println!("cargo::rerun-if-changed=src/console/build.rs");
    let variable = |name| PathBuf::from(std::env::var_os(name).expect("cargo sets it"));
    let (assets, out) = (
        variable("CARGO_MANIFEST_DIR").join(ASSETS),
        variable("OUT_DIR"),
    );
    let mut names = Vec::new();
    list(&assets, &assets, &mut names)?;
    names.retain(|name| name != "shell.html");
    names.sort();
    let mut code = String::from("&[\n");
    for (number, name) in names.iter().enumerate() {
        let mut path = assets.join(name);
        let mut bytes = fs::read(&path)?;
        if name.ends_with(".js") && !name.starts_with("vendor/") {
            path = out.join(format!("{number}.js"));
            bytes = without_comments(&bytes);
            fs::write(&path, &bytes)?;
        }
        let form = |compressed: Vec<u8>, ending: &str| -> io::Result<String> {
            if compressed.len() >= bytes.len() {
                return Ok("None".to_owned());
            }
            let path = out.join(format!("{number}.{ending}"));
            fs::write(&path, compressed)?;
            Ok(format!("Some(include_bytes!({path:?}))"))
        };
        let (gzip, brotli) = (form(gzip(&bytes)?, "gz")?, form(brotli(&bytes)?, "br")?);
        code += &format!(
            "File {{ name: {name:?}, bytes: include_bytes!({path:?}), gzip: {gzip}, brotli: {brotli} }},\n"
        );
    }
    code += "]\n";
    fs::write(out.join("assets.rs"), code)
}

/// The names of all files in the folder and in those below it, as in paths from the root.
fn list(root: &Path, folder: &Path, names: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(root, &path, names)?;
        } else {
            let name = path.strip_prefix(root).expect("it is below it");
            names.push(name.to_str().expect("names are plain").replace('\\', "/"));
        }
    }
    Ok(())
}

/// A script with empty lines in place of those that are nothing but a comment. A comment of several lines begins with
/// `/**` on a line of its own, and ends with `*/` on another.
fn without_comments(script: &[u8]) -> Vec<u8> {
    let script = std::str::from_utf8(script).expect("our scripts are UTF-8");
    let mut kept = String::with_capacity(script.len());
    let mut is_within = false;
    for line in script.lines() {
        let text = line.trim();
        let begins = text == "/**";
        let is_comment = text.starts_with("//") || (text.starts_with("/*") && text.ends_with("*/"));
        if !(is_within || begins || is_comment) {
            kept += line;
        }
        kept.push('\n');
        is_within = (is_within || begins) && text != "*/";
    }
    kept.into_bytes()
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn brotli(mut bytes: &[u8]) -> io::Result<Vec<u8>> {
    let params = brotli::enc::BrotliEncoderParams {
        quality: 11,
        mode: brotli::enc::backward_references::BrotliEncoderMode::BROTLI_MODE_TEXT,
        size_hint: bytes.len(),
        ..Default::default()
    };
    let mut compressed = Vec::new();
    brotli::BrotliCompress(&mut bytes, &mut compressed, &params)?;
    Ok(compressed)
}
