//! A Kubernetes cluster through its API server.
//!
//! Invariants: reading and writing are two identities, and without the second nothing can be
//! written; every write names the uid and the resourceVersion that it was decided on; no write is
//! retried here (a blind retry of a write that took effect would be a second write).

mod around;
mod config_maps;
mod effect;
mod extent;
mod grants;
mod history;
mod jobs;
mod kinds;
mod names;
mod precheck;
mod prepare;
mod read;
mod release;
mod routes;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::domain::action::{Action, Right, Target};
use crate::domain::plan::Surroundings;
use crate::ports::{
    Applied, Cluster, ClusterError, ClusterEvent, ConfigMapState, DryRun, Grant, Identity, NodeState, PodLogs,
    PodState, Revision, Route, Settled, Took, Wish, Workload,
};

const TIMEOUT: Duration = Duration::from_secs(15);
const REHEARSALS: u32 = 12;
/// Before the second, then longer by as much each time.
const BETWEEN_REHEARSALS: Duration = Duration::from_millis(10);

/// How to reach the API server, and as whom.
#[derive(Debug, Clone)]
pub struct Access {
    pub server: Server,
    pub identity: Bearer,
}

#[derive(Debug, Clone)]
pub enum Server {
    /// `KUBECONFIG`, `~/.kube/config`, or the service account of the pod we run in.
    Inferred,
    Kubeconfig {
        path: String,
        context: Option<String>,
    },
    Url {
        url: String,
        /// PEM, read again about once a minute; `None`: the CAs of the system.
        ca_file: Option<PathBuf>,
    },
}

#[derive(Clone)]
pub enum Bearer {
    /// Whom the kubeconfig or the pod names; with a bare address nobody.
    Own,
    /// In place of it, client certificates included.
    Token(String),
    /// Read again about once a minute: tokens of service accounts are rotated.
    File(PathBuf),
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("Own"),
            Self::Token(_) => f.write_str("Token(redacted)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

impl Access {
    /// By a bare address, with a certificate that the system's CAs know.
    pub fn at(url: &str, identity: Bearer) -> Self {
        Self { server: Server::Url { url: url.to_owned(), ca_file: None }, identity }
    }

    async fn client(&self) -> Result<Client, ClusterError> {
        let unavailable =
            |why: &dyn fmt::Display| ClusterError::Unavailable(format!("no access to the cluster: {why}"));
        let mut config = self.config().await?;
        config.connect_timeout = Some(Duration::from_secs(3));
        config.read_timeout = Some(TIMEOUT);
        config.reset_reader_on_write = true;
        // The library would repeat a 429 for minutes, and writes with it.
        config.default_retry = false;
        Client::try_from(config).map_err(|why| unavailable(&why))
    }

    async fn config(&self) -> Result<Config, ClusterError> {
        let unavailable =
            |why: &dyn fmt::Display| ClusterError::Unavailable(format!("no access to the cluster: {why}"));
        let mut config = match &self.server {
            Server::Inferred => Config::infer().await.map_err(|why| unavailable(&why))?,
            Server::Kubeconfig { path, context } => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(|why| unavailable(&why))?;
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|why| unavailable(&why))?
            }
            Server::Url { url, ca_file } => {
                let mut config = Config::new(url.parse().map_err(|why: http::uri::InvalidUri| unavailable(&why))?);
                if let Some(path) = ca_file {
                    std::fs::read(path)
                        .map_err(|why| unavailable(&format!("kubernetes.ca_file {}: {why}", path.display())))?;
                    // The file alone is asked; without this the CAs of the system would have to be there.
                    config.root_cert = Some(vec![]);
                    config.root_cert_file = Some(path.clone());
                }
                config
            }
        };
        match &self.identity {
            Bearer::Own => {}
            Bearer::Token(token) => {
                config.auth_info = AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() };
            }
            Bearer::File(path) => {
                config.auth_info = AuthInfo { token_file: Some(path.display().to_string()), ..AuthInfo::default() };
            }
        }
        Ok(config)
    }
}

#[derive(Clone)]
pub struct KubernetesCluster {
    reader: Client,
    /// The executor's identity (S1); `None`: this watch cannot write.
    writer: Option<Client>,
}

