//! JSON text to Arrow arrays.
