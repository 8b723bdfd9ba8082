use proptest::prelude::*;

use super::super::tests::{alert, alert_of, at, labels, matchers, set};
use super::*;

const NOBODY: Reach<'_> = Reach { firing: &[], max_share: 0.5 };

fn silence(id: &str, matchers: Matchers, from: i64, to: i64) -> Silence {
    Silence {
        id: SilenceId::new(id),
        matchers,
        starts_at: at(from),
        ends_at: at(to),
        created_by: "ann".into(),
        comment: "disk swap".into(),
        updated_at: at(0),
    }
}

fn muting(silences: &Silences, labels: &str, seconds: i64) -> Option<String> {
    silences.mutes(&alert(labels), at(seconds)).map(|silence| silence.id.to_string())
}

#[test]
fn it_mutes_from_its_start_until_its_end() {
    let mut silences = Silences::default();
    silences.create(silence("one", set("a=x"), 10, 20), NOBODY, Consent::Ask, at(0)).unwrap();
    let seen: Vec<_> = [9, 10, 19, 20].map(|seconds| muting(&silences, "a=x", seconds)).into();
    assert_eq!(seen, [None, Some("one".into()), Some("one".into()), None]);
    assert_eq!(muting(&silences, "a=y", 15), None);
}

#[test]
fn of_several_the_one_that_ends_last_is_named() {
    let mut silences = Silences::default();
    for (id, to) in [("short", 20), ("long", 40), ("middle", 30)] {
        silences.create(silence(id, set("a=x"), 0, to), NOBODY, Consent::Ask, at(0)).unwrap();
    }
    assert_eq!(muting(&silences, "a=x", 15), Some("long".into()));
}

#[test]
fn expiring_ends_it_at_once_and_forgetting_drops_it() {
    let mut silences = Silences::default();
    silences.create(silence("active", set("a=x"), 0, 100), NOBODY, Consent::Ask, at(0)).unwrap();
    silences.create(silence("pending", set("a=~\"x.*\""), 50, 100), NOBODY, Consent::Ask, at(0)).unwrap();
    silences.create(silence("stays", set("a=y"), 0, 100), NOBODY, Consent::Ask, at(0)).unwrap();
    let (active, pending) = (SilenceId::new("active"), SilenceId::new("pending"));
    assert_eq!(silences.expire(&active, at(5)).unwrap().ends_at, at(5));
    assert_eq!(silences.expire(&pending, at(5)).unwrap().state(at(5)), State::Expired);
    assert_eq!((muting(&silences, "a=x", 5), muting(&silences, "a=x", 60)), (None, None));
    assert_eq!(silences.expire(&active, at(6)), Err(CannotExpire::AlreadyExpired(active, at(5))));
    let unknown = SilenceId::new("no");
    assert_eq!(silences.expire(&unknown, at(6)), Err(CannotExpire::Unknown(unknown)));
    assert_eq!(silences.forget_expired(at(6)), 2);
    assert_eq!(silences.list().map(|silence| silence.id.as_str()).collect::<Vec<_>>(), ["stays"]);
    assert_eq!(muting(&silences, "a=y", 7), Some("stays".into()));
    assert!(silences.get(&pending).is_none());
}

#[test]
fn what_would_hide_everything_is_refused_unless_confirmed() {
    let refusal = |text: &str, firing: &[Labels]| {
        let reach = Reach { firing, max_share: 0.5 };
        let refused = Silences::default().create(silence("s", set(text), 0, 10), reach, Consent::Ask, at(0)).err();
        let confirmed =
            Silences::default().create(silence("s", set(text), 0, 10), reach, Consent::Confirmed, at(0)).is_ok();
        assert!(confirmed, "{text} once confirmed");
        refused.map(|refused| {
            assert!(refused.can_be_confirmed());
            refused.to_string()
        })
    };
    let everything = "every matcher of {a=~\".*\"} accepts a missing label, so nearly every alert would be silenced; \
                      add a matcher such as service=\"pay\", or confirm";
    assert_eq!(refusal("a=~\".*\"", &[]).as_deref(), Some(everything));
    assert!(refusal("a!=x", &[]).is_some());
    assert!(refusal("", &[]).is_some());
    assert!(refusal("a=~\".+\"", &[]).is_none());

    let firing: Vec<Labels> = (0..12).map(|number| alert(&format!("a=x,n={number}")).labels).collect();
    let share = "it would silence 12 of the 12 alerts that fire now, more than 50 %; narrow the matchers, or confirm";
    assert_eq!(refusal("a=x", &firing).as_deref(), Some(share));
    assert_eq!(refusal("n=~\"[0-5]\"", &firing), None);
    assert_eq!(refusal("a=x", &firing[..9]), None);
}

