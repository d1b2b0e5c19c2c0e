//! What of a plan is kept when it is data.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::callable::tests::kinds;
use super::super::{Kind, Node, NodeId, Plan};

/// What stands for a callable: something, unlike `()`, which is read as nothing where there may be none.
#[derive(Debug, Serialize, Deserialize)]
struct Uncalled {}

fn node(name: &str, kind: Kind<u32>) -> Node<u32> {
    Node {
        name: Arc::from(name),
        path: Arc::from(name),
        deadline: None,
        inner: false,
        optimization: None,
        kind,
    }
}

/// A plan with a node of each kind.
fn plan() -> Plan<u32> {
    let mut nodes = vec![node("", Kind::Sequence(Vec::new()))];
    nodes.extend(kinds().into_iter().map(|kind| node(kind.name(), kind)));
    let root = NodeId(u32::try_from(nodes.len()).unwrap() - 1);
    Plan::of(nodes, root, Arc::from("all"))
}

#[test]
fn a_plan_that_was_written_and_read_again_is_the_same_but_for_what_is_called() {
    let (plan, written) = (plan(), plan().map(|_| Uncalled {}));
    let json = serde_json::to_string(&written).unwrap();
    let read: Plan<Uncalled> = serde_json::from_str(&json).unwrap();
    assert_eq!(read.fingerprint(), plan.fingerprint());
    assert_eq!(read.name(), plan.name());
    assert_eq!(format!("{:?}", read.nodes), format!("{:?}", written.nodes));
    for ((_, read), (_, before)) in read.nodes().zip(plan.nodes()) {
        assert_eq!(
            read.callables().count(),
            before.callables().count(),
            "{}",
            before.name
        );
    }
}

#[test]
fn what_is_put_in_place_of_callables_stands_in_their_places() {
    let plan = plan();
    let doubled = plan.map(|callable| callable * 2);
    for ((_, now), (_, before)) in doubled.nodes().zip(plan.nodes()) {
        let before: Vec<u32> = before.callables().map(|callable| callable * 2).collect();
        assert_eq!(now.callables().copied().collect::<Vec<_>>(), before);
    }
}

#[test]
fn a_plan_whose_nodes_lead_nowhere_is_refused() {
    for (wrong, reason) in [
        (r#"["a",1,[]]"#, "root is no node"),
        (
            r#"["a",0,[{"name":"","path":"","deadline":null,"inner":false,"kind":{"Sequence":[0]}}]]"#,
            "holds node 0",
        ),
    ] {
        let error = serde_json::from_str::<Plan<Uncalled>>(wrong).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}
