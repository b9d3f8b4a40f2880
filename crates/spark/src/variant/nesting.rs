//! How deep a variant is nested, found out without a call for each level: those that read it make one.

/// The deepest nesting of values. Spark allows 1000.
pub(super) const MAX_DEPTH: usize = 128;

/// Whether the bytes of a value are nested no deeper than that. Bytes that are no variant may be within, too.
pub(super) fn is_shallow(value: &[u8]) -> bool {
    let mut open = vec![(0, 0)];
    // Every value has a byte of its own: more of them overlap.
    for _ in 0..=value.len() {
        let Some((at, depth)) = open.pop() else { return true };
        if depth > MAX_DEPTH {
            return false;
        }
        children(value, at, |child| open.push((child, depth + 1)));
    }
    false
}

/// Where the values of an object or an array begin that begins at `at`.
fn children(value: &[u8], at: usize, mut visit: impl FnMut(usize)) -> Option<()> {
    let header = usize::from(*value.get(at)?);
    let (is_object, flags) = (header & 3 == 2, header >> 2);
    if header & 3 < 2 {
        return None;
    }
    let offset_bytes = (flags & 3) + 1;
    let (id_bytes, is_large) = if is_object { ((flags >> 2 & 3) + 1, flags >> 4 & 1) } else { (0, flags >> 2 & 1) };
    let count_bytes = if is_large == 1 { 4 } else { 1 };
    let count = number(value, at + 1, count_bytes)?;
    let offsets = (at + 1 + count_bytes).checked_add(count.checked_mul(id_bytes)?)?;
    let values = offsets.checked_add(count.checked_add(1)?.checked_mul(offset_bytes)?)?;
    if values > value.len() {
        return None;
    }
    for nth in 0..count {
        visit(values.checked_add(number(value, offsets + nth * offset_bytes, offset_bytes)?)?);
    }
    Some(())
}

/// An unsigned number of so many bytes, the least first.
fn number(value: &[u8], at: usize, bytes: usize) -> Option<usize> {
    let bytes = value.get(at..at.checked_add(bytes)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}