#[test]
fn faults_are_refused_even_when_confirmed() {
    let mut silences = Silences::default();
    silences.create(silence("known", set("a=x"), 0, 10), NOBODY, Consent::Ask, at(0)).unwrap();
    let nobody = Silence { created_by: " ".into(), ..silence("s", set("a=x"), 0, 10) };
    let why = Silence { comment: String::new(), ..silence("s", set("a=x"), 0, 10) };
    let cases = [
        (silence("s", set("a=x"), 10, 10), Refused::EndsBeforeItStarts { starts_at: at(10), ends_at: at(10) }),
        (silence("s", set("a=x"), -20, -10), Refused::EndsInThePast(at(-10))),
        (silence("known", set("a=x"), 0, 10), Refused::Known(SilenceId::new("known"))),
        (silence("", set("a=x"), 0, 10), Refused::Missing("id")),
        (nobody, Refused::Missing("createdBy")),
        (why, Refused::Missing("comment")),
    ];
    for (silence, expected) in cases {
        assert!(!expected.can_be_confirmed());
        assert_eq!(silences.create(silence, NOBODY, Consent::Confirmed, at(0)).err(), Some(expected));
    }
}

#[test]
fn stored_silences_come_back_in_the_shape_of_the_api() {
    let mut silences = Silences::default();
    silences.create(silence("one", set("a=x"), 0, 100), NOBODY, Consent::Ask, at(0)).unwrap();
    let text = serde_json::to_string(&silences.list().collect::<Vec<_>>()).unwrap();
    assert_eq!(
        text,
        r#"[{"id":"one","matchers":[{"name":"a","value":"x","isRegex":false,"isEqual":true}],"startsAt":"2026-11-21T12:00:00.000Z","endsAt":"2026-11-21T12:01:40.000Z","createdBy":"ann","comment":"disk swap","updatedAt":"2026-11-21T12:00:00.000Z"}]"#
    );
    let mut stored: Vec<Silence> = serde_json::from_str(&text).unwrap();
    silences.expire(&SilenceId::new("one"), at(5)).unwrap();
    stored.insert(0, silences.get(&SilenceId::new("one")).unwrap().clone());
    let restored = Silences::restore(stored);
    assert_eq!(restored.list().count(), 1);
    assert_eq!(muting(&restored, "a=x", 50), None);
}

proptest! {
    #[test]
    fn the_index_finds_what_trying_each_finds(
        sets in prop::collection::vec((matchers(), 0_i64..20, 1_i64..20), 0..40),
        alerts in prop::collection::vec((labels(), 0_i64..40), 1..20),
        expired in prop::collection::vec(0_usize..40, 0..5),
    ) {
        let mut silences = Silences::default();
        for (number, (matchers, from, length)) in sets.into_iter().enumerate() {
            let silence = silence(&number.to_string(), matchers, from, from + length);
            silences.create(silence, NOBODY, Consent::Confirmed, at(0)).unwrap();
        }
        for number in expired {
            let _ = silences.expire(&SilenceId::new(number.to_string()), at(8));
        }
        let mut later = silences.clone();
        later.forget_expired(at(10));
        let back = Silences::restore(silences.list().cloned());
        for (labels, seconds) in alerts {
            let alert = alert_of(labels);
            let brute = silences
                .list()
                .filter(|silence| silence.mutes(&alert.labels, at(seconds)))
                .max_by_key(|silence| (silence.ends_at, std::cmp::Reverse(silence.id.clone())));
            prop_assert_eq!(silences.mutes(&alert, at(seconds)), brute);
            prop_assert_eq!(back.mutes(&alert, at(seconds)), brute);
            if seconds >= 10 {
                prop_assert_eq!(later.mutes(&alert, at(seconds)), brute);
            }
        }
    }
}
