//! `toml_places`: where in a TOML text each key and each value stands, which Python's own `tomllib` does not tell.
//!
//! Knows nothing of what the keys mean: `wireway.configuration` does, and reads the values with `tomllib`.

use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// From bytes of the text to lines and columns, both from 1. A column counts characters.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(place, _)| place + 1)).collect();
        Self { text, starts }
    }

    fn place(&self, at: usize) -> (usize, usize) {
        let at = at.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts[line - 1];
        let before = self.text.get(start..at).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

struct Walk<'a, 'py> {
    lines: Lines<'a>,
    found: Bound<'py, PyDict>,
    path: Vec<Py<PyAny>>,
}

impl<'py> Walk<'_, 'py> {
    fn note(&self, key: Range<usize>, value: Range<usize>) -> PyResult<()> {
        let py = self.found.py();
        let path = PyTuple::new(py, &self.path)?;
        self.found.set_item(path, (self.lines.place(key.start), self.lines.place(value.start)))
    }

    fn table(&mut self, table: &DeTable<'_>) -> PyResult<()> {
        for (key, value) in table {
            let name = key.get_ref().as_ref().into_pyobject(self.found.py())?;
            self.path.push(name.into_any().unbind());
            self.value(key.span(), value)?;
            self.path.pop();
        }
        Ok(())
    }

    fn value(&mut self, key: Range<usize>, value: &Spanned<DeValue<'_>>) -> PyResult<()> {
        self.note(key, value.span())?;
        match value.get_ref() {
            DeValue::Table(table) => self.table(table),
            DeValue::Array(items) => {
                for (number, item) in items.iter().enumerate() {
                    let number = number.into_pyobject(self.found.py())?;
                    self.path.push(number.into_any().unbind());
                    self.value(item.span(), item)?;
                    self.path.pop();
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Where everything in `text` stands, and what is no TOML.
///
/// Returns `(places, mistakes)`. `places` has for each path (a tuple of keys, and of numbers in arrays) the line and the
/// column of its key, and those of its value. `mistakes` are `(line, column, text)`, in the order of the text; with one,
/// `places` may lack some.
#[pyfunction]
pub fn toml_places<'py>(
    py: Python<'py>,
    text: &str,
) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyList>)> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk { lines: Lines::of(text), found: PyDict::new(py), path: Vec::new() };
    walk.table(document.get_ref())?;
    let mut mistakes: Vec<(usize, usize, String)> = errors
        .iter()
        .map(|error| {
            let (line, column) = walk.lines.place(error.span().map_or(0, |span| span.start));
            (line, column, error.message().to_owned())
        })
        .collect();
    mistakes.sort();
    mistakes.dedup();
    Ok((walk.found, PyList::new(py, mistakes)?))
}
