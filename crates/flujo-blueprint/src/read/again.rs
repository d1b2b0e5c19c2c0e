//! Loops, refinements, agentic loops and questions.

use std::sync::Arc;

use super::policy::{count, seconds, word};
use super::step::StepReader;
use super::validator::schema;
use crate::model::{AgenticStep, Condition, HumanStep, LoopStep, RefineStep};
use crate::node::Node;
use crate::problem::Reporter;
use crate::rule::Rule;
use crate::template::{self, DataTemplate};

/// What templates of a loop may name besides.
const LOOP_NAMES: [&str; 3] = ["output", "iteration", "loop_input"];

impl StepReader<'_> {
    pub(super) fn repeat(&mut self, node: &Node, reporter: &mut Reporter) -> Option<LoopStep> {
        let settings = node.get("loop")?;
        let names = self.names();
        let mut mapper = |key: &str| match settings.get(key) {
            Some(written) => {
                DataTemplate::read(written, &LOOP_NAMES, &names, reporter).map(|read| Some(Arc::new(read)))
            }
            None => Some(None),
        };
        let (first_input, next_input, output) =
            (mapper("first_input"), mapper("next_input"), mapper("output"));
        let exit = match (settings.get("exit_expression"), settings.get("exit_condition")) {
            (Some(expression), None) => template::expression(expression, &LOOP_NAMES, &names, reporter)
                .map(|expression| Condition::Expression(Arc::new(expression))),
            (None, Some(function)) => {
                let path = self.function(function, "exit_condition", reporter);
                path.map(|path| Condition::Function {
                    path,
                    place: (Arc::clone(reporter.source()), function.position),
                })
            }
            (Some(_), Some(function)) => {
                reporter.report_with_hint(
                    Rule::KeyConflict,
                    function.position,
                    "the loop has both `exit_condition` and `exit_expression`",
                    "keep one of them",
                );
                None
            }
            (None, None) => {
                reporter.report_with_hint(
                    Rule::MissingKey,
                    settings.position,
                    "the loop has no `exit_expression`",
                    "add one that says when the loop has done",
                );
                None
            }
        };
        let body = settings.get("body").map(|body| self.sequence(body, reporter));
        Some(LoopStep {
            body: body?,
            exit: exit?,
            max_loops: count(settings, "max_loops").unwrap_or(5),
            first_input: first_input?,
            next_input: next_input?,
            output: output?,
            goes_on: word(settings, "on_body_failure").as_deref() == Some("continue"),
        })
    }

    pub(super) fn refine(&mut self, node: &Node, reporter: &mut Reporter) -> Option<RefineStep> {
        let generator = node.get("generator").map(|body| self.sequence(body, reporter));
        let critic = node.get("critic").map(|body| self.sequence(body, reporter));
        Some(RefineStep {
            generator: generator?,
            critic: critic?,
            max_refinements: count(node, "max_refinements").unwrap_or(5),
        })
    }

    pub(super) fn agentic(&mut self, node: &Node, reporter: &mut Reporter) -> Option<AgenticStep> {
        let planner = node.get("planner").map(|body| self.sequence(body, reporter));
        let registry = self.named("registry", node, reporter);
        Some(AgenticStep {
            planner: planner?,
            registry: registry?,
            max_loops: count(node, "max_loops").unwrap_or(10),
        })
    }

    pub(super) fn human(&mut self, node: &Node, reporter: &mut Reporter) -> Option<HumanStep> {
        let names = self.names();
        let message = match node
            .get("message")
            .and_then(|message| Some((message, message.as_str()?)))
        {
            Some((message, text)) => {
                let read = template::template(message, text, &[], &names, reporter);
                read.map(|read| Some(Arc::new(read)))
            }
            None => Some(None),
        };
        let default = match node.get("default") {
            Some(written) => {
                DataTemplate::read(written, &[], &names, reporter).map(|read| Some(Arc::new(read)))
            }
            None => Some(None),
        };
        let schema = match node.get("input_schema") {
            Some(written) => {
                let validator = schema(written, reporter);
                validator.map(|validator| Some((written.to_value(), Arc::new(validator))))
            }
            None => Some(None),
        };
        Some(HumanStep {
            message: message?,
            schema: schema?,
            timeout: seconds(node, "timeout_s"),
            default: default?,
        })
    }
}
