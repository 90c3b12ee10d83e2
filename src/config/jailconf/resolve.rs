//! From blocks to each jail's parameters: wildcards merged, variables put in, as jail(8) does (`usr.sbin/jail/config.c`,
//! `load_config` and `add_param`).
//!
//! Variables are bound late and per jail: one may be used above its definition, and a jail may override it. Nothing here
//! recurses, and what a hostile file could make grow without end has a bound. What thousands of jails have in common is
//! shared by them: a file's time goes into what each has of its own (`benches/jailconf.rs`).

use std::sync::Arc;

use super::names::{is_jid, is_wild, kind, same_param, wild_match};
use super::parse::param_place;
use super::tree::{Assign, Block, Place, Str};
use crate::config::diagnostics::{Problem, nearest};
use crate::config::params::Kind;
use crate::config::text::shown;

/// Bytes (and a little for each value) that all values of one file may have once variables are put in.
const MOST: usize = 256 * 1024 * 1024;
/// The same for one jail.
const MOST_OF_ONE: usize = 4 * 1024 * 1024;
/// What a value costs beside its bytes.
const EACH: usize = 64;

/// A jail as its file declares it.
#[derive(Debug, Clone)]
pub struct Jail {
    /// The name of its block, with its parents': what jail(8) calls it.
    pub name: String,
    /// Its parameters, in the order in which they were first given. Variables are not among them.
    pub params: Vec<Param>,
    /// What keeps this jail, and no other, from being used.
    pub(super) problems: Vec<Problem>,
    /// Where its block begins.
    pub(super) place: Place,
}

/// A parameter of a jail.
#[derive(Debug, Clone)]
pub struct Param {
    /// Its name as it was written last, so perhaps with a `no`.
    pub name: Arc<str>,
    /// What is known of it.
    pub(super) kind: Option<Kind>,
    /// Its values. None at all: the bare name.
    pub values: Vec<Value>,
    /// Where it was given last.
    pub(super) place: Place,
}

/// One value.
#[derive(Debug, Clone)]
pub struct Value {
    /// The text, variables put in.
    pub text: Arc<str>,
    /// Where it was written.
    pub(super) place: Place,
}

/// Everything a file declares, jail by jail, in the order of the text.
pub(super) fn resolve(blocks: &[Block]) -> Vec<Jail> {
    let wild: Vec<(usize, &Block)> = blocks.iter().enumerate().filter(|(_, b)| is_wild(&b.name)).collect();
    let mut left = MOST;
    let fixed = [Arc::from("name"), Arc::from("jid")];
    let jails = blocks.iter().enumerate().filter(|(_, block)| !is_wild(&block.name));
    jails.map(|(at, block)| one(at, block, &wild, &fixed, &mut left)).collect()
}

fn one(at: usize, block: &Block, wild: &[(usize, &Block)], fixed: &[Arc<str>; 2], left: &mut usize) -> Jail {
    // The block's name is the jail's name or number.
    let implied = |name: &Arc<str>| Assign {
        name: Arc::clone(name),
        var: false,
        kind: kind(name),
        taken: false,
        append: false,
        values: vec![Str {
            text: block.name.as_str().into(),
            vars: Vec::new(),
            span: block.place.span.clone(),
        }],
        source: block.place.source.clone(),
        span: block.place.span.clone(),
    };
    let number = is_jid(&block.name).then(|| implied(&fixed[1]));
    let name = implied(&fixed[0]);
    let mut merge = Merge { jail: &block.name, slots: Vec::with_capacity(SLOTS), problems: Vec::new() };
    merge.add(number.as_ref().unwrap_or(&name));
    let mut own = Some(block);
    for (place, wild) in wild {
        if at < *place
            && let Some(own) = own.take()
        {
            own.params.iter().for_each(|param| merge.add(param));
        }
        if wild_match(&block.name, &wild.name) {
            wild.params.iter().for_each(|param| merge.add(param));
        }
    }
    own.iter().flat_map(|own| &own.params).for_each(|param| merge.add(param));
    if number.is_some() && !merge.slots.iter().any(|slot| !slot.var && same_param(slot.name, "name")) {
        merge.add(&name);
    }
    let mut most = MOST_OF_ONE.min(*left);
    let before = most;
    merge.substitute(&mut most);
    *left -= before - most;
    let problems = merge.problems;
    let params = merge.slots.into_iter().filter(|slot| !slot.var).map(Slot::done).collect();
    Jail { name: block.name.clone(), params, problems, place: block.place.clone() }
}

