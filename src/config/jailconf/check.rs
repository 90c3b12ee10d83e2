//! What is wrong with the parameters of jails that could be read: what jail(8) would say before its first step
//! (`config.c`, `check_intparams`; `state.c`, `dep_setup`), and what it would not do but nobody means.

use std::collections::HashMap;

use super::names::{INTEGERS, integer, is_boolean, kind, positive, same_param};
use super::parse::param_place;
use super::resolve::{Jail, Param};
use super::tree::{Assign, Block};
use crate::config::diagnostics::{Problem, nearest};
use crate::config::params::{Kind, Lookup, is_free, lookup, near};
use crate::config::text::shown;

/// The problems of one jail's values, and a remark on each parameter that only a kernel can know.
pub(super) fn params(jail: &Jail) -> (Vec<Problem>, Vec<Problem>) {
    let (mut problems, mut remarks) = (Vec::new(), Vec::new());
    for param in &jail.params {
        match param.kind {
            None => remarks.extend(module(jail, param)),
            Some(kind) => problems.extend(value(jail, param, kind)),
        }
    }
    (problems, remarks)
}

fn value(jail: &Jail, param: &Param, kind: Kind) -> Option<Problem> {
    let last = param.values.last()?;
    let (what, help) = if kind == Kind::Bool && !is_boolean(&last.text) {
        ("a boolean", "say true, false or a number; the bare name is true")
    } else if INTEGERS.contains(&&*param.name) && integer(&last.text).is_none() {
        ("a whole number", "say it in seconds, without a unit; exec.fib is a routing table's number")
    } else {
        return None;
    };
    let (name, said) = (shown(&param.name), shown(&last.text));
    let message = format!("{}: `{name}` is {what}, and `{said}` is none", shown(&jail.name));
    let problem = Problem::new("jail.conf::value", param_place(&jail.name, &param.name), message);
    let help = param.swallowed().unwrap_or_else(|| help.to_owned());
    Some(problem.help(help).at(&last.place.source, last.place.span.clone()))
}

/// A parameter that no kernel has: jail(8) looks each up before it starts the jail (`config.c`, `import_params`).
pub(super) fn unknown(jail: &Jail, param: &Param) -> Option<Problem> {
    if param.kind.is_some() {
        return None;
    }
    let (plain, negated) = positive(&param.name);
    let hint = if negated && kind(&plain).is_some() {
        Some(format!("only booleans are negated by `no`: say {plain} = …"))
    } else {
        match lookup(&param.name) {
            Lookup::Unknown(hint) => hint,
            Lookup::Known(_) | Lookup::Module => return None,
        }
    };
    let message = format!("`{}` is not a parameter of jail(8)", shown(&param.name));
    let help = hint.unwrap_or_else(|| "jail(8) lists them; it does not start a jail that has others".into());
    let problem = Problem::new("jail.conf::unknown-parameter", param_place(&jail.name, &param.name), message);
    Some(problem.help(help).at(&param.place.source, param.place.span.clone()))
}

fn module(jail: &Jail, param: &Param) -> Option<Problem> {
    if is_free(&param.name) || unknown(jail, param).is_some() {
        return None;
    }
    let message = format!("`{}` is not a parameter of jail(8)'s base system", shown(&param.name));
    let help = near(&param.name)
        .unwrap_or_else(|| "the kernel refuses the jail unless its release or a module has it".into());
    let problem = Problem::new("jail.conf::module-parameter", param_place(&jail.name, &param.name), message);
    Some(problem.help(help).at(&param.place.source, param.place.span.clone()))
}