impl KubernetesCluster {
    pub async fn connect(reader: &Access, writer: Option<&Access>) -> Result<Self, ClusterError> {
        let writer = match writer {
            Some(access) => Some(access.client().await?),
            None => None,
        };
        Ok(Self { reader: reader.client().await?, writer })
    }
}

#[async_trait]
impl Cluster for KubernetesCluster {
    async fn workloads(&self) -> Result<Vec<Workload>, ClusterError> {
        read::workloads(&self.reader).await
    }

    async fn pods(&self, namespace: Option<&str>) -> Result<Vec<PodState>, ClusterError> {
        namespace.map_or(Ok(()), names::namespace)?;
        read::pods(&self.reader, namespace).await
    }

    async fn nodes(&self) -> Result<Vec<NodeState>, ClusterError> {
        read::nodes(&self.reader).await
    }

    async fn routes(&self) -> Result<Vec<Route>, ClusterError> {
        routes::routes(&self.reader).await
    }

    async fn events(&self, namespace: Option<&str>) -> Result<Vec<ClusterEvent>, ClusterError> {
        namespace.map_or(Ok(()), names::namespace)?;
        read::events(&self.reader, namespace).await
    }

    async fn revisions(&self, kind: &str, namespace: &str, workload: &str) -> Result<Vec<Revision>, ClusterError> {
        names::namespace(namespace)?;
        names::object("workload", workload)?;
        history::of_one(&self.reader, kind, namespace, workload).await
    }

    async fn histories(&self, workloads: &[Workload]) -> Vec<Result<Vec<Revision>, ClusterError>> {
        history::of_all(&self.reader, workloads).await
    }

    async fn pod_logs(
        &self,
        namespace: &str,
        pod: &str,
        previous: PodLogs,
        lines: i64,
    ) -> Result<String, ClusterError> {
        names::namespace(namespace)?;
        names::object("pod", pod)?;
        read::pod_logs(&self.reader, namespace, pod, previous, lines).await
    }

    async fn dry_run(&self, action: &Action) -> Result<DryRun, ClusterError> {
        let writer = self.writer()?;
        around::refuse_if_autoscaled(&self.reader, action).await?;
        let mut tries = 1;
        loop {
            match write::dry_run(writer, action).await {
                // Controllers write a moving workload many times a second. A rehearsal leaves nothing
                // behind, so that it may be repeated on what is there now.
                Err(ClusterError::Conflict(_)) if tries < REHEARSALS => {}
                ended => return ended,
            }
            tokio::time::sleep(BETWEEN_REHEARSALS * tries).await;
            tries += 1;
        }
    }

    async fn prepare(&self, wish: &Wish) -> Result<Action, ClusterError> {
        let action = prepare::prepare(&self.reader, wish).await?;
        around::refuse_if_autoscaled(&self.reader, &action).await?;
        Ok(action)
    }

    async fn apply(&self, action: &Action, resource_version: &str, mark: &str) -> Result<Applied, ClusterError> {
        let writer = self.writer()?;
        // Again: one may have been put there since the rehearsal.
        around::refuse_if_autoscaled(&self.reader, action).await?;
        write::apply(writer, action, resource_version, mark).await
    }

    async fn took_effect(&self, action: &Action, mark: &str) -> Result<Took, ClusterError> {
        effect::took_effect(self.writer()?, action, mark).await
    }

    async fn settled(&self, action: &Action, mark: &str) -> Result<Settled, ClusterError> {
        effect::settled(&self.reader, action, mark).await
    }

    async fn surroundings(&self, action: &Action) -> Result<Surroundings, ClusterError> {
        around::surroundings(&self.reader, action).await
    }

    async fn manifest(&self, target: &Target) -> Result<String, ClusterError> {
        let mut object = write::current(&kinds::api_of(&self.reader, target)?, target).await?;
        object.metadata.managed_fields = None;
        serde_yaml_ng::to_string(&object).map_err(|why| ClusterError::Unavailable(format!("{target}: {why}")))
    }

