//! Dependencies: each exists, and they lead nowhere back.

use std::collections::BTreeMap;

use super::super::diagnostics::{Problem, join, nearest};
use super::super::spec::FabricSpec;
use super::super::text::shown;

/// So many loops are told of; whoever has more breaks these first.
const TOLD: usize = 20;

pub(super) fn check(spec: &FabricSpec, found: &mut Vec<Problem>) {
    let mut edges: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, service) in &spec.services {
        let place = join(&join("services", name), "depends_on");
        let mut known: Vec<&str> = Vec::new();
        for (number, wanted) in service.depends_on.iter().enumerate() {
            let place = join(&place, &number.to_string());
            let wrong = |message| Problem::new("config::depends-on", place, message);
            if wanted == name {
                found
                    .push(wrong(format!("service `{}` depends on itself", shown(name))).help("leave it out"));
            } else if known.contains(&wanted.as_str()) {
                found.push(wrong(format!("service `{}` depends on `{}` twice", shown(name), shown(wanted))));
            } else if !spec.services.contains_key(wanted) {
                let near = nearest(wanted, spec.services.keys().map(String::as_str));
                found.push(
                    wrong(format!(
                        "service `{}` depends on `{}`, which is not there",
                        shown(name),
                        shown(wanted)
                    ))
                    .maybe_help(near.map(|near| format!("did you mean `{near}`?")))
                    .because(join("services", wanted)),
                );
            } else {
                known.push(wanted);
            }
        }
        edges.insert(name, known);
    }
    for path in loops(&edges) {
        let chain = path.iter().chain(path.first()).map(|name| format!("`{}`", shown(name)));
        let message = format!("a dependency loop: {}", chain.collect::<Vec<_>>().join(" → "));
        let place = |name: &str| join(&join("services", name), "depends_on");
        let Some((first, rest)) = path.split_first() else { continue };
        let mut problem = Problem::new("config::dependency-loop", place(first), message)
            .help("each waits until the next is ready, so none would ever start: leave one of them out");
        for name in rest {
            problem = problem.also(place(name), "and this");
        }
        found.push(problem);
    }
}

/// The loops a depth-first walk meets, each from its first name on. With an explicit stack: the depth is the file's.
fn loops<'a>(edges: &BTreeMap<&'a str, Vec<&'a str>>) -> Vec<Vec<&'a str>> {
    let mut done: BTreeMap<&str, bool> = BTreeMap::new();
    let mut loops = Vec::new();
    for start in edges.keys() {
        if done.contains_key(start) || loops.len() >= TOLD {
            continue;
        }
        done.insert(start, false);
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((name, next)) = path.last_mut() {
            let Some(target) = edges.get(name).and_then(|targets| targets.get(*next)) else {
                done.insert(name, true);
                path.pop();
                continue;
            };
            *next += 1;
            match done.get(target) {
                // On the path: a loop.
                Some(false) if loops.len() < TOLD => {
                    let from = path.iter().position(|(name, _)| name == target).unwrap_or(0);
                    let mut names: Vec<&str> = path.iter().skip(from).map(|(name, _)| *name).collect();
                    let least =
                        names.iter().enumerate().min_by_key(|(_, name)| **name).map_or(0, |(at, _)| at);
                    names.rotate_left(least);
                    loops.push(names);
                }
                Some(_) => {}
                None => {
                    done.insert(target, false);
                    path.push((target, 0));
                }
            }
        }
    }
    loops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_are_found_and_named() {
        let edges = BTreeMap::from([
            ("a", vec!["b"]),
            ("b", vec!["c", "d"]),
            ("c", vec!["a"]),
            ("d", vec![]),
            ("x", vec!["a", "y"]),
            ("y", vec!["x"]),
        ]);
        assert_eq!(loops(&edges), [vec!["a", "b", "c"], vec!["x", "y"]]);
    }

    #[test]
    fn a_diamond_is_no_loop() {
        let edges =
            BTreeMap::from([("a", vec!["b", "c"]), ("b", vec!["d"]), ("c", vec!["d"]), ("d", vec![])]);
        assert!(loops(&edges).is_empty());
    }
}
