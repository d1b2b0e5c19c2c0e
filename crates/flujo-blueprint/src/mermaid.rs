//! A blueprint as a Mermaid flowchart.

use std::fmt::Write;

use crate::model::{Blueprint, Body, Condition, DefaultBranch, StatesStep, Step, StepKind};

impl Blueprint {
    /// The pipeline as a Mermaid flowchart: steps as boxes, conditions as rhombs, maps and parallel steps as subgraphs.
    pub fn to_mermaid(&self) -> String {
        let mut chart = Chart {
            text: String::from("flowchart TD\n"),
            nodes: 0,
            indent: 1,
        };
        chart.body(&self.body);
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

    fn body(&mut self, body: &Body) {
        let steps = self.sequence(&body.steps);
        if let (Some((_, last)), Some(handler)) = (steps, &body.on_failure) {
            let (begin, _) = self.step(handler);
            self.line(&format!("{last} -. on failure .-> {begin}"));
        }
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
        let (first, last) = self.work(step);
        let ways_out = [
            ("fallback", &step.life.fallback),
            ("on failure", &step.on_failure),
        ];
        let ways_out: Vec<_> = ways_out
            .into_iter()
            .filter_map(|(label, way)| Some((label, way.as_deref()?)))
            .collect();
        if ways_out.is_empty() {
            return (first, last);
        }
        let ends: Vec<String> = ways_out
            .into_iter()
            .map(|(label, way)| {
                let (begin, end) = self.step(way);
                self.line(&format!("{last} -. {label} .-> {begin}"));
                end
            })
            .collect();
        let done = self.node("([", &format!("{} done", step.name), "])");
        for end in std::iter::once(last).chain(ends) {
            self.line(&format!("{end} --> {done}"));
        }
        (first, done)
    }

    /// A step without its ways out.
    fn work(&mut self, step: &Step) -> (String, String) {
        match &step.kind {
            StepKind::Agent(agent) => {
                let mut label = step.name.to_string();
                let what = agent.agent_name.as_deref().unwrap_or(agent.agent.label());
                if what != label {
                    let _ = write!(label, " ({what})");
                }
                let id = self.node("[", &label, "]");
                (id.clone(), id)
            }
            StepKind::Gather(entries) => {
                let label = format!("{}: {}", step.name, entries.join(", "));
                let id = self.node("[", &label, "]");
                (id.clone(), id)
            }
            StepKind::Human(_) => {
                let id = self.node("[/", &step.name, "/]");
                (id.clone(), id)
            }
            StepKind::Parallel(parallel) => {
                let branches: Vec<(&str, &[Step])> = parallel
                    .branches
                    .iter()
                    .map(|branch| (&*branch.name, &branch.steps[..]))
                    .collect();
                let router = parallel
                    .router
                    .as_deref()
                    .and_then(|router| self.sequence(router));
                let fan = self.node("{{", &step.name, "}}");
                let (first, last) = self.fan(fan, &step.name, &branches);
                match router {
                    Some((begin, end)) => {
                        self.line(&format!("{end} --> {first}"));
                        (begin, last)
                    }
                    None => (first, last),
                }
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
            StepKind::Loop(repeat) => {
                let exit = match &repeat.exit {
                    Condition::Expression(expression) => expression.source(),
                    Condition::Function { path, .. } => path,
                };
                let title = format!("{}: until {exit}", step.name);
                self.subgraph(&title, &repeat.body)
            }
            StepKind::Refine(refine) => {
                let id = self.open(&format!("{}: until the critic is content", step.name));
                let generator = self.sequence(&refine.generator);
                let critic = self.sequence(&refine.critic);
                if let (Some((begin, made)), Some((judge, end))) = (generator, critic) {
                    self.line(&format!("{made} --> {judge}"));
                    self.line(&format!("{end} -. feedback .-> {begin}"));
                }
                self.close();
                (id.clone(), id)
            }
            StepKind::Agentic(agentic) => {
                let id = self.open(&format!("{}: until the planner has finished", step.name));
                let agents: Vec<(&str, &[Step])> = agentic
                    .registry
                    .iter()
                    .map(|agent| (&*agent.name, &agent.steps[..]))
                    .collect();
                if let Some((begin, planned)) = self.sequence(&agentic.planner) {
                    let (_, done) = self.fan(planned, &step.name, &agents);
                    self.line(&format!("{done} -. result .-> {begin}"));
                }
                self.close();
                (id.clone(), id)
            }
            StepKind::States(states) => self.states(&step.name, states),
            StepKind::Pipeline(pipeline) => {
                let id = self.open(&step.name);
                self.body(&pipeline.body);
                self.close();
                (id.clone(), id)
            }
        }
    }

    fn states(&mut self, name: &str, states: &StatesStep) -> (String, String) {
        let id = self.open(name);
        let ends: Vec<(&str, (String, String))> = states
            .states
            .iter()
            .map(|state| {
                let steps = state.steps.as_deref().unwrap_or_default();
                let ends = match steps {
                    [] => {
                        let end = self.node("([", &state.name, "])");
                        (end.clone(), end)
                    }
                    steps => self.subgraph(&state.name, steps),
                };
                (&*state.name, ends)
            })
            .collect();
        for rule in &states.transitions {
            let label = if rule.after_failure { "failure" } else { "success" };
            let to = ends.iter().find(|(name, _)| *name == &*rule.to);
            let from = |name: &str| rule.from.as_deref().is_none_or(|from| from == name);
            for (name, (_, last)) in ends.iter().filter(|(name, _)| from(name)) {
                if let Some((_, (first, _))) = to.filter(|(to, _)| to != name || rule.from.is_some()) {
                    self.line(&format!("{last} -- {label} --> {first}"));
                }
            }
        }
        self.close();
        (id.clone(), id)
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
        let id = self.open(title);
        self.sequence(steps);
        self.close();
        (id.clone(), id)
    }

    fn open(&mut self, title: &str) -> String {
        let id = self.id();
        self.line(&format!("subgraph {id}[\"{}\"]", escape(title)));
        self.indent += 1;
        id
    }

    fn close(&mut self) {
        self.indent -= 1;
        self.line("end");
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
