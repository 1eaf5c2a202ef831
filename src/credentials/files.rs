//! Values made of files, and made again when the files' contents change. All files of a value are read before
//! any of it is made, so that a certificate and its key are those that were there together; until both of a
//! pair are replaced they do not fit, and the value before stays. Contents are compared, not times: where
//! files are swapped by a link (Kubernetes) or restored from elsewhere, times mean little. What the configuration
//! holds itself stands beside files and does not change.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};

use super::{CredentialError, Secret};

/// Far more than any certificate chain or list of users needs.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a part of a value comes from.
#[derive(Clone)]
pub(super) enum Origin {
    /// A file that is followed.
    File(PathBuf),
    /// Something that stays as it is, and the key or the file that it is from.
    Kept(PathBuf, Vec<u8>),
}

impl From<PathBuf> for Origin {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl Origin {
    /// A file or a text in its place, by the keys that name them.
    pub(super) fn one_of(
        [file_key, text_key]: [&'static str; 2],
        file: Option<&PathBuf>,
        text: Option<&Secret>,
    ) -> Result<Option<Self>, CredentialError> {
        match (file, text) {
            (Some(_), Some(_)) => Err(CredentialError::Both([file_key, text_key])),
            (Some(file), None) => Ok(Some(Self::File(file.clone()))),
            (None, Some(text)) => Ok(Some(Self::Kept(text_key.into(), text.as_str().as_bytes().to_vec()))),
            (None, None) => Ok(None),
        }
    }

    /// What is in a file now, whatever becomes of the file.
    pub(super) fn kept(path: &Path) -> Result<Self, CredentialError> {
        Ok(Self::Kept(path.to_owned(), read(path)?))
    }

    fn read(&self) -> Result<Contents<'_>, CredentialError> {
        match self {
            Self::File(path) => Ok(Contents { path, bytes: read(path)? }),
            Self::Kept(path, bytes) => Ok(Contents { path, bytes: bytes.clone() }),
        }
    }
}

/// Shows places only: contents may be secret.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::File(path) | Self::Kept(path, _)) = self;
        path.fmt(f)
    }
}

/// A file as it was read, or a text and the key that it stands at.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    pub(super) path: &'a Path,
    pub(super) bytes: Vec<u8>,
}

impl Contents<'_> {
    /// As text; other bytes become U+FFFD, which nothing that is looked for contains.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// For messages.
    pub(super) fn place(&self) -> String {
        self.path.display().to_string()
    }
}

type Make<T> = Box<dyn Fn(&[Contents<'_>]) -> Result<T, CredentialError> + Send + Sync>;

/// A value of type `T` made of files.
pub(super) struct FromFiles<T> {
    files: Vec<Origin>,
    make: Make<T>,
    current: ArcSwap<T>,
    seen: Mutex<[u8; 32]>,
}

impl<T> FromFiles<T> {
    /// Makes it for the first time. `make` gets the contents in the order of `files`.
    pub(super) fn load(
        files: Vec<impl Into<Origin>>,
        make: impl Fn(&[Contents<'_>]) -> Result<T, CredentialError> + Send + Sync + 'static,
    ) -> Result<Self, CredentialError> {
        let files: Vec<Origin> = files.into_iter().map(Into::into).collect();
        let (contents, seen) = read_all(&files)?;
        let current = ArcSwap::from_pointee(make(&contents)?);
        Ok(Self { files, make: Box::new(make), current, seen: Mutex::new(seen) })
    }

    /// The value in force.
    pub(super) fn get(&self) -> Arc<T> {
        self.current.load_full()
    }
}

/// What can be made again.
pub(super) trait Refresh: Send + Sync {
    /// Looks at the files; `true` when a new value is in force. On an error the value before stays. Blocks on
    /// files.
    fn refresh(&self) -> Result<bool, CredentialError>;
}

impl<T: Send + Sync> Refresh for FromFiles<T> {
    fn refresh(&self) -> Result<bool, CredentialError> {
        let (contents, now) = read_all(&self.files)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return Ok(false);
        }
        self.current.store(Arc::new((self.make)(&contents)?));
        *seen = now;
        Ok(true)
    }
}

impl<T> fmt::Debug for FromFiles<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFiles").field("files", &self.files).finish_non_exhaustive()
    }
}

fn read_all(files: &[Origin]) -> Result<(Vec<Contents<'_>>, [u8; 32]), CredentialError> {
    let mut digest = Sha256::new();
    let mut contents = Vec::with_capacity(files.len());
    for file in files {
        let read = file.read()?;
        digest.update((read.bytes.len() as u64).to_be_bytes());
        digest.update(&read.bytes);
        contents.push(read);
    }
    Ok((contents, digest.finalize().into()))
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialError> {
    let failed = |cause| CredentialError::Read { path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(CredentialError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(contents: &[Contents<'_>]) -> Result<u32, CredentialError> {
        let why = CredentialError::Nothing { what: "a number", way_out: "write one" };
        contents.iter().map(|c| c.text().trim().parse::<u32>().ok()).sum::<Option<u32>>().ok_or(why)
    }

    #[test]
    fn a_bad_file_keeps_the_value_and_a_good_one_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&a, "1").unwrap();
        std::fs::write(&b, "2").unwrap();
        let value = FromFiles::load(vec![a.clone(), b.clone()], number).unwrap();
        assert!(!value.refresh().unwrap(), "nothing changed");
        std::fs::write(&a, "x").unwrap();
        assert!(value.refresh().is_err());
        assert!(value.refresh().is_err(), "it stays an error until the file is mended");
        assert_eq!(*value.get(), 3);
        std::fs::remove_file(&a).unwrap();
        assert!(matches!(value.refresh(), Err(CredentialError::Read { .. })));
        std::fs::write(&a, "5").unwrap();
        assert!(value.refresh().unwrap());
        assert_eq!(*value.get(), 7);
        std::fs::write(&a, "2").unwrap();
        std::fs::write(&b, "5").unwrap();
        assert!(value.refresh().unwrap(), "what is where counts");
    }

    #[test]
    fn what_is_kept_does_not_follow_its_file_and_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&a, "1").unwrap();
        std::fs::write(&b, "2").unwrap();
        let text = Origin::one_of(["n_file", "n_pem"], None, Some(&"40".into())).unwrap().unwrap();
        let value =
            FromFiles::load(vec![Origin::File(a.clone()), Origin::kept(&b).unwrap(), text], number).unwrap();
        std::fs::write(&b, "7").unwrap();
        assert!(!value.refresh().unwrap());
        std::fs::write(&a, "3").unwrap();
        assert!(value.refresh().unwrap());
        assert_eq!(*value.get(), 45);
        assert!(!format!("{value:?}").contains("40"), "{value:?}");
        let both = Origin::one_of(["n_file", "n_pem"], Some(&a), Some(&"1".into())).unwrap_err();
        assert_eq!(both.to_string(), "choose between n_file and n_pem: both are set; take one out");
    }

    #[test]
    fn sizes_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        std::fs::write(&path, vec![b'1'; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(matches!(FromFiles::load(vec![path], number), Err(CredentialError::TooLarge { .. })));
    }
}
