use super::*;

fn check(text: &str, expected: &str) {
    let outcome = Config::parse(text, std::path::Path::new("m.toml"), &|name| (name == "TOKEN").then(|| "t0p".into()))
        .and_then(|config| config.validate().map(|()| config));
    let said = match outcome {
        Ok(config) => format!("{config:?}"),
        Err(error) => error.to_string(),
    };
    assert!(said.contains(expected), "{said}\n does not contain\n{expected}");
}

#[test]
fn a_typo_names_key_and_line() {
    check("[server]\nlisten = \"127.0.0.1:1\"\n\n[kafka]\nbroker = \"x\"\n", "m.toml:5: unknown field `broker`");
    check(
        "[prefilter]\nanomaly_mode = \"loud\"\n",
        "m.toml:2: unknown variant `loud`, expected one of `fixed`, `shadow`, `calibrated`",
    );
    check("[prefilter]\nmax_missed = 1.0\n", "`prefilter.max_missed`: 1 is not between 0 and 1. Give for example");
    check(
        "[[prefilter.debounce]]\nmatchers = 'alertname=\"A\"'\nfor_seconds = 60\n",
        "fires_for: 60s, at_least: 0, within: 3600s",
    );
    check("[[prefilter.debounce]]\nfor_seconds = 60\n", "missing field `matchers`");
    check(
        "[[prefilter.debounce]]\nmatchers = 'a=\"b\"'\n",
        "`prefilter.debounce`: the entry for {a=\"b\"} asks for nothing",
    );
    check("[server]\nlisten = \"127.0.0.1:7717\"\n", "`console.listen`: 127.0.0.1:7717 is server.listen, too");
    check("[server]\nmax_inbox = 0\n", "max_inbox = 0 and max_body_bytes = 4194304 would take nothing in");
    check("[embedder]\nmodel_dir = \"m\"\n", "onnx_runtime and model_dir belong together");
    check("[prompts]\ndir = \"/nope\"\n", "`prompts.dir`: /nope is no folder. Give the folder");
    check("[console]\nlisten = \"here\"\n", "`console.listen`: \"here\" is not an address. Give IP:PORT");
}

#[test]
fn light_incidents_are_told_together_unless_somebody_says_otherwise() {
    check("", "digest: Some(Four), digest_minutes: 60");
    check("[routing]\ndigest = \"off\"\n", "digest: None");
    check("[routing]\ndigest = \"SEV3\"\n", "digest: Some(Three)");
    check("[routing]\ndigest = \"SEV2\"\n", "m.toml:2: SEV1 and SEV2 are told at once (P3); give SEV3, SEV4 or");
    check("[routing]\ndigest = \"sev4\"\n", "m.toml:2: \"sev4\" is no severity; give SEV3, SEV4 or \"off\"");
}

#[test]
fn secrets_come_from_the_environment_and_are_not_printed() {
    check("[slack]\nbot_token = \"${TOKEN}\"\napp_token = \"x\"\nchannel = \"#ops\"\n", "bot_token: ***");
    check(
        "[slack]\nbot_token = \"${NOPE}\"\nchannel = \"#ops\"\n",
        "m.toml:2: the environment variable NOPE is not set",
    );
}

#[test]
fn a_label_of_clusters_is_a_label_and_every_query_can_be_asked_with_it() {
    let signals = |more: &str| format!("[signals]\nprometheus_url = \"http://p\"\n{more}");
    // The built-in queries can, whatever they hold.
    check(&signals("cluster_label = \"k8s_cluster\"\n"), "cluster_label: Some(\"k8s_cluster\")");
    for (key, label) in [("cluster_label", "k8s.cluster"), ("log_cluster_label", ""), ("cluster_label", "1st")] {
        let told = format!("`signals.{key}`: {label:?} is no name of a label");
        check(&signals(&format!("{key} = \"{label}\"\n")), &told);
    }
    check(&signals("log_cluster_label = \"app\"\n"), "\"app\" is signals.log_service_label, which names the service");
    let query = "[[signals.query]]\nname = \"odd\"\nclass = \"load\"\npromql = \"sum(rate(a[5m]\"\nfloor = 1.0\n";
    check(&signals(query), "sum(rate(a[5m]");
    let told = "`signals.query`: odd: it cannot be asked of cluster!=\"\" alone: this is not valid PromQL";
    check(&signals(&format!("cluster_label = \"cluster\"\n{query}")), told);
    let hook = "[[remediation.hook]]\nname = \"purge\"\ndescription = \"Empties it.\"\nurl = \"http://p\"\n\
                success = { query = \"up{\", label = \"service\", bound = 1.0 }\n";
    check(&signals(&format!("cluster_label = \"cluster\"\n{hook}")), "`remediation.hook`: purge: it cannot be asked");
}