/// More than most jails have.
const SLOTS: usize = 32;

/// A parameter or variable while it is merged and resolved.
struct Slot<'a> {
    name: &'a Arc<str>,
    var: bool,
    /// Where it was given before, if later ones add to it.
    before: Vec<&'a Assign>,
    /// Where it was given last.
    last: &'a Assign,
    values: Vec<Value>,
    state: State,
}

impl<'a> Slot<'a> {
    /// The strings it was given, in order.
    fn given(&self) -> impl Iterator<Item = (&'a Str, &'a Assign)> + '_ {
        let assigns = self.before.iter().copied().chain([self.last]);
        assigns.flat_map(|assign| assign.values.iter().map(move |value| (value, assign)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// On the stack: who asks for it again asks for itself.
    Busy,
    Done,
    /// What is wrong with it has been said.
    Bad,
}

struct Merge<'a> {
    jail: &'a str,
    slots: Vec<Slot<'a>>,
    problems: Vec<Problem>,
}

impl<'a> Merge<'a> {
    fn problem(&mut self, assign: &Assign, code: &'static str, message: String) {
        let place = param_place(self.jail, &assign.name);
        let message = format!("{}: {message}", shown(self.jail));
        self.problems.push(Problem::new(code, place, message).at(&assign.source, assign.span.clone()));
    }

    fn add(&mut self, assign: &'a Assign) {
        let name = &assign.name;
        let Some(found) = self.slots.iter().position(|slot| same_param(slot.name, name)) else {
            if assign.taken {
                self.named_like_a_parameter(assign);
            }
            let (before, values, state) = (Vec::new(), Vec::new(), State::Open);
            self.slots.push(Slot { name, var: assign.var, before, last: assign, values, state });
            return;
        };
        let slot = &self.slots[found];
        if slot.var != assign.var {
            return self.named_like_a_parameter(assign);
        }
        if !slot.var && ["name", "jid"].iter().any(|fixed| same_param(slot.name, fixed)) {
            let slot = slot.name;
            let message =
                format!("`{slot}` cannot be set again: the block's name or an earlier line gave it");
            return self.problem(assign, "jail.conf::immutable", message);
        }
        let slot = &mut self.slots[found];
        if assign.append && !assign.values.is_empty() {
            slot.before.push(slot.last);
        } else {
            slot.before.clear();
        }
        (slot.name, slot.last) = (name, assign);
    }

    fn named_like_a_parameter(&mut self, assign: &Assign) {
        let message = format!("variable `${}` has the name of a parameter", shown(&assign.name));
        self.problem(assign, "jail.conf::variable-name", message);
    }

