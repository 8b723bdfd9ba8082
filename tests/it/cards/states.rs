//! Every state that a card can be in, told as the events that lead there.

use midwatch::domain::action::{Action, RiskTier, Undo};
use midwatch::domain::alert::{Fingerprint, Labels, Severity};
use midwatch::domain::card::{ButtonAction, Card, Span, Tone};
use midwatch::domain::diagnosis::{Claim, Diagnosis, Remedy, Verdict};
use midwatch::domain::id::{Digest, IncidentId, PlanId};
use midwatch::domain::incident::{Decision, Incident, IncidentEvent as E, JoinedAlert, PastIncident, Sev, UNDONE};
use midwatch::domain::narrative::{self, Answer, Home, Muted};
use midwatch::domain::plan::{BlastRadius, Direction, Plan, SuccessCheck, target};
use midwatch::domain::policy::{Autonomy, Policy, Rules};
use midwatch::domain::root_cause::Candidate;
use midwatch::domain::time::Timestamp;

/// 14 November 2026, 02:03 UTC, and seconds after it.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_794_621_780 + seconds)
}

/// An incident in the making.
#[derive(Clone)]
struct Story {
    incident: Incident,
    second: i64,
}

impl Story {
    fn begins(number: i64, title: &str, severity: Sev, alerts: &[(&str, &str)]) -> Self {
        let mut story = Self { incident: Incident::blank(IncidentId::numbered(number)), second: 0 };
        story.then(E::Opened {
            cluster: "prod-eu".into(),
            team: "payments".into(),
            title: title.into(),
            severity,
            because: "users are hit in production".into(),
            event_at: at(0),
        });
        let joined = |(name, subject): &(&str, &str)| JoinedAlert {
            fingerprint: Fingerprint::of(&Labels::from([("service".into(), (*subject).into())])),
            name: (*name).into(),
            subject: (*subject).into(),
            severity: Severity::Critical,
            starts_at: at(0),
            because: "it is near".into(),
            again: false,
            still: false,
            said: Default::default(),
            score: None,
            elsewhere: Default::default(),
            namespaces: Default::default(),
        };
        story.then(E::AlertsJoined { alerts: alerts.iter().map(joined).collect() })
    }

    fn payments() -> Self {
        let alerts = [("HighErrorRate", "payments"), ("HighLatency", "checkout"), ("HighErrorRate", "checkout")];
        Self::begins(214, "payments answers with 5xx", Sev::Two, &alerts)
    }

    #[track_caller]
    fn then(&mut self, event: E) -> Self {
        self.second += 30;
        self.incident.apply(&event, at(self.second)).expect("the story is a legal one");
        self.clone()
    }

    fn and(mut self, event: E) -> Self {
        self.then(event)
    }

    fn investigated(self, reasoner: &str) -> Self {
        self.and(E::InvestigationStarted { reasoner: reasoner.into(), because: "it opened".into() })
    }

    fn diagnosed(self, diagnosis: Diagnosis) -> Self {
        let reasoner = diagnosis.reasoner.clone();
        self.investigated(&reasoner).and(E::Diagnosed { diagnosis })
    }

    fn proposed(self, plan: Plan) -> Self {
        let ruling = format!("{} risk needs {} approvals", plan.tier, plan.approvals_needed);
        self.diagnosed(likely("none")).and(E::PlanProposed { plan: Box::new(plan), ruling })
    }

    fn plan(&self) -> PlanId {
        self.incident.plans.last().unwrap().plan.id.clone()
    }

    fn voted(self, by: &str) -> Self {
        let plan = self.plan();
        self.and(E::Voted { plan, by: by.into(), decision: Decision::Approve, reason: None })
    }

    fn approved(self, by: &[&str]) -> Self {
        let (plan, digest) = (self.plan(), self.incident.plans.last().unwrap().plan.digest.clone());
        let all = by.iter().fold(self, |story, one| story.voted(one));
        all.and(E::PlanApproved { plan, by: by.iter().map(|one| (*one).into()).collect(), digest })
    }

    fn started(self) -> Self {
        let plan = self.plan();
        self.and(E::ExecutionStarted { plan, intent: "roll back".into(), outset: Default::default(), mark: None })
    }

    fn written(self) -> Self {
        let story = self.started();
        let plan = story.plan();
        story.and(E::ExecutionWrote { plan, result: "generation 8".into() })
    }

