//! What is noted of the machine below the state directory, and means nothing after its next boot: the numbers of jails and the mounts
//! that were there before them, and how a real interface was before it was bridged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::host::Failure;
use crate::host::failure::Context;

/// Notes of one kind, one file for each object.
#[derive(Debug, Clone)]
pub struct Notes {
    dir: PathBuf,
    boot: String,
}

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Dated<T> {
    boot: String,
    note: T,
}

impl Notes {
    /// Those in a directory. What an earlier boot left there goes.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn open(dir: PathBuf, boot: &str) -> Result<Self, Failure> {
        let what = || format!("use the directory {}", dir.display());
        fs::create_dir_all(&dir).doing(what)?;
        let notes = Self { dir: dir.clone(), boot: boot.to_owned() };
        for file in fs::read_dir(&dir).doing(what)? {
            let path = file.doing(what)?.path();
            if notes.load::<serde::de::IgnoredAny>(&path)?.is_none() {
                fs::remove_file(&path).doing(|| format!("remove {}", path.display()))?;
            }
        }
        Ok(notes)
    }

    /// Where the note of an object is.
    fn path(&self, object: &str) -> PathBuf {
        self.dir.join(object)
    }

    fn load<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, Failure> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.doing(|| format!("read {}", path.display()))?,
        };
        // Files are replaced whole, so that one which cannot be read is what a loss of power left: of an earlier boot as well.
        let dated: Option<Dated<T>> = serde_json::from_slice(&bytes).ok();
        Ok(dated.filter(|dated| dated.boot == self.boot).map(|dated| dated.note))
    }

    /// What is noted of an object, in this boot.
    pub fn get<T: DeserializeOwned>(&self, object: &str) -> Result<Option<T>, Failure> {
        self.load(&self.path(object))
    }

    /// Notes something of an object in place of what was noted before.
    pub fn put<T: Serialize>(&self, object: &str, note: T) -> Result<(), Failure> {
        let (path, new) = (self.path(object), self.dir.join(format!(".{object}.new")));
        let what = || format!("write {}", path.display());
        let text = serde_json::to_vec(&Dated { boot: self.boot.clone(), note })
            .map_err(|error| Failure::new(format!("{}: {error}", what())))?;
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).doing(what)
    }

    /// Forgets what is noted of an object.
    pub fn drop(&self, object: &str) -> Result<(), Failure> {
        let path = self.path(object);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}
