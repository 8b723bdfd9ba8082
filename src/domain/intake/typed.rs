//! Alertmanager's shapes read from bytes without a tree of values between.
//!
//! Only the plain cases: whatever is unusual (a number as label, `status` as object, Grafana's fields)
//! gives `None`, and the tree decides. So both roads have one result.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::domain::alert::{BadAlert, Labels};
use crate::domain::time::Timestamp;

use super::alertmanager::{left_out, status_of, unsaid, value_of};
use super::draft::{Draft, Identity, NOTE_SOURCE};
use super::times::instant_of;
use super::{Format, Taken};

pub fn take(payload: &[u8], received_at: Timestamp) -> Option<Taken> {
    let first = payload.iter().find(|byte| !byte.is_ascii_whitespace())?;
    match first {
        b'[' => all(serde_json::from_slice::<Vec<Plain<'_>>>(payload).ok()?, received_at),
        b'{' => {
            let mut outer = serde_json::from_slice::<Outer<'_>>(payload).ok()?;
            match outer.alerts.take() {
                Some(alerts) => {
                    let mut taken = all(outer.is_group().then_some(alerts)?, received_at)?;
                    taken.remarks.extend(left_out(outer.truncated.as_ref()));
                    Some(taken)
                }
                None => all(vec![outer], received_at),
            }
        }
        _ => None,
    }
}

fn all<Alerts>(alerts: Vec<Plain<'_, Alerts>>, received_at: Timestamp) -> Option<Taken> {
    if alerts.iter().any(|alert| !alert.is_plain()) {
        return None;
    }
    let mut taken = Taken { alerts: Vec::with_capacity(alerts.len()), ..Taken::default() };
    for alert in alerts {
        match alert.draft(received_at).and_then(|draft| draft.finish_marked(received_at)) {
            Ok(alert) => taken.alerts.push(alert),
            Err(bad) => taken.refuse(|| bad),
        }
    }
    Some(taken)
}

/// What a payload may be: a group of webhook v4, or one alert. Read once, as either.
type Outer<'a> = Plain<'a, Vec<Plain<'a>>>;

/// An alert, or what is around a group's. The fields that neither has are those by which other formats are
/// told apart.
#[derive(Deserialize)]
struct Plain<'a, Alerts = IgnoredAny> {
    labels: Option<Labels>,
    annotations: Option<Labels>,
    #[serde(borrow)]
    status: Option<Text<'a>>,
    #[serde(borrow, rename = "startsAt")]
    starts_at: Option<Text<'a>>,
    #[serde(borrow, rename = "endsAt")]
    ends_at: Option<Text<'a>>,
    value: Option<Value>,
    state: Option<IgnoredAny>,
    #[serde(rename = "activeAt")]
    active_at: Option<IgnoredAny>,
    specversion: Option<IgnoredAny>,
    alerts: Option<Alerts>,
    #[serde(rename = "truncatedAlerts")]
    truncated: Option<Value>,
    values: Option<IgnoredAny>,
    #[serde(rename = "valueString")]
    value_string: Option<IgnoredAny>,
    #[serde(rename = "silenceURL")]
    silence_url: Option<IgnoredAny>,
    #[serde(rename = "dashboardURL")]
    dashboard_url: Option<IgnoredAny>,
    #[serde(rename = "panelURL")]
    panel_url: Option<IgnoredAny>,
    #[serde(rename = "orgId")]
    org_id: Option<IgnoredAny>,
    event_action: Option<IgnoredAny>,
    #[serde(rename = "Type")]
    sns_type: Option<IgnoredAny>,
    #[serde(rename = "detail-type")]
    detail_type: Option<IgnoredAny>,
    #[serde(rename = "AlarmName")]
    alarm_name: Option<IgnoredAny>,
    data: Option<IgnoredAny>,
}

/// Borrowed from the payload unless it has escapes; `Option<Cow<str>>` would always be a copy.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn are_absent(fields: &[&Option<IgnoredAny>]) -> bool {
    fields.iter().all(|field| field.is_none())
}

impl Outer<'_> {
    fn is_group(&self) -> bool {
        let others = [
            &self.org_id,
            &self.specversion,
            &self.event_action,
            &self.sns_type,
            &self.detail_type,
            &self.alarm_name,
            &self.data,
        ];
        self.labels.is_none() && are_absent(&others)
    }
}

impl<Alerts> Plain<'_, Alerts> {
    fn is_plain(&self) -> bool {
        let others = [
            &self.state,
            &self.active_at,
            &self.specversion,
            &self.values,
            &self.value_string,
            &self.silence_url,
            &self.dashboard_url,
            &self.panel_url,
        ];
        // A text that is no status is told by the tree, which has its JSON form.
        self.labels.is_some()
            && self.alerts.is_none()
            && are_absent(&others)
            && self.status.as_ref().is_none_or(|status| status_of(&status.0).is_some())
    }

    fn draft(self, received_at: Timestamp) -> Result<Draft, BadAlert> {
        let time = |text: &Option<Text<'_>>, field| match text {
            Some(text) => instant_of(&text.0, field),
            None => Ok(None),
        };
        let starts_at = time(&self.starts_at, "startsAt")?;
        let ends_at = time(&self.ends_at, "endsAt")?;
        let said = self.status.as_ref().and_then(|text| status_of(&text.0));
        let status = said.unwrap_or_else(|| unsaid(ends_at, received_at));
        let stands_until = if said.is_none() { ends_at } else { None };
        let mut annotations = self.annotations.unwrap_or_default();
        let value = value_of(self.value.as_ref(), &annotations);
        annotations.insert(NOTE_SOURCE.to_owned(), Format::AlertmanagerAlert.name().to_owned());
        let labels = self.labels.unwrap_or_default();
        Ok(Draft { labels, annotations, identity: Identity::Labels, status, starts_at, ends_at, stands_until, value })
    }
}