    fn root(self) -> Card {
        narrative::root(&self.incident)
    }

    fn diagnosis(self) -> Card {
        narrative::diagnosis(&self.incident)
    }

    fn approval(self) -> Card {
        narrative::approval(self.incident.plans.last().unwrap())
    }
}

fn claim(text: &str, marks: &[usize]) -> Claim {
    let id = IncidentId::numbered(214);
    Claim { text: text.into(), evidence: marks.iter().map(|mark| id.evidence(*mark)).collect() }
}

fn likely(reasoner: &str) -> Diagnosis {
    Diagnosis {
        service: Some("payments".into()),
        change: Some("prod/payments@42".into()),
        mechanism: "revision 42 keeps database connections that it should give back".into(),
        verdict: Verdict::Likely,
        confidence: 0.82,
        claims: vec![
            claim("5xx of payments rose from 0.1 % to 31 % at 02:03", &[1]),
            claim("revision 42 was rolled out at 02:02", &[2, 3]),
        ],
        ruled_out: vec![claim("the database: its own latency is in its band", &[4])],
        remedy: Remedy::RollBack { service: "payments".into() },
        reasoner: reasoner.into(),
        dropped: vec![],
        needs: None,
        proofs: vec![],
        otherwise: None,
    }
}

fn unknown(lead: Option<&str>) -> Diagnosis {
    Diagnosis {
        service: lead.map(str::to_owned),
        change: None,
        mechanism: "two services left their band within the same minute".into(),
        verdict: Verdict::Inconclusive,
        confidence: 0.31,
        remedy: Remedy::HandOver { why: "no action of the catalogue fits".into() },
        ..likely("none")
    }
}

fn candidate(node: &str, score: f64) -> Candidate {
    Candidate { node: node.into(), score, change: None, supports: vec![], contradicts: vec![] }
}

fn plan(action: Action) -> Plan {
    let (tier, undo) = (action.tier(), action.undo());
    let check = |service: &str| SuccessCheck {
        service: service.into(),
        signal: "error_ratio".into(),
        query: "sum(rate(errors[1m]))".into(),
        label: "service".into(),
        bound: 0.01,
        direction: Direction::AtMost,
        unit: "%".into(),
    };
    Plan {
        id: IncidentId::numbered(214).plan(1),
        service: "payments".into(),
        tier,
        because: "revision 42 is the likely cause".into(),
        blast: BlastRadius {
            pods: 6,
            dependents: vec!["checkout".into(), "web".into()],
            user_facing: true,
            share_percent: 25,
            budgets: vec![],
            quotas: vec![],
            extent: None,
            autoscaler: None,
            breaks_budget: false,
            text: "replaces 6 pods one after the other, at most 25 % unavailable at once; 2 dependents (checkout, web); user-facing".into(),
        },
        diff: "--- now\n+++ after\n-        image: payments:42\n+        image: payments:41\n".into(),
        undo,
        checks: vec![check("payments"), check("checkout")],
        evidence: vec![IncidentId::numbered(214).evidence(1), IncidentId::numbered(214).evidence(3)],
        digest: Digest::of(b"what an approval binds"),
        expires_at: at(900),
        approvals_needed: if tier == RiskTier::High { 2 } else { 1 },
        requester: None,
        action,
    }
}

fn roll_back() -> Plan {
    plan(Action::RollBack {
        target: target("prod-eu", "shop", "Deployment", "payments", "8c1f-77"),
        from_revision: 42,
        to_revision: 41,
    })
}

fn restart() -> Plan {
    plan(Action::Restart { target: target("prod-eu", "shop", "Deployment", "payments", "8c1f-77") })
}

fn restart_database() -> Plan {
    plan(Action::Restart { target: target("prod-eu", "shop", "StatefulSet", "orders-db", "55aa-01") })
}

const ANN: &str = "T1/U7ANN";
const BEN: &str = "T1/U8BEN";

/// Name and card of every state of a message.
pub fn messages() -> Vec<(&'static str, Card)> {
    let mut all = roots();
    all.extend(diagnoses());
    all.extend(approvals());
    all.extend(answers());
    all.extend(nasty());
    all
}

