//! Names, so that a leak can be told from a right write.

use crate::Spec;
use crate::case::StepSpec;
use crate::script::Script;

/// Names every part after its place in the whole, and writes after the calls that make them. Callables that take lanes
/// together, or only decide, write nothing.
pub(super) fn everything(root: &mut Spec) {
    let mut count = 0;
    root.visit_mut(&mut |spec| {
        count += 1;
        name(spec, count);
    });
}

fn name(spec: &mut Spec, count: u32) {
    match spec {
        Spec::Sequence(_) => {}
        Spec::Step(step) => {
            step.name = format!("step{count}");
            name_writes_of(step);
        }
        Spec::Conditional(node) => {
            node.name = format!("choice{count}");
            name_writes(&node.name, "condition", Some(&mut node.condition));
            name_writes(&node.name, "input", &mut node.input_mapper);
            name_writes(&node.name, "output", &mut node.output_mapper);
        }
        Spec::Parallel(node) => {
            node.name = format!("parallel{count}");
            silence([node.merge.as_mut(), Some(&mut node.collect)]);
            let select = node.router.as_mut().map(|(_, select)| select);
            name_writes(&node.name, "select", select);
        }
        Spec::Map(node) => {
            node.name = format!("map{count}");
            silence([Some(&mut node.items)]);
            silence([node.merge.as_mut(), Some(&mut node.collect)]);
        }
        Spec::Group(node) => {
            node.name = format!("group{count}");
            silence([node.inherit.as_mut(), node.collect.as_mut()]);
        }
        Spec::Loop(node) => {
            node.name = format!("loop{count}");
            name_writes(&node.name, "exit", Some(&mut node.exit));
            name_writes(&node.name, "first", &mut node.first_input);
            name_writes(&node.name, "next", &mut node.next_input);
            name_writes(&node.name, "output", &mut node.output);
        }
        Spec::States(node) => {
            node.name = format!("states{count}");
            name_writes(&node.name, "transition", Some(&mut node.next));
        }
        Spec::Human(node) => {
            node.name = format!("human{count}");
            name_writes(&node.name, "question", Some(&mut node.question));
            name_writes(&node.name, "accept", &mut node.accept);
            name_writes(&node.name, "default", &mut node.default);
        }
        Spec::Guard(node) => {
            let name = format!("guard{count}");
            name_writes(&name, "describe", Some(&mut node.describe));
        }
    }
}

fn silence<const N: usize>(scripts: [Option<&mut Script>; N]) {
    for act in scripts.into_iter().flatten().flat_map(|script| &mut script.acts) {
        act.writes.clear();
    }
}

/// Each call writes a field of its own.
fn name_writes<'s>(name: &str, role: &str, scripts: impl IntoIterator<Item = &'s mut Script>) {
    for (at, script) in scripts.into_iter().enumerate() {
        for (field, _) in script.acts.iter_mut().flat_map(|act| &mut act.writes) {
            *field = format!("w:{name}.{role}{at}#");
        }
    }
}

fn name_writes_of(step: &mut StepSpec) {
    let name = step.name.as_str();
    name_writes(name, "agent", Some(&mut step.agent));
    name_writes(name, "prompt", &mut step.prompt);
    name_writes(name, "output", &mut step.output);
    name_writes(name, "plugin", &mut step.plugins);
    name_writes(name, "validator", &mut step.validators);
    name_writes(name, "apply", &mut step.apply);
    name_writes(name, "persist", &mut step.persist);
}
