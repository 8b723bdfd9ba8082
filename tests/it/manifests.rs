//! What is deployed grants what the catalogue needs, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use midwatch::domain::action::ActionKind;
use serde::Deserialize as _;
use serde_yaml_ng::Value;

fn documents(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/manifests").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml_ng::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap()).collect()
}

type Rule = (String, String, String);

fn rules(documents: &[Value], name: &str) -> BTreeSet<Rule> {
    let words = |value: &Value| -> Vec<String> {
        value.as_sequence().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let mut found = BTreeSet::new();
    for role in documents.iter().filter(|one| one["metadata"]["name"] == name && one["rules"].is_sequence()) {
        for rule in role["rules"].as_sequence().unwrap() {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    for verb in words(&rule["verbs"]) {
                        found.insert((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn the_remediation_role_holds_only_rights_of_the_catalogue() {
    let documents = documents("rbac.yaml");
    let needed: BTreeSet<Rule> = ActionKind::ALL
        .iter()
        .flat_map(|kind| kind.rights())
        .map(|right| (right.group.to_owned(), right.resource.to_owned(), right.verb.to_owned()))
        .collect();
    let granted = rules(&documents, "midwatch-remediation");
    assert!(granted.len() > 8, "{granted:?}");
    let beyond: Vec<&Rule> = granted.difference(&needed).collect();
    assert!(beyond.is_empty(), "granted and needed by no action: {beyond:?}");
    for kind in
        [ActionKind::Restart, ActionKind::RollBack, ActionKind::EvictPod, ActionKind::DeleteJob, ActionKind::RunJob]
    {
        for right in kind.rights() {
            let right = (right.group.to_owned(), right.resource.to_owned(), right.verb.to_owned());
            assert!(granted.contains(&right), "{kind:?} lacks {right:?}");
        }
    }
}

#[test]
fn neither_identity_reads_secrets_enters_pods_or_rises() {
    let documents = documents("rbac.yaml");
    let reading = rules(&documents, "midwatch-read");
    assert!(reading.iter().all(|(_, _, verb)| verb == "get" || verb == "list"), "the reader writes: {reading:?}");
    for (group, resource, verb) in reading.iter().chain(&rules(&documents, "midwatch-remediation")) {
        assert!(![group, resource, verb].iter().any(|word| word.contains('*')), "{group} {resource} {verb}");
        let forbidden = ["secrets", "pods/exec", "pods/attach", "pods/portforward", "serviceaccounts/token"];
        assert!(!forbidden.contains(&resource.as_str()), "{resource}");
        assert!(!["escalate", "bind", "impersonate"].contains(&verb.as_str()), "{verb}");
        assert!(group != "rbac.authorization.k8s.io");
    }
}

#[test]
fn the_admission_policy_denies_and_names_every_kind_that_the_catalogue_writes() {
    let documents = documents("admission.yaml");
    let policy = documents.iter().find(|one| one["kind"] == "ValidatingAdmissionPolicy").unwrap();
    let binding = documents.iter().find(|one| one["kind"] == "ValidatingAdmissionPolicyBinding").unwrap();
    assert_eq!(policy["spec"]["failurePolicy"], "Fail");
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
    assert_eq!(binding["spec"]["validationActions"][0], "Deny");
    let expressions: Vec<&str> = policy["spec"]["validations"]
        .as_sequence()
        .unwrap()
        .iter()
        .map(|one| one["expression"].as_str().unwrap())
        .collect();
    for right in
        ActionKind::ALL.iter().flat_map(|kind| kind.rights()).filter(|right| !["get", "list"].contains(&right.verb))
    {
        let kind = format!("\"{}/{}\"", right.group, right.resource.split('/').next().unwrap());
        assert!(expressions[0].contains(&kind), "{kind} is not named");
    }
}
