//! Which Python runs the user's files.

use std::path::{Path, PathBuf};

use crate::spec::PipelineSpec;

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