fn roots() -> Vec<(&'static str, Card)> {
    let open = Story::payments();
    let waiting = open.clone().proposed(roll_back());
    let written = waiting.clone().approved(&[ANN]).written();
    let verified = {
        let plan = written.plan();
        let facts = vec!["error ratio of payments 0.002, at most 0.01".into()];
        written.clone().and(E::VerificationPassed { plan, facts })
    };
    let past = PastIncident {
        incident: "INC-97".into(),
        title: "payments lost its connections".into(),
        score: 0.8,
        because: "the same log lines".into(),
    };
    vec![
        ("root-open", open.clone().root()),
        ("root-investigating", open.clone().investigated("none").root()),
        (
            "root-ranked",
            open.clone()
                .investigated("gpt-x")
                .and(E::Ranked { candidates: vec![candidate("payments", 0.7), candidate("web", 0.2)] })
                .root(),
        ),
        ("root-recalled", open.clone().and(E::Recalled { past: vec![past], runbooks: vec!["pool".into()] }).root()),
        ("root-owned", open.clone().and(E::Acknowledged { by: ANN.into() }).root()),
        ("root-diagnosed", open.clone().diagnosed(likely("none")).root()),
        ("root-unknown-with-lead", open.clone().diagnosed(unknown(Some("payments"))).root()),
        ("root-unknown", open.clone().diagnosed(unknown(None)).root()),
        ("root-waiting", waiting.clone().root()),
        ("root-running", waiting.clone().approved(&[ANN]).started().root()),
        ("root-verifying", written.root()),
        (
            "root-handed-over",
            open.clone().and(E::HandedOver { because: "no action of the catalogue fits".into() }).root(),
        ),
        (
            "root-resolved",
            verified.and(E::Resolved { because: "the rollback helped".into(), event_at: at(700), by: None }).root(),
        ),
        ("root-merged", {
            let into = IncidentId::numbered(213);
            open.clone().and(E::Merged { into, because: "one database".into() }).root()
        }),
        ("root-noise", open.and(E::NotAnIncident { by: BEN.into(), because: "a load test <!here>".into() }).root()),
    ]
}

fn diagnoses() -> Vec<(&'static str, Card)> {
    let open = Story::payments();
    let feedback = |by: &str, helpful| E::Feedback { by: by.into(), helpful, reason: None };
    let confirmed = Diagnosis { verdict: Verdict::Confirmed, confidence: 0.97, change: None, ..likely("gpt-x") };
    let nobody = Diagnosis { service: None, change: None, claims: vec![], ruled_out: vec![], ..likely("none") };
    let silent = Diagnosis { reasoner: "none (the model's answer was not kept)".into(), ..likely("none") };
    vec![
        ("diagnosis-none-yet", open.clone().diagnosis()),
        ("diagnosis-likely", open.clone().diagnosed(likely("none")).diagnosis()),
        ("diagnosis-confirmed-by-model", open.clone().diagnosed(confirmed).diagnosis()),
        ("diagnosis-model-said-nothing", {
            open.clone().investigated("gpt-x").and(E::Diagnosed { diagnosis: silent }).diagnosis()
        }),
        ("diagnosis-unknown-with-lead", open.clone().diagnosed(unknown(Some("payments"))).diagnosis()),
        ("diagnosis-unknown", open.clone().diagnosed(unknown(None)).diagnosis()),
        ("diagnosis-nothing-to-blame", open.clone().diagnosed(nobody).diagnosis()),
        ("diagnosis-voted", {
            let told = open.diagnosed(likely("none")).and(feedback(ANN, true)).and(feedback(BEN, true));
            told.and(feedback(BEN, false)).diagnosis()
        }),
    ]
}