    async fn config_maps(&self) -> Result<Vec<ConfigMapState>, ClusterError> {
        config_maps::list(&self.reader).await
    }

    async fn config_data(&self, namespace: &str, name: &str) -> Result<BTreeMap<String, String>, ClusterError> {
        names::object("ConfigMap", name)?;
        let found = reading(name, kinds::api(&self.reader, "ConfigMap", namespace)?.get(name)).await?;
        Ok(found.data.get("data").and_then(|data| serde_json::from_value(data.clone()).ok()).unwrap_or_default())
    }

    async fn grants(
        &self,
        identity: Identity,
        namespaces: &[String],
        rights: &[Right],
    ) -> Result<Vec<Grant>, ClusterError> {
        let client = match identity {
            Identity::Reader => &self.reader,
            Identity::Writer => self.writer()?,
        };
        grants::grants(client, namespaces, rights).await
    }

    async fn check(&self) -> Result<String, ClusterError> {
        let version = reading("version", self.reader.apiserver_version()).await?.git_version;
        read::workloads(&self.reader).await?;
        Ok(match self.writer {
            Some(_) => format!("Kubernetes {version} answers; an executor identity is configured"),
            None => format!("Kubernetes {version} answers; read only (no executor identity)"),
        })
    }
}

impl KubernetesCluster {
    fn writer(&self) -> Result<&Client, ClusterError> {
        self.writer.as_ref().ok_or_else(|| {
            ClusterError::Forbidden("no executor identity is configured, so nothing can be written".to_owned())
        })
    }
}

/// Runs a request that changes nothing: whatever goes wrong, nothing was written.
async fn reading<T>(what: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(explain(what, error, Lost::Nothing)),
        Err(_) => Err(ClusterError::Unavailable(format!("{what}: no answer within {} s", TIMEOUT.as_secs()))),
    }
}

/// Runs a request that writes: when the answer is lost, the write may have taken effect.
async fn writing<T>(what: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(explain(what, error, Lost::PerhapsAWrite)),
        Err(_) => Err(ClusterError::Unknown(format!("{what}: no answer within {} s", TIMEOUT.as_secs()))),
    }
}

/// What may be lost when an answer does not arrive.
#[derive(Clone, Copy)]
enum Lost {
    Nothing,
    PerhapsAWrite,
}

fn explain(what: &str, error: kube::Error, lost: Lost) -> ClusterError {
    let unclear = |message: String| match lost {
        Lost::Nothing => ClusterError::Unavailable(message),
        Lost::PerhapsAWrite => ClusterError::Unknown(message),
    };
    match error {
        kube::Error::Api(status) => {
            let message = format!("{what}: {}", status.message);
            match status.code {
                404 => ClusterError::NotFound(what.to_owned()),
                409 => ClusterError::Conflict(message),
                401 | 403 => ClusterError::Forbidden(message),
                // Refused before it was tried: worth another attempt later, by the caller.
                429 if is_budget(&status) => {
                    ClusterError::Budget(format!("{message} {}", causes(&status)).trim().to_owned())
                }
                429 => ClusterError::Unavailable(message),
                500..=599 => unclear(message),
                _ => ClusterError::Refused(message),
            }
        }
        // The certificate or the address is wrong, or nobody listens: the request never left.
        kube::Error::Service(inner) if never_connected(inner.as_ref()) => {
            ClusterError::Unavailable(format!("{what}: cannot connect: {}", root_cause(inner.as_ref())))
        }
        kube::Error::BuildRequest(why) => ClusterError::Refused(format!("{what}: {why}")),
        kube::Error::Auth(why) => ClusterError::Forbidden(format!("{what}: {why}")),
        other => unclear(format!("{what}: {}", root_cause(&other))),
    }
}

/// An eviction that a PodDisruptionBudget refuses, in distinction to a server that is overloaded:
/// `policy/v1` `DisruptionBudgetCause`.
fn is_budget(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "DisruptionBudget") || status.message.contains("disruption budget")
}

fn causes(status: &kube::core::Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.map(|cause| cause.message.as_str()).collect::<Vec<_>>().join("; ")
}

fn never_connected(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect()) {
            return true;
        }
        next = error.source();
    }
    false
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
