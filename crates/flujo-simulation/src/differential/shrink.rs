//! Smaller cases that may still show a disagreement.

use crate::case::{Case, Spec, StepSpec};
use crate::script::Script;

/// Cases that lack one thing the given one has.
pub fn smaller(case: &Case) -> Vec<Case> {
    let mut cases: Vec<Case> = specs(&case.pipeline)
        .into_iter()
        .map(|pipeline| Case {
            pipeline,
            ..case.clone()
        })
        .collect();
    let mut simpler = |change: &dyn Fn(&mut Case)| {
        let mut other = case.clone();
        change(&mut other);
        cases.push(other);
    };
    if case.hooks {
        simpler(&|case| case.hooks = false);
    }
    if case.deadline.is_some() {
        simpler(&|case| case.deadline = None);
    }
    if case.schedule.cancel_at.is_some() {
        simpler(&|case| case.schedule.cancel_at = None);
    }
    if !case.rates.is_empty() {
        simpler(&|case| case.rates.clear());
    }
    if !case.agent_rates.is_empty() {
        simpler(&|case| case.agent_rates.clear());
    }
    if !case.limits.is_unlimited() {
        simpler(&|case| case.limits = flujo_core::usage::UsageLimits::default());
    }
    cases
}

/// Every pipeline that lacks one part, or one thing of a part.
fn specs(spec: &Spec) -> Vec<Spec> {
    match spec {
        Spec::Sequence(parts) => {
            let shorter = (0..parts.len())
                .filter(|_| parts.len() > 1)
                .map(|place| without(parts, place));
            let inside = parts
                .iter()
                .enumerate()
                .flat_map(|(place, part)| specs(part).into_iter().map(move |part| with(parts, place, part)));
            shorter.chain(inside).map(Spec::Sequence).collect()
        }
        Spec::Step(step) => steps(step)
            .into_iter()
            .map(|step| Spec::Step(Box::new(step)))
            .chain(step.fallback.as_deref().cloned())
            .collect(),
        Spec::Conditional(node) => {
            let bodies = node.branches.iter().map(|(_, body)| body.clone());
            let inside = branches(&node.branches).into_iter().map(|branches| {
                let mut node = node.clone();
                node.branches = branches;
                Spec::Conditional(node)
            });
            bodies.chain(node.default.clone()).chain(inside).collect()
        }
        Spec::Parallel(node) => {
            let bodies = node.branches.iter().map(|(_, body)| body.clone());
            let inside = branches(&node.branches).into_iter().map(|branches| {
                let mut node = node.clone();
                node.branches = branches;
                Spec::Parallel(node)
            });
            bodies.chain(inside).collect()
        }
        Spec::Map(node) => {
            let inside = specs(&node.body).into_iter().map(|body| {
                let mut node = node.clone();
                node.body = body;
                Spec::Map(node)
            });
            [node.body.clone()].into_iter().chain(inside).collect()
        }
        Spec::Group(node) => {
            let inside = specs(&node.body).into_iter().map(|body| {
                let mut node = node.clone();
                node.body = body;
                Spec::Group(node)
            });
            [node.body.clone()].into_iter().chain(inside).collect()
        }
        Spec::Loop(node) => {
            let inside = specs(&node.body).into_iter().map(|body| {
                let mut node = node.clone();
                node.body = body;
                Spec::Loop(node)
            });
            [node.body.clone()].into_iter().chain(inside).collect()
        }
        Spec::States(node) => {
            let bodies = node.states.iter().filter_map(|(_, body)| body.clone());
            bodies.collect()
        }
        Spec::Human(_) => Vec::new(),
        Spec::Guard(node) => {
            let inside = specs(&node.body).into_iter().map(|body| {
                let mut node = node.clone();
                node.body = body;
                Spec::Guard(node)
            });
            [node.body.clone(), node.handler.clone()]
                .into_iter()
                .chain(inside)
                .collect()
        }
    }
}

fn branches(branches: &[(String, Spec)]) -> Vec<Vec<(String, Spec)>> {
    let fewer = (0..branches.len())
        .filter(|_| branches.len() > 1)
        .map(|place| without(branches, place));
    let inside = branches.iter().enumerate().flat_map(|(place, (name, body))| {
        specs(body)
            .into_iter()
            .map(move |body| with(branches, place, (name.clone(), body)))
    });
    fewer.chain(inside).collect()
}

/// Steps without one of their parts. The first prompt processor may be what keeps lanes apart, and stays.
fn steps(step: &StepSpec) -> Vec<StepSpec> {
    let mut smaller = Vec::new();
    let mut simpler = |differs: bool, change: &dyn Fn(&mut StepSpec)| {
        if differs {
            let mut other = step.clone();
            change(&mut other);
            smaller.push(other);
        }
    };
    simpler(step.fallback.is_some(), &|step| step.fallback = None);
    simpler(step.prompt.len() > 1, &|step| step.prompt.truncate(1));
    simpler(!step.output.is_empty(), &|step| step.output.clear());
    simpler(!step.plugins.is_empty(), &|step| step.plugins.clear());
    simpler(!step.validators.is_empty(), &|step| step.validators.clear());
    simpler(step.apply.is_some(), &|step| step.apply = None);
    simpler(step.persist.is_some(), &|step| step.persist = None);
    simpler(!step.rates.is_empty(), &|step| step.rates.clear());
    simpler(step.deadline.is_some(), &|step| step.deadline = None);
    simpler(step.policy.timeout.is_some(), &|step| step.policy.timeout = None);
    simpler(step.policy.max_retries > 0, &|step| step.policy.max_retries = 0);
    simpler(step.agent.acts.len() > 1, &|step| {
        step.agent = Script {
            acts: step.agent.acts[1..].to_vec(),
        };
    });
    if let Some(fallback) = &step.fallback {
        smaller.extend(specs(fallback).into_iter().map(|fallback| StepSpec {
            fallback: Some(Box::new(fallback)),
            ..step.clone()
        }));
    }
    smaller
}

fn without<T: Clone>(all: &[T], place: usize) -> Vec<T> {
    let mut fewer = all.to_vec();
    fewer.remove(place);
    fewer
}

fn with<T: Clone>(all: &[T], place: usize, other: T) -> Vec<T> {
    let mut changed = all.to_vec();
    changed[place] = other;
    changed
}