/// The jails that `depend` names, and the parent of a child jail: by their number in the list.
pub(super) fn edges(jails: &[Jail]) -> (Vec<Vec<usize>>, Vec<(usize, Problem)>) {
    let by_name: HashMap<&str, usize> =
        jails.iter().enumerate().rev().map(|(n, j)| (j.name.as_str(), n)).collect();
    let mut all = Vec::with_capacity(jails.len());
    let mut problems = Vec::new();
    for (number, jail) in jails.iter().enumerate() {
        let mut needs = Vec::new();
        let depend = jail.params.iter().find(|param| same_param(&param.name, "depend"));
        for value in depend.iter().flat_map(|param| &param.values) {
            match by_name.get(&*value.text) {
                Some(other) => needs.push(*other),
                None => {
                    let message =
                        format!("{} depends on undefined jail `{}`", shown(&jail.name), shown(&value.text));
                    let near = nearest(&value.text, by_name.keys().copied());
                    let problem = Problem::new(
                        "jail.conf::depend",
                        param_place(&jail.name, "depend"),
                        message,
                    )
                    .help(match near {
                        Some(near) => format!("did you mean `{}`?", shown(near)),
                        None => {
                            "define it, or include the file that does: .include \"/etc/jail.conf.d/*.conf\";"
                                .into()
                        }
                    });
                    problems.push((number, problem.at(&value.place.source, value.place.span.clone())));
                }
            }
        }
        if let Some((parent, _)) = jail.name.rsplit_once('.')
            && let Some(parent) = by_name.get(parent)
        {
            needs.push(*parent);
        }
        all.push(needs);
    }
    (all, problems)
}

/// Dependencies that are not defined, and those that lead back to where they began.
pub(super) fn dependencies(jails: &[Jail]) -> Vec<(usize, Problem)> {
    let (edges, mut problems) = edges(jails);
    // What waits for nothing is taken away until nothing changes: what is left waits for itself.
    let mut waits: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); jails.len()];
    for (number, needs) in edges.iter().enumerate() {
        needs.iter().for_each(|need| needed_by[*need].push(number));
    }
    let mut free: Vec<usize> = (0..jails.len()).filter(|number| waits[*number] == 0).collect();
    while let Some(number) = free.pop() {
        for waiting in &needed_by[number] {
            waits[*waiting] -= 1;
            if waits[*waiting] == 0 {
                free.push(*waiting);
            }
        }
    }
    // Of these some only wait for a loop; a walk along the edges ends in one.
    let mut seen = vec![false; jails.len()];
    for start in (0..jails.len()).filter(|number| waits[*number] > 0) {
        let mut path = vec![start];
        while let Some(next) = edges[path[path.len() - 1]].iter().find(|next| waits[**next] > 0) {
            if seen[*next] {
                break;
            }
            if let Some(from) = path.iter().position(|one| one == next) {
                let names: Vec<String> = path[from..].iter().map(|one| shown(&jails[*one].name)).collect();
                let message = format!("jails depend on each other in a circle: {}", names.join(", "));
                let jail = &jails[*next];
                let problem = Problem::new("jail.conf::depend", param_place(&jail.name, "depend"), message)
                    .help("jail(8) starts none of them");
                problems.push((*next, problem.at(&jail.place.source, jail.place.span.clone())));
                break;
            }
            path.push(*next);
        }
        path.iter().for_each(|one| seen[*one] = true);
    }
    problems
}

/// Global parameters below a jail that has an opinion of its own: up to 13.2 and in the manual they win, in the grammar of
/// FreeBSD 15 they are part of the first global block and lose.
pub(super) fn releases(blocks: &[Block], first: usize, below: &[(usize, usize)]) -> Vec<Problem> {
    /// A file that mixes jails and globals more often than this has been told enough.
    const MOST: usize = 20;
    let disagreed = |(block, number): &(usize, usize)| {
        let own = &blocks[*block];
        let param = &own.params[*number];
        let sets = |params: &[Assign]| params.iter().any(|other| same_param(&other.name, &param.name));
        // 15 moves it up into the first global block: it is what stands between the two, wildcards too, that it wins against here
        // and loses against there. Right behind a `* { … }` it is in that block itself.
        let between = blocks.get(first + 1..*block)?.iter().find(|above| sets(&above.params));
        let same = || {
            let written = |at: &usize| !below.contains(&(*block, *at));
            let mut above = (0..*number).filter(written).map(|at| &own.params[at]);
            above.any(|other| same_param(&other.name, &param.name)).then_some(own)
        };
        let (name, jail) = (shown(&param.name), shown(&between.or_else(same)?.name));
        let message =
            format!("releases of FreeBSD differ on whether this `{name}` or that of `{jail}` counts");
        let problem = Problem::new("jail.conf::globals-below", "", message)
            .label("Warren and FreeBSD 13 take this one, FreeBSD 15 the other")
            .help("write global parameters above the jails, or in a block of their own: * { … }");
        Some(problem.at(&param.source, param.span.clone()))
    };
    below.iter().take(MOST * MOST).filter_map(disagreed).take(MOST).collect()
}