    /// Puts the values of variables in their places.
    fn substitute(&mut self, most: &mut usize) {
        let mut stack = Vec::new();
        for start in 0..self.slots.len() {
            stack.push(start);
            while let Some(&top) = stack.last() {
                if matches!(self.slots[top].state, State::Done | State::Bad) {
                    stack.pop();
                    continue;
                }
                self.slots[top].state = State::Busy;
                match self.wanted(top) {
                    Some(var) if self.slots[var].state == State::Busy => {
                        let assign = self.slots[var].last;
                        let message = format!("`{}` leads back to itself", shown(self.slots[var].name));
                        self.problem(assign, "jail.conf::variable-loop", message);
                        // All that stand between are part of the loop; those below it ask for one of it.
                        let from = stack.iter().position(|slot| *slot == var).unwrap_or(0);
                        for slot in stack.drain(from..) {
                            self.slots[slot].state = State::Bad;
                        }
                    }
                    Some(var) => stack.push(var),
                    None => {
                        self.slots[top].state = if self.fill(top, most) { State::Done } else { State::Bad };
                        stack.pop();
                    }
                }
            }
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.slots.iter().position(|slot| **slot.name == *name)
    }

    /// A variable of the slot that has to be resolved first.
    fn wanted(&self, slot: usize) -> Option<usize> {
        let vars = self.slots[slot].given().flat_map(|(str, _)| &str.vars);
        let mut found = vars.filter_map(|var| self.find(&var.name));
        found.find(|found| matches!(self.slots[*found].state, State::Open | State::Busy))
    }

    /// Makes the values of a slot whose variables are all resolved; false if that cannot be done.
    fn fill(&mut self, slot: usize, most: &mut usize) -> bool {
        let given: Vec<(&Str, &Assign)> = self.slots[slot].given().collect();
        let mut good = true;
        let mut values = Vec::with_capacity(given.len());
        let mut text = String::new();
        for (str, assign) in given {
            let value = |text: Arc<str>| Value {
                text,
                place: Place { source: assign.source.clone(), span: str.span.clone() },
            };
            if str.vars.is_empty() {
                values.push(value(Arc::clone(&str.text)));
                continue;
            }
            // A list takes the place of a string that is nothing but the variable.
            text.clear();
            let mut done = 0;
            let mut spliced = Vec::new();
            for (number, var) in str.vars.iter().enumerate() {
                text.push_str(&str.text[done..var.at]);
                done = var.at;
                let source = self.find(&var.name).filter(|found| !self.empty(*found));
                let Some(source) = source else {
                    good = false;
                    self.unknown(assign, var);
                    continue;
                };
                if self.slots[source].state == State::Bad {
                    good = false;
                    continue;
                }
                let list = &self.slots[source].values;
                // jail(8) looks at what the string has become so far, and whether another variable follows.
                let alone = text.is_empty() && str.text[done..].is_empty() && number + 1 == str.vars.len();
                if list.len() > 1 && !alone {
                    good = false;
                    let name = shown(&var.name);
                    let message = format!("`{name}` is a list and stands inside a longer string");
                    let place = param_place(self.jail, &assign.name);
                    let problem = Problem::new("jail.conf::list-inline", place, message)
                        .help(format!(
                            "a list can only be a value of its own: {} = ${{{name}}};",
                            shown(&assign.name)
                        ))
                        .at(&assign.source, var.span.clone());
                    self.problems.push(problem);
                    continue;
                }
                let cost: usize = list.iter().map(|value| value.text.len() + EACH).sum();
                if cost > *most {
                    *most = 0;
                    let message = "its values are too long once variables are put in".to_owned();
                    self.problem(assign, "jail.conf::too-long", message);
                    return false;
                }
                *most -= cost;
                text.push_str(&list[0].text);
                spliced.extend(list[1..].iter().map(|one| value(Arc::clone(&one.text))));
            }
            text.push_str(&str.text[done..]);
            values.push(value(text.as_str().into()));
            values.extend(spliced);
        }
        self.slots[slot].values = values;
        good
    }

    fn empty(&self, slot: usize) -> bool {
        let slot = &self.slots[slot];
        slot.values.is_empty() && slot.state != State::Bad
    }

    fn unknown(&mut self, assign: &Assign, var: &super::tree::Var) {
        let name = shown(&var.name);
        let bare = self.find(&var.name).is_some();
        let message = match bare {
            true => format!("{}: `{name}` has no value that could be put in", shown(self.jail)),
            false => format!("{}: variable `{name}` is not defined", shown(self.jail)),
        };
        let names = self.slots.iter().map(|slot| &**slot.name).filter(|_| !bare);
        let help = match nearest(&var.name, names) {
            Some(near) => format!("did you mean `${{{}}}`?", shown(near)),
            None => {
                "define it above or below: $name = \"value\"; or write '…' if $ stands for itself".to_owned()
            }
        };
        let problem = Problem::new("jail.conf::variable", param_place(self.jail, &assign.name), message);
        self.problems.push(problem.help(help).at(&assign.source, var.span.clone()));
    }
}

impl Slot<'_> {
    fn done(self) -> Param {
        let place = Place { source: self.last.source.clone(), span: self.last.span.clone() };
        Param { name: Arc::clone(self.name), kind: self.last.kind, values: self.values, place }
    }
}
