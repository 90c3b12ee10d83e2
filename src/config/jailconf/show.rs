//! The stable form of resolved parameters, for programs: `{"name": NAME, "parameters": {PARAMETER: [VALUE, …]}}`.
//!
//! Every value is a string after substitution; a boolean is `["true"]` or `["false"]` under its positive name.

use std::collections::BTreeMap;

use serde::Serialize;

use super::names::{positive, same_param, truth};
use super::resolve::{Jail, Param};
use crate::config::params::Kind;

/// One jail or instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub parameters: BTreeMap<String, Vec<String>>,
}

impl Jail {
    /// The stable form.
    #[must_use]
    pub fn shown(&self) -> Shown {
        Shown { name: self.name.clone(), parameters: self.params.iter().map(Param::shown).collect() }
    }

    /// A parameter by its positive name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|param| *param.name == *name).or_else(|| {
            self.params.iter().find(|param| same_param(&param.name, name) && positive(&param.name).0 == name)
        })
    }

    /// The last value of a parameter: what jail(8) takes for one that is no list.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.values.last().map(|value| &*value.text)
    }

    /// All values of a parameter that are not empty, as jail(8) skips those.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self.get(name).map_or(&[][..], |param| &param.values);
        values.iter().map(|value| &*value.text).filter(|text| !text.is_empty())
    }

    /// Whether a boolean is there and true.
    #[must_use]
    pub fn bool(&self, name: &str) -> bool {
        self.get(name).is_some_and(|param| param.truth())
    }
}

impl Param {
    /// Its truth, if it is a boolean.
    #[must_use]
    pub fn truth(&self) -> bool {
        truth(&self.name, self.values.last().map(|value| &*value.text))
    }

    /// Whether it says true or false under its positive name. Of a name nobody knows only the kernel can tell.
    pub(super) fn is_bool(&self) -> bool {
        match self.kind {
            Some(Kind::Bool) => true,
            // `vnet` and its like take a word; without one they are switched on or off by their name.
            Some(Kind::Vnet | Kind::Words(_)) => self.values.is_empty(),
            Some(_) | None => false,
        }
    }

    fn shown(&self) -> (String, Vec<String>) {
        if !self.is_bool() {
            return (self.name.to_string(), self.values.iter().map(|value| value.text.to_string()).collect());
        }
        let name = positive(&self.name).0;
        (name, vec![self.truth().to_string()])
    }
}
