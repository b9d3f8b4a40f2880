//! What is printed when code panics: nothing that does, on purpose, is ours.

use std::panic::PanicHookInfo;

/// Replaces the hook that prints panics.
pub(crate) fn init() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !is_caught(info) {
            default(info);
        }
    }));
}

/// An upload that failed at its end cannot be aborted: the object store panics when it is asked to, and the
/// Delta writer, which asks, catches that. The error of the upload itself is what the user sees.
fn is_caught(info: &PanicHookInfo<'_>) -> bool {
    let in_object_store = info.location().is_some_and(|at| at.file().contains("object_store"));
    in_object_store && info.payload_as_str() == Some("Already shut down")
}
