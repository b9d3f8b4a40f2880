//! Which Python runs the user's files, and how it finds our package.

use std::path::{Path, PathBuf};

use deltaworks_spark::{Error, Result};
use include_dir::{Dir, include_dir};

use crate::spec::PipelineSpec;

/// Our Python package, the same version as this program.
static PACKAGE: Dir = include_dir!("$CARGO_MANIFEST_DIR/../../python/deltaworks");

/// The interpreter: the pipeline's setting, `DELTAWORKS_PYTHON`, the active virtual environment, the one this
/// program is installed in, or `python3` of the path, whichever is first.
pub fn find(spec: &PipelineSpec) -> PathBuf {
    let configured = spec.python.clone().or_else(|| std::env::var_os("DELTAWORKS_PYTHON").map(PathBuf::from));
    let active = || std::env::var_os("VIRTUAL_ENV").map(|folder| Path::new(&folder).join("bin/python"));
    let beside = || {
        let program = std::env::current_exe().ok()?;
        let python = program.parent()?.join("python");
        (python.is_file() && python.parent()?.parent()?.join("pyvenv.cfg").is_file()).then_some(python)
    };
    configured.or_else(active).or_else(beside).unwrap_or_else(|| PathBuf::from("python3"))
}

/// Writes our package below `folder`, to be put on the interpreter's path.
pub fn unpack_package(folder: &Path) -> Result<()> {
    let target = folder.join("deltaworks");
    std::fs::create_dir_all(&target)?;
    PACKAGE.extract(&target).map_err(|error| Error::internal(format!("the Python package cannot be unpacked: {error}")))
}
