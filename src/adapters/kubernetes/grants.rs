//! What our identities may do, as the API server says: SelfSubjectAccessReview, one a right.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use super::reading;
use crate::domain::action::Right;
use crate::ports::{ClusterError, Grant};

pub(super) async fn grants(
    client: &Client,
    namespaces: &[String],
    rights: &[Right],
) -> Result<Vec<Grant>, ClusterError> {
    let mut found = vec![];
    for right in rights {
        let places = if right.namespaced { namespaces.to_vec() } else { vec![String::new()] };
        for namespace in places {
            let allowed = ask(client, &namespace, right).await?;
            found.push(Grant { right: *right, namespace, allowed });
        }
    }
    Ok(found)
}

async fn ask(client: &Client, namespace: &str, right: &Right) -> Result<bool, ClusterError> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, sub)) => (resource, Some(sub.to_owned())),
        None => (right.resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(right.group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(right.verb.to_owned()),
                namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api = Api::<SelfSubjectAccessReview>::all(client.clone());
    // It stores nothing: a lost answer is only asked again.
    let answer = reading("what this identity may do", api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
}
