//! The state of one group in memory: what was kept, and what the batch makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The name under which the timers of a group lie. No variable of a user's begins so.
pub const TIMERS: &str = "$timers";

/// Which part of a variable an entry is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// All of it.
    Whole,
    /// The row at a position of a list; a timer, by its time.
    At(i64),
    /// The row of a map that a key has, as text.
    Key(Arc<str>),
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The row, as text; timers have none.
    pub value: Option<Arc<str>>,
    /// From when on the entry does not count any more, in milliseconds since the epoch.
    pub expires_ms: Option<i64>,
}

/// An entry as a batch has written it.
#[derive(Debug)]
pub struct Written {
    /// The variable.
    pub variable: Arc<str>,
    /// Which part of it.
    pub place: Place,
    /// The batch.
    pub batch: i64,
    /// What it has put there; `None` if it has taken the entry away.
    pub content: Option<Content>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The batch that has written `stored`.
    batch: Option<i64>,
    stored: Option<Content>,
    current: Option<Content>,
}

/// The state of one group.
#[derive(Debug, Default)]
pub struct GroupState {
    variables: BTreeMap<Arc<str>, BTreeMap<Place, Slot>>,
}

impl GroupState {
    /// Takes what has been written, unless a later batch has overtaken it. What has expired by `now_ms` is not there.
    pub fn load(&mut self, written: Written, now_ms: i64) {
        let slot = self.variables.entry(written.variable).or_default().entry(written.place).or_default();
        if slot.batch.is_some_and(|batch| batch > written.batch) {
            return;
        }
        let lives = |content: &Content| content.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms);
        *slot = Slot {
            batch: Some(written.batch),
            current: written.content.clone().filter(lives),
            stored: written.content,
        };
    }

    /// The entries of a variable, in order.
    pub(super) fn entries(&self, variable: &str) -> impl DoubleEndedIterator<Item = (&Place, &Content)> {
        let slots = self.variables.get(variable).into_iter().flatten();
        slots.filter_map(|(place, slot)| Some((place, slot.current.as_ref()?)))
    }

    pub(super) fn get(&self, variable: &str, place: &Place) -> Option<&Content> {
        self.variables.get(variable)?.get(place)?.current.as_ref()
    }

    pub(super) fn set(&mut self, variable: &str, place: Place, content: Content) {
        let slots = match self.variables.get_mut(variable) {
            Some(slots) => slots,
            None => self.variables.entry(Arc::from(variable)).or_default(),
        };
        slots.entry(place).or_default().current = Some(content);
    }

    pub(super) fn remove(&mut self, variable: &str, place: &Place) {
        if let Some(slot) = self.variables.get_mut(variable).and_then(|slots| slots.get_mut(place)) {
            slot.current = None;
        }
    }

    pub(super) fn clear(&mut self, variable: &str) {
        for slot in self.variables.get_mut(variable).into_iter().flat_map(BTreeMap::values_mut) {
            slot.current = None;
        }
    }

    /// Forgets a variable that has been deleted for all groups.
    pub(super) fn forget(&mut self, variable: &str) {
        self.variables.remove(variable);
    }

    /// The timers until `until_ms`, which is one of them, in order.
    pub fn timers_until(&self, until_ms: i64) -> impl Iterator<Item = i64> {
        self.timers().take_while(move |at_ms| *at_ms <= until_ms)
    }

    pub(super) fn timers(&self) -> impl Iterator<Item = i64> {
        self.entries(TIMERS).filter_map(|(place, _)| match place {
            Place::At(at_ms) => Some(*at_ms),
            Place::Whole | Place::Key(_) => None,
        })
    }

    /// The entries that are others than what is stored: what they hold now, or `None` if they are gone.
    pub fn changes(&self) -> impl Iterator<Item = (&str, &Place, Option<&Content>)> {
        self.variables.iter().flat_map(|(variable, slots)| {
            let changed = slots.iter().filter(|(_, slot)| slot.current != slot.stored);
            changed.map(move |(place, slot)| (variable.as_ref(), place, slot.current.as_ref()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(value: &str, expires_ms: Option<i64>) -> Content {
        Content { value: Some(Arc::from(value)), expires_ms }
    }

    fn written(place: i64, batch: i64, content: Option<Content>) -> Written {
        Written { variable: Arc::from("l"), place: Place::At(place), batch, content }
    }

    fn changes(state: &GroupState) -> Vec<(i64, Option<&str>)> {
        state
            .changes()
            .map(|(_, place, content)| {
                let at = if let Place::At(at) = place { *at } else { -1 };
                (at, content.and_then(|content| content.value.as_deref()))
            })
            .collect()
    }

    #[test]
    fn the_latest_batch_counts_and_only_differences_are_changes() {
        let mut state = GroupState::default();
        state.load(written(0, 5, Some(content("new", None))), 0);
        state.load(written(0, 3, Some(content("old", None))), 0);
        state.load(written(1, 5, None), 0);
        state.load(written(1, 2, Some(content("gone", None))), 0);
        assert_eq!(state.entries("l").count(), 1);
        state.set("l", Place::At(0), content("new", None));
        state.remove("l", &Place::At(1));
        assert_eq!(changes(&state), []);
        state.set("l", Place::At(1), content("back", None));
        state.remove("l", &Place::At(0));
        assert_eq!(changes(&state), [(0, None), (1, Some("back"))]);
        state.forget("l");
        assert_eq!(changes(&state), []);
    }

    #[test]
    fn what_has_expired_is_not_there() {
        let mut state = GroupState::default();
        state.load(written(0, 1, Some(content("a", Some(100)))), 100);
        state.load(written(1, 1, Some(content("b", Some(101)))), 100);
        assert_eq!(state.entries("l").map(|(place, _)| place.clone()).collect::<Vec<_>>(), [Place::At(1)]);
        assert_eq!(changes(&state), [(0, None)]);
    }
}
