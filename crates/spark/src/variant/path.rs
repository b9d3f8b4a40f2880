//! Paths into a variant: `$.a.b[0]['c d']`.

use std::borrow::Cow;

use parquet_variant::Variant;

use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Where a value is found within another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

impl Path {
    /// Reads a path; `function` is named in the error.
    ///
    /// # Errors
    /// `INVALID_VARIANT_GET_PATH` (`User`)
    pub(crate) fn parse(text: &str, function: &str) -> Result<Self> {
        steps(text).map(Self).ok_or_else(|| {
            Error::user(format!("the path `{text}` is not a valid variant extraction path in `{function}`"))
                .with_condition("INVALID_VARIANT_GET_PATH")
                .with_help("A path is `$`, then `.name`, `['name']` or `[0]`, as often as need be.")
        })
    }

    /// The value the path leads to, if there is one.
    pub(crate) fn follow<'m, 'v>(&self, variant: &Variant<'m, 'v>) -> Option<Variant<'m, 'v>> {
        let mut at = Cow::Borrowed(variant);
        for step in &self.0 {
            let next = match (step, at.as_ref()) {
                (Step::Key(name), Variant::Object(object)) => object.get(name)?,
                (Step::Index(index), Variant::List(list)) => list.get(*index)?,
                _ => return None,
            };
            at = Cow::Owned(next);
        }
        Some(at.into_owned())
    }
}

fn steps(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, after) = if let Some(after) = rest.strip_prefix('.') {
            let (name, after) = after.split_at(after.find(['.', '[']).unwrap_or(after.len()));
            (Step::Key((!name.is_empty()).then(|| name.to_owned())?), after)
        } else {
            let inner = rest.strip_prefix('[')?;
            match inner.chars().next()? {
                quote @ ('\'' | '"') => {
                    let (name, after) = inner[1..].split_once(quote)?;
                    (Step::Key(name.to_owned()), after.strip_prefix(']')?)
                }
                _ => {
                    let (index, after) = inner.split_once(']')?;
                    let digits = index.bytes().all(|byte| byte.is_ascii_digit());
                    (Step::Index(digits.then(|| index.parse().ok())??), after)
                }
            }
        };
        steps.push(step);
        rest = after;
    }
    Some(steps)
}
