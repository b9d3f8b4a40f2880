//! Calls of value, list and map variables.

use prost::Message as _;

use super::entries::{Content, Place};
use super::handle::{Handle, Open, RowType, absent, done, unknown};
use super::message::{
    Answer, Cursor, ListCall, Many, MapCall, OK, OfList, OfMap, OfValue, OfVariable, Pair, PairsAnswer, ValueCall,
    ValuesAnswer, VariableCall,
};
use super::variables::VariableKind;
use crate::error::{Error, Result};

impl Handle<'_> {
    pub(super) fn of_variable(&mut self, call: VariableCall) -> Result<Vec<u8>> {
        match call.method.ok_or_else(unknown)? {
            OfVariable::Value(call) => self.of_value(call),
            OfVariable::List(call) => self.of_list(call),
            OfVariable::Map(call) => self.of_map(call),
        }
    }

    fn of_value(&mut self, call: ValueCall) -> Result<Vec<u8>> {
        let (name, variable) = (&call.name, self.variable(&call.name, VariableKind::Value)?);
        match call.method.ok_or_else(unknown)? {
            OfValue::Exists(_) => self.exists(name),
            OfValue::Get(_) => self.row(name, &Place::Whole, &variable.value),
            OfValue::Update(row) => {
                let content = self.content(&variable, variable.value.store(&row.value, name)?);
                self.state()?.set(name, Place::Whole, content);
                Ok(done())
            }
            OfValue::Clear(_) => self.clear(name),
        }
    }

    fn of_list(&mut self, call: ListCall) -> Result<Vec<u8>> {
        let (name, variable) = (&call.name, self.variable(&call.name, VariableKind::List)?);
        match call.method.ok_or_else(unknown)? {
            OfList::Exists(_) => self.exists(name),
            OfList::Get(cursor) => self.rows(&cursor, name, &variable),
            OfList::Put(rows) => {
                let rows = self.stored_rows(rows, &variable, name)?;
                self.state()?.clear(name);
                self.append(name, rows)
            }
            OfList::AppendValue(row) => {
                let content = self.content(&variable, variable.value.store(&row.value, name)?);
                self.append(name, vec![content])
            }
            OfList::AppendList(rows) => {
                let rows = self.stored_rows(rows, &variable, name)?;
                self.append(name, rows)
            }
            OfList::Clear(_) => self.clear(name),
        }
    }

    fn of_map(&mut self, call: MapCall) -> Result<Vec<u8>> {
        let (name, variable) = (&call.name, self.variable(&call.name, VariableKind::Map)?);
        let key_type = variable.key.as_ref().ok_or_else(unknown)?;
        let place = |key: &[u8]| Ok::<_, Error>(Place::Key(key_type.store(key, name)?));
        match call.method.ok_or_else(unknown)? {
            OfMap::Exists(_) => self.exists(name),
            OfMap::Get(key) => self.row(name, &place(&key.value)?, &variable.value),
            OfMap::Contains(key) => {
                let place = place(&key.value)?;
                Ok(if self.state()?.get(name, &place).is_some() { done() } else { absent() })
            }
            OfMap::Update(Pair { key, value }) => {
                let content = self.content(&variable, variable.value.store(&value, name)?);
                self.state()?.set(name, place(&key)?, content);
                Ok(done())
            }
            OfMap::Entries(cursor) => {
                let Some((entries, more)) = self.fetch(&cursor, name)? else { return Ok(absent()) };
                let pair = |(place, content): &(Place, Content)| {
                    Ok(Pair { key: of_key(place, key_type)?, value: of_content(content, &variable.value)? })
                };
                let pairs = entries.iter().map(pair).collect::<Result<_>>()?;
                Ok(PairsAnswer { pairs, more }.encode_to_vec())
            }
            OfMap::Keys(cursor) => {
                let Some((entries, more)) = self.fetch(&cursor, name)? else { return Ok(absent()) };
                let values = entries.iter().map(|(place, _)| of_key(place, key_type)).collect::<Result<_>>()?;
                Ok(ValuesAnswer { values, more }.encode_to_vec())
            }
            OfMap::Values(cursor) => self.rows(&cursor, name, &variable),
            OfMap::Remove(key) => {
                let place = place(&key.value)?;
                self.state()?.remove(name, &place);
                Ok(done())
            }
            OfMap::Clear(_) => self.clear(name),
        }
    }

    fn exists(&mut self, name: &str) -> Result<Vec<u8>> {
        Ok(if self.state()?.entries(name).next().is_some() { done() } else { absent() })
    }

    fn clear(&mut self, name: &str) -> Result<Vec<u8>> {
        self.state()?.clear(name);
        Ok(done())
    }

    /// The row at a place; without one, the answer is empty.
    fn row(&mut self, name: &str, place: &Place, row: &RowType) -> Result<Vec<u8>> {
        let value = match self.state()?.get(name, place) {
            Some(content) => of_content(content, row)?,
            None => Vec::new(),
        };
        Ok(Answer { status: OK, value, ..Answer::default() }.encode_to_vec())
    }

    fn rows(&mut self, cursor: &Cursor, name: &str, variable: &Open) -> Result<Vec<u8>> {
        let Some((entries, more)) = self.fetch(cursor, name)? else { return Ok(absent()) };
        let values = entries.iter().map(|(_, content)| of_content(content, &variable.value));
        Ok(ValuesAnswer { values: values.collect::<Result<_>>()?, more }.encode_to_vec())
    }

    fn stored_rows(&self, rows: Many, variable: &Open, name: &str) -> Result<Vec<Content>> {
        if rows.follow_as_arrow {
            return Err(unknown());
        }
        if rows.values.is_empty() {
            return Err(Error::user(format!("the list state `{name}` is given no rows"))
                .with_condition("ILLEGAL_STATE_STORE_VALUE.EMPTY_LIST_VALUE")
                .with_help("Call `clear` to empty it."));
        }
        let row = |row: &Vec<u8>| Ok(self.content(variable, variable.value.store(row, name)?));
        rows.values.iter().map(row).collect()
    }

    fn append(&mut self, name: &str, rows: Vec<Content>) -> Result<Vec<u8>> {
        let state = self.state()?;
        let last = state.entries(name).next_back().map(|(place, _)| place.clone());
        let first = if let Some(Place::At(last)) = last { last + 1 } else { 0 };
        for (place, row) in (first..).zip(rows) {
            state.set(name, Place::At(place), row);
        }
        Ok(done())
    }
}

fn of_content(content: &Content, row: &RowType) -> Result<Vec<u8>> {
    row.pickle(content.value.as_deref().unwrap_or_default())
}

fn of_key(place: &Place, row: &RowType) -> Result<Vec<u8>> {
    match place {
        Place::Key(key) => row.pickle(key),
        Place::Whole | Place::At(_) => Err(Error::internal("an entry of a map without a key")),
    }
}