fn approvals() -> Vec<(&'static str, Card)> {
    let waiting = Story::payments().proposed(roll_back());
    let high = Story::payments().proposed(restart_database());
    let id = waiting.plan();
    let written = waiting.clone().approved(&[ANN]).written();
    let not_verified = written.clone().and(E::VerificationFailed {
        plan: id.clone(),
        facts: vec!["error ratio of payments 0.29, at most 0.01".into()],
    });
    let reject =
        |reason: Option<&str>| E::PlanRejected { plan: id.clone(), by: BEN.into(), reason: reason.map(str::to_owned) };
    let asked = Plan { requester: Some(ANN.into()), ..restart_database() };
    let unattended = {
        let story = Story::payments().proposed(restart());
        let (plan, digest) = (story.plan(), story.incident.plans[0].plan.digest.clone());
        story.and(E::PlanApproved { plan, by: vec![], digest }).written()
    };
    vec![
        ("approval-low", Story::payments().proposed(restart()).approval()),
        ("approval-medium", waiting.clone().approval()),
        ("approval-high-0-of-2", high.clone().approval()),
        ("approval-high-1-of-2", high.clone().voted(ANN).approval()),
        ("approval-high-asked-for", Story::payments().proposed(asked).approval()),
        ("approval-high-approved", high.approved(&[ANN, BEN]).approval()),
        ("approval-approved", waiting.clone().approved(&[ANN]).approval()),
        ("approval-running", waiting.clone().approved(&[ANN]).started().approval()),
        ("approval-written", written.clone().approval()),
        ("approval-unattended", unattended.approval()),
        ("approval-overruled", {
            let because = "shop/deployment/payments has another template than its revision 41; it says revision 44";
            written.clone().and(E::Overruled { plan: id.clone(), because: because.into() }).approval()
        }),
        ("approval-verified", {
            let facts = vec!["the rollout is complete".into(), "error ratio of payments 0.002, at most 0.01".into()];
            written.and(E::VerificationPassed { plan: id.clone(), facts }).approval()
        }),
        ("approval-not-verified", not_verified.clone().approval()),
        ("approval-undone", {
            not_verified.clone().and(E::Compensated { plan: id.clone(), result: UNDONE.into() }).approval()
        }),
        ("approval-not-undone", {
            let result = "the undo failed: cluster unavailable: connection refused".into();
            not_verified.and(E::Compensated { plan: id.clone(), result }).approval()
        }),
        ("approval-failed", {
            let because = "the result of the write is unknown and the cluster does not answer".into();
            waiting
                .clone()
                .approved(&[ANN])
                .started()
                .and(E::ExecutionFailed { plan: id.clone(), because, left: Default::default() })
                .approval()
        }),
        ("approval-rejected", waiting.clone().and(reject(Some("change freeze until Monday"))).approval()),
        ("approval-rejected-silently", waiting.clone().and(reject(None)).approval()),
        ("approval-expired", waiting.clone().and(E::PlanExpired { plan: id.clone() }).approval()),
        ("approval-voided-by-drift", {
            let because = "the image was changed to payments:43 since the card was made".into();
            waiting.clone().approved(&[ANN]).and(E::PlanVoided { plan: id.clone(), because }).approval()
        }),
        ("approval-voided-unvoted", {
            waiting.and(E::PlanVoided { plan: id.clone(), because: "ben asked for more".into() }).approval()
        }),
    ]
}

fn answers() -> Vec<(&'static str, Card)> {
    let muted = Muted {
        key: "a1b2",
        name: "DiskFilling",
        subject: "node-7",
        explanation: "is as steep as every night at this hour",
        starts_at: at(0),
        answer: None,
    };
    let answered = |answer| narrative::muted(&Muted { answer: Some((ANN, answer)), ..muted });
    vec![
        ("muted-asked", narrative::muted(&muted)),
        ("muted-rightly", answered(Answer::RightlyMuted)),
        ("muted-wrongly", answered(Answer::ShouldHaveWoken)),
        ("note-good", narrative::note("Resolved: the rollback helped.", Tone::Good)),
        ("note-alarm", narrative::note("Nobody decided in time.", Tone::Alarm)),
        ("note-neutral", narrative::note("too late: the plan is already approved by @U7ANN", Tone::Neutral)),
        ("answer-lines", {
            narrative::answer(
                "2 open incidents",
                vec![
                    vec![Span::code("INC-1"), Span::plain(" SEV2")],
                    vec![Span::code("INC-2"), Span::quoted(" <@U0EVIL>")],
                ],
            )
        }),
        ("answer-empty", narrative::answer("0 open incidents", vec![])),
    ]
}

pub const HOSTILE: &str = "<!channel> <!here> <!subteam^S1> <@U0EVIL> <#C1> @everyone `rm -rf` *b* _i_ ~s~ <https://evil.test|click> https://evil.test www.evil.test mailto:a@evil.test & ]]> </script><b> :fire: \u{202e}drowssap\u{202c} \u{2066}x\u{2069} \u{0007}\u{200b}";
const RIGHT_TO_LEFT: &str = "שירות התשלומים אינו זמין ‏ خدمة الدفع غير متاحة";
const EMOJI: &str = "👩‍👩‍👧‍👦🏳️‍🌈🇺🇳👍🏽";

