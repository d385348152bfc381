//! The files of the pages, our scripts without their comments, and as `build.rs` compressed them.

/// A file and its compressed forms, where those are shorter.
pub struct File {
    /// As in paths behind `/console/assets/`.
    pub name: &'static str,
    pub bytes: &'static [u8],
    pub gzip: Option<&'static [u8]>,
    pub brotli: Option<&'static [u8]>,
}

/// All but the page that loads them.
pub const ALL: &[File] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));
