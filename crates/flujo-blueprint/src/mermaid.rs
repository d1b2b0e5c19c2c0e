//! A blueprint as a Mermaid flowchart.

use std::fmt::Write;

use crate::model::{Blueprint, DefaultBranch, Step, StepKind};

impl Blueprint {
    /// The pipeline as a Mermaid flowchart: steps as boxes, conditions as rhombs, maps and parallel steps as subgraphs.
    pub fn to_mermaid(&self) -> String {
        let mut chart = Chart {
            text: String::from("flowchart TD\n"),
            nodes: 0,
            indent: 1,
        };
        chart.sequence(&self.steps);
        chart.text
    }
}

struct Chart {
    text: String,
    nodes: usize,
    indent: usize,
}

/// Where a part of the chart begins and ends; `None` for a part without nodes.
type Ends = Option<(String, String)>;

impl Chart {
    fn line(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{}{text}", "    ".repeat(self.indent));
    }

    fn id(&mut self) -> String {
        self.nodes += 1;
        format!("n{}", self.nodes)
    }

    fn node(&mut self, open: &str, label: &str, close: &str) -> String {
        let id = self.id();
        self.line(&format!("{id}{open}\"{}\"{close}", escape(label)));
        id
    }

    fn sequence(&mut self, steps: &[Step]) -> Ends {
        let mut ends: Ends = None;
        for step in steps {
            let (first, last) = self.step(step);
            ends = Some(match ends {
                Some((begin, end)) => {
                    self.line(&format!("{end} --> {first}"));
                    (begin, last)
                }
                None => (first, last),
            });
        }
        ends
    }

    fn step(&mut self, step: &Step) -> (String, String) {
        match &step.kind {
            StepKind::Agent(agent) => {
                let mut label = step.name.to_string();
                let what = agent.agent_name.as_deref().unwrap_or(agent.agent.label());
                if what != label {
                    let _ = write!(label, " ({what})");
                }
                let id = self.node("[", &label, "]");
                let Some(fallback) = &agent.fallback else {
                    return (id.clone(), id);
                };
                let (first, last) = self.step(fallback);
                self.line(&format!("{id} -. fallback .-> {first}"));
                let end = self.node("([", &format!("{} done", step.name), "])");
                self.line(&format!("{id} --> {end}"));
                self.line(&format!("{last} --> {end}"));
                (id, end)
            }
            StepKind::Parallel(parallel) => {
                let branches: Vec<(&str, &[Step])> = parallel
                    .branches
                    .iter()
                    .map(|branch| (&*branch.name, &branch.steps[..]))
                    .collect();
                let first = self.node("{{", &step.name, "}}");
                self.fan(first, &step.name, &branches)
            }
            StepKind::Conditional(conditional) => {
                let mut branches: Vec<(&str, &[Step])> = conditional
                    .branches
                    .iter()
                    .map(|branch| (&*branch.name, &branch.steps[..]))
                    .collect();
                if let Some(DefaultBranch::Own(steps)) = &conditional.default {
                    branches.push(("otherwise", steps));
                }
                let first = self.node("{", &step.name, "}");
                self.fan(first, &step.name, &branches)
            }
            StepKind::Map(map) => self.subgraph(&format!("{}: each item", step.name), &map.body),
            StepKind::Pipeline(steps) => self.subgraph(&step.name, steps),
        }
    }

    fn fan(&mut self, first: String, name: &str, branches: &[(&str, &[Step])]) -> (String, String) {
        let mut ends = Vec::new();
        for (branch, steps) in branches {
            if let Some((begin, end)) = self.sequence(steps) {
                self.line(&format!("{first} -- \"{}\" --> {begin}", escape(branch)));
                ends.push(end);
            }
        }
        let join = self.node("([", &format!("{name} done"), "])");
        for end in ends {
            self.line(&format!("{end} --> {join}"));
        }
        (first, join)
    }

    fn subgraph(&mut self, title: &str, steps: &[Step]) -> (String, String) {
        let id = self.id();
        self.line(&format!("subgraph {id}[\"{}\"]", escape(title)));
        self.indent += 1;
        self.sequence(steps);
        self.indent -= 1;
        self.line("end");
        (id.clone(), id)
    }
}

/// A label without what Mermaid would read as its own.
fn escape(label: &str) -> String {
    label
        .replace('&', "&amp;")
        .replace('"', "#quot;")
        .replace('<', "&lt;")
        .replace('\n', " ")
}