fn nasty() -> Vec<(&'static str, Card)> {
    let long = HOSTILE.repeat(3000 / HOSTILE.chars().count() + 1).chars().take(3000).collect::<String>();
    let words = |text: &str| -> Vec<(&'static str, Card)> {
        let mut diagnosis = likely(text);
        diagnosis.service = Some(text.into());
        diagnosis.change = Some(text.into());
        diagnosis.mechanism = text.into();
        diagnosis.claims = vec![claim(text, &[1, 2, 3]); 30];
        diagnosis.ruled_out = vec![claim(text, &[]); 30];
        let mut evil = roll_back();
        evil.action =
            Action::RollBack { target: target(text, text, text, text, text), from_revision: 2, to_revision: 1 };
        evil.because = text.into();
        evil.blast.text = text.into();
        evil.diff = format!("-{text}\n+{text}\n").repeat(20);
        evil.undo = Undo::None(text.into());
        evil.checks.iter_mut().for_each(|check| check.service = text.into());
        let opened = Story::begins(214, text, Sev::One, &[(text, text), ("Down", "web")]);
        let told = opened.diagnosed(diagnosis);
        let told = told.and(E::PlanProposed { plan: Box::new(evil), ruling: text.into() });
        let told = told.and(E::NotAnIncident { by: text.into(), because: text.into() });
        let (plan, by) = (told.plan(), text.to_owned());
        let rejected = told.clone().and(E::PlanRejected { plan, by, reason: Some(text.into()) });
        let handed = rejected.clone().and(E::HandedOver { because: text.into() });
        vec![
            ("root", handed.root()),
            ("diagnosis", told.clone().diagnosis()),
            ("approval", told.approval()),
            ("rejected", rejected.approval()),
        ]
    };
    let mut all = vec![];
    for (kind, text) in [("hostile", HOSTILE), ("long", long.as_str()), ("rtl", RIGHT_TO_LEFT), ("emoji", EMOJI)] {
        for (card, shown) in words(text) {
            all.push((String::leak(format!("nasty-{kind}-{card}")) as &'static str, shown));
        }
    }
    let names: Vec<(String, String)> = (0..200).map(|n| (format!("Alert{n}"), format!("service-{n:03}"))).collect();
    let alerts: Vec<(&str, &str)> = names.iter().map(|(name, subject)| (name.as_str(), subject.as_str())).collect();
    all.push(("nasty-200-alerts", Story::begins(300, "everything is down", Sev::One, &alerts).root()));
    all
}

/// Name and card of every state of the app's home.
pub fn homes() -> Vec<(&'static str, Card)> {
    let policy = Policy {
        low: Autonomy::Automatic,
        high: Autonomy::Suggest,
        ..Policy::with_rules(Rules::compile(None).expect("the built-in rules"))
    };
    let home = |open: &[Incident], paused: Option<&str>| {
        narrative::home(&Home {
            open,
            paused,
            policy: &policy,
            services: 41,
            audit_head: (1207, "9f86d081884c7d659a2feaa0c55ad015"),
            wall_now: at(60),
        })
    };
    let waiting = Story::payments().proposed(restart_database()).voted(ANN).incident;
    let open = Story::payments().and(E::Acknowledged { by: ANN.into() }).incident;
    let many: Vec<Incident> = (0..200)
        .map(|n| Story::begins(n, HOSTILE, Sev::Three, &[("Down", "web")]).proposed(restart()).incident)
        .collect();
    vec![
        ("home-quiet", home(&[], None)),
        ("home-open", home(std::slice::from_ref(&open), None)),
        ("home-waiting", home(&[waiting.clone(), open.clone()], None)),
        ("home-paused", home(&[waiting, open], Some("config push <!channel> (ann)"))),
        ("home-200-incidents", home(&many, None)),
    ]
}

/// Buttons that ask.
pub fn asking() -> Vec<ButtonAction> {
    ButtonAction::ALL.into_iter().filter(|action| action.asks_for_reason()).collect()
}
