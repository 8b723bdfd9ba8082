use std::collections::BTreeMap;

use super::{MAX_CLUSTERS, MAX_SHAPES, Miner, template_of};

/// `lines` as groups of templates: (template, lines), in order of the first line.
fn mined(lines: &[&str]) -> Vec<(String, usize)> {
    let mut miner = Miner::new();
    let ids: Vec<_> = lines.iter().map(|line| miner.learn(line)).collect();
    miner.consolidate();
    let mut groups: BTreeMap<_, usize> = BTreeMap::new();
    let mut order = vec![];
    for id in ids {
        let id = miner.resolve(id);
        if !groups.contains_key(&id) {
            order.push(id);
        }
        *groups.entry(id).or_default() += 1;
    }
    order.into_iter().map(|id| (miner.template(id).unwrap(), groups[&id])).collect()
}

fn check(lines: &[&str], expected: &[(&str, usize)]) {
    let found = mined(lines);
    let found: Vec<(&str, usize)> = found.iter().map(|(text, count)| (text.as_str(), *count)).collect();
    assert_eq!(found, expected);
}

fn masked(line: &str, expected: &str) {
    assert_eq!(template_of(line), expected, "{line}");
}

#[test]
fn numbers_ids_and_instants_are_masked() {
    let one = template_of("2026-11-20T02:17:00Z ERROR order 8123 failed after 5003ms trace=9f86d081884c7d65");
    let other = template_of("2026-11-20T03:01:10Z ERROR order 9 failed after 12ms trace=ab86d081884c7d00");
    assert_eq!(one, other);
    assert_eq!(one, "<*> ERROR order <*> failed after <*> trace=<*>");
    masked("x509: certificate has expired", "x509: certificate has expired");
}

#[test]
fn each_kind_of_value_is_one_wildcard() {
    masked("peer 10.0.0.1:8080 is gone", "peer <*> is gone");
    masked("peer fe80::1ff:fe23:4567:890a is gone", "peer <*> is gone");
    masked("card 00:0d:60:e9:23:6a is gone", "card <*> is gone");
    masked("job 550e8400-e29b-41d4-a716-446655440000 is done", "job <*> is done");
    masked("read /var/log/app.log at 0x7ffe12, 42%", "read <*> at <*>");
    masked("GET https://example.com/a?b=1&c=2 took 1.5s", "GET <*> took <*>");
    masked(r"loaded C:\Program\core.dll twice", "loaded <*> twice");
    masked("lifetime <1 sec", "lifetime <*>");
    masked("mail from ops@example.com (Fri Jul 1 12:00:01 2005)", "mail from <*> (<*>)");
    masked("speeds ( 3552 3534 3375 )", "speeds ( <*> )");
    masked("sizes [1, 2, 3, 4]", "sizes [<*>]");
    masked("can't open it", "can't open it");
    masked("took 12:30:45,123", "took <*>");
    masked("Größe 5 überschritten — naïve", "Größe <*> überschritten — naïve");
}

#[test]
fn structured_lines_keep_keys_and_the_message() {
    masked(
        r#"level=info component="rule manager" msg="Stopping rule manager..." n=3"#,
        r#"level=info component="rule manager" msg="Stopping rule manager..." n=<*>"#,
    );
    masked(r#"{"level":"info","msg":"took 3 s","n":3}"#, r#"{"level":"info","msg":"took <*> s","n":<*>}"#);
    check(
        &[
            r#"msg="Received alert" alert=Disk[a1b2][active]"#,
            r#"msg="Received alert" alert=Lag[a1b3][resolved]"#,
            r#"msg="Received batch" alert=Lag[a1b3][resolved]"#,
        ],
        &[(r#"msg="Received alert" alert=<*>"#, 2), (r#"msg="Received batch" alert=<*>"#, 1)],
    );
}

#[test]
fn text_of_others_behind_a_label_is_one_value() {
    check(
        &["LOG: statement: select 1", "LOG: statement: drop table a;", "LOG: shutting down"],
        &[("LOG: statement: <*>", 2), ("LOG: shutting down", 1)],
    );
}

#[test]
fn block_storage() {
    check(
        &[
            "Receiving block blk_-160 src: /10.250.19.102:54106 dest: /10.250.19.102:50010",
            "Receiving block blk_351 src: /10.250.10.6:4106 dest: /10.250.14.2:50010",
            "PacketResponder 1 for block blk_38 terminating",
            "PacketResponder 2 for block blk_-6 terminating",
            "BLOCK* ask 10.250.14.38:50010 to replicate blk_-76 to datanode(s) 10.251.1.2:50010",
            "BLOCK* ask 10.250.14.38:50010 to replicate blk_-76 to datanode(s) 10.251.1.2:50010 10.251.1.9:50010",
        ],
        &[
            ("Receiving block <*> src: <*> dest: <*>", 2),
            ("PacketResponder <*> for block <*> terminating", 2),
            ("BLOCK* ask <*> to replicate <*> to datanode(s) <*>", 2),
        ],
    );
}

#[test]
fn remote_logins() {
    check(
        &[
            "Failed password for root from 173.234.31.186 port 38926 ssh2",
            "Failed password for admin from 5.36.59.76 port 42393 ssh2",
            "Failed password for invalid user webmaster from 173.234.31.186 port 38926 ssh2",
            "Failed password for invalid user test from 52.80.34.196 port 36060 ssh2",
            "Accepted password for backup from 119.137.62.142 port 49116 ssh2",
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 tty=ssh ruser= rhost=5.36.59.76",
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 tty=ssh ruser= rhost=5.36.59.76  user=root",
        ],
        &[
            ("Failed password for <*> from <*> port <*> ssh2", 2),
            ("Failed password for invalid user <*> from <*> port <*> ssh2", 2),
            ("Accepted password for backup from <*> port <*> ssh2", 1),
            ("pam_unix(sshd:auth): authentication failure; logname= uid=<*> tty=ssh ruser= rhost=<*>", 1),
            ("pam_unix(sshd:auth): authentication failure; logname= uid=<*> tty=ssh ruser= rhost=<*> user=root", 1),
        ],
    );
}

#[test]
fn sessions_of_an_operating_system() {
    check(
        &[
            "session opened for user cyrus by (uid=0)",
            "session closed for user cyrus",
            "session opened for user news by (uid=0)",
            "session closed for user news",
            "ALERT exited abnormally with [1]",
            "check pass; user unknown",
            "connection from 82.252.162.81 () at Fri Jul 1 10:05:01 2005",
            "connection from 82.252.162.81 (a.b.example.net) at Fri Jul 1 10:05:01 2005",
        ],
        &[
            ("session opened for user <*> by (uid=<*>)", 2),
            ("session closed for user <*>", 2),
            ("ALERT exited abnormally with [<*>]", 1),
            ("check pass; user unknown", 1),
            ("connection from <*> (<*>) at <*>", 2),
        ],
    );
}

#[test]
fn states_stay_apart() {
    check(
        &[
            "[instance: b9000564-fe1a-409b-b8cc-1e88b294cd1d] VM Started (Lifecycle Event)",
            "[instance: 96abccce-8d1f-4e07-b6d1-4b2ab87e23b4] VM Paused (Lifecycle Event)",
            "[instance: 96abccce-8d1f-4e07-b6d1-4b2ab87e23b4] VM Resumed (Lifecycle Event)",
            "[instance: b9000564-fe1a-409b-b8cc-1e88b294cd1d] VM Paused (Lifecycle Event)",
        ],
        &[
            ("[instance: <*>] VM Started (Lifecycle Event)", 1),
            ("[instance: <*>] VM Paused (Lifecycle Event)", 2),
            ("[instance: <*>] VM Resumed (Lifecycle Event)", 1),
        ],
    );
}

#[test]
fn requests_differ_by_their_verb() {
    check(
        &[
            r#"10.11.10.1 "GET /v2/54fadb41/servers/detail HTTP/1.1" status: 200 len: 1893 time: 0.24"#,
            r#"10.11.10.1 "POST /v2/54fadb41/os-events HTTP/1.1" status: 200 len: 380 time: 0.09"#,
            r#"10.11.10.1 "GET /v2/e9746973/servers HTTP/1.1" status: 404 len: 7 time: 0.26"#,
        ],
        &[
            (r#"<*> "GET <*>" status: <*> len: <*> time: <*>"#, 2),
            (r#"<*> "POST <*>" status: <*> len: <*> time: <*>"#, 1),
        ],
    );
}

#[test]
fn key_value_lists_of_devices() {
    check(
        &[
            r#"acquire lock=233570404, flags=0x1, tag="View Lock", name=com.example.ui, ws=null, uid=10037"#,
            r#"acquire lock=166121161, flags=0x1, tag="Radio", name=android, ws=WorkSource{10113}, uid=1001"#,
            r#"release lock=166121161, flg=0x0, tag="Radio", name=android, uid=1001"#,
            "ready=true,policy=3,wakefulness=1,summary=0x23,mode=false,manual=38,adj=0.0userId=0",
            "ready=true,policy=3,wakefulness=0,summary=0x0,mode=true,manual=38,adj=0.0userId=0",
            "onStandStepChanged 3579",
            "onStandStepChanged 3588",
        ],
        &[
            ("acquire lock=<*>, flags=<*>, tag=<*>, name=<*>, ws=<*>, uid=<*>", 2),
            (r#"release lock=<*>, flg=<*>, tag="Radio", name=android, uid=<*>"#, 1),
            ("ready=true,policy=<*>,wakefulness=<*>,summary=<*>,mode=<*>,manual=<*>,adj=<*>=<*>", 2),
            ("onStandStepChanged <*>", 2),
        ],
    );
}

#[test]
fn machine_errors() {
    check(
        &[
            "generating core.2275",
            "generating core.862",
            "CE sym 2, at 0x0b85eee0, mask 0x05",
            "CE sym 20, at 0x1438f9e0, mask 0x40",
            "instruction cache parity error corrected",
            "data cache parity error corrected",
            "ciod: failed to read message prefix on control stream (CioStream socket to 172.16.96.116:33569",
            "workerEnv.init() ok /etc/httpd/conf/workers2.properties",
            "mod_jk child workerEnv in error state 6",
            "mod_jk child workerEnv in error state 7",
        ],
        &[
            ("generating <*>", 2),
            ("CE sym <*>, at <*>, mask <*>", 2),
            ("instruction cache parity error corrected", 1),
            ("data cache parity error corrected", 1),
            ("ciod: failed to read message prefix on control stream (CioStream socket to <*>", 1),
            ("workerEnv.init() ok <*>", 1),
            ("mod_jk child workerEnv in error state <*>", 2),
        ],
    );
}

#[test]
fn units_tell_statements_apart_unless_behind_an_amount() {
    check(
        &[
            "Block broadcast_5_piece0 stored as bytes in memory (estimated size 5.2 KB, free 384.1 MB)",
            "Block rdd_2_3 stored as values in memory (estimated size 16.0 B, free 380.7 MB)",
            "Block rdd_2_4 stored as values in memory (estimated size 1.1 KB, free 380.7 MB)",
        ],
        &[
            ("Block <*> stored as bytes in memory (estimated size <*> KB, free <*> MB)", 1),
            ("Block <*> stored as values in memory (estimated size <*>, free <*> MB)", 2),
        ],
    );
}

#[test]
fn brackets_and_leaders_are_no_part_of_a_value() {
    masked("Switch<0>(0x0)::poll - route = 0x0", "Switch<<*>>(<*>)::poll - route = <*>");
    masked("force load/store alignment...............0", "force load/store alignment...............<*>");
    masked("waiting... 5 left", "waiting... <*> left");
}

#[test]
fn many_names_in_one_place_are_values() {
    let hosts = ["apple", "birch", "cedar", "elder", "fig", "hazel"];
    let lines: Vec<String> = hosts.iter().map(|host| format!("{host} joined ring")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    check(&lines, &[("<*> joined ring", 6)]);
}

#[test]
fn ids_stay_valid_after_a_merge() {
    let mut miner = Miner::new();
    let first = miner.learn("session closed for user cyrus");
    let other = miner.learn("session closed for user news");
    assert_eq!(miner.resolve(first), miner.resolve(other));
    assert_eq!(miner.template(other).unwrap(), "session closed for user <*>");
    assert_eq!(miner.len(), 1);
}

#[test]
fn memory_is_bounded_and_recent_templates_stay() {
    // Letters only, so that nothing is masked, and no two lines are alike.
    let word = |mut number: usize| {
        let mut word = String::from("q");
        for _ in 0..6 {
            word.push(char::from(b'a' + (number % 26) as u8));
            number /= 26;
        }
        word
    };
    let mut miner = Miner::new();
    for number in 0..20_000 {
        let line = format!("{} {} {}", word(number), word(number * 7 + 1), word(number * 13 + 5));
        miner.learn(&line);
        assert!(miner.len() <= MAX_CLUSTERS);
    }
    assert!(miner.shapes.len() <= MAX_SHAPES);
    let last = miner.learn("zz yy xx");
    assert_eq!(miner.template(last).unwrap(), "zz yy xx");
}

#[test]
fn odd_lines_do_not_break_the_lexer() {
    for line in [
        "",
        " ",
        "\"",
        "'",
        "=",
        "a=",
        "=b",
        "::",
        "a:",
        "<",
        "<9",
        "\"\\",
        "msg=\"",
        "é",
        "日本語 5",
        "\u{1}\u{2}",
        "k=\"é\\é\"",
        "~/",
        "C:\\",
        "0:",
        "x=[(",
        "{\"msg\":\"a",
    ] {
        let mut miner = Miner::new();
        let id = miner.learn(line);
        assert!(miner.template(id).is_some(), "{line}");
    }
    let long = "word ".repeat(10_000);
    assert!(template_of(&long).len() < 1_000);
}

#[test]
fn the_same_lines_give_the_same_templates() {
    let lines: Vec<String> =
        (0..500).map(|n| format!("part{} {} did {} to node-{n}", n % 7, ["a", "bb", "ccc"][n % 3], n * n)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(mined(&lines), mined(&lines));
}

#[test]
fn states_behind_from_and_to_are_values() {
    check(
        &[
            "attempt_14450_0001_m_02 TaskAttempt Transitioned from NEW to UNASSIGNED",
            "attempt_14450_0001_m_02 TaskAttempt Transitioned from UNASSIGNED to ASSIGNED",
            "attempt_14450_0001_m_03 TaskAttempt Transitioned from ASSIGNED to RUNNING",
        ],
        &[("<*> TaskAttempt Transitioned from <*> to <*>", 3)],
    );
}

#[test]
fn lists_of_any_length_are_one_value() {
    check(
        &[
            "nodes n1 failed",
            "nodes n2 n3 failed",
            "nodes n3 n4 n5 n6 n7 n8 failed",
            "nodes n9 n10 n11 n12 n13 n14 n15 n16 n17 n18 n19 failed",
            "nodes n1 n2 n3 recovered",
        ],
        &[("nodes <*> failed", 4), ("nodes n1 n2 n3 recovered", 1)],
    );
    // Two lists at once: which of them is longer does not matter.
    check(
        &["from n1 n2 to n3 moved", "from n1 to n2 n3 moved", "from n5 n6 n7 to n8 n9 moved"],
        &[("from <*> to <*> moved", 3)],
    );
}

#[test]
fn what_stands_between_is_no_label() {
    let programs = ["firefox", "putty", "skype", "teams", "code", "zoom", "wechat"];
    let lines: Vec<String> =
        (0..).zip(programs).map(|(n, name)| format!("{name} - h{n}:80 close, {n} bytes sent")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    check(&lines, &[("<*> - <*> close, <*> bytes sent", 7)]);
}

#[test]
fn units_do_not_keep_a_column_of_names_apart() {
    check(
        &[
            "copy of alpha wrote 1 KB, then 9 KB, then closed",
            "copy of beta wrote 2 MB, then 8 GB, then closed",
            "copy of gamma wrote 3 GB, then 7 MB, then closed",
            "copy of delta wrote 4 KB, then 6 GB, then closed",
        ],
        &[("copy of <*> wrote <*>, then <*>, then closed", 4)],
    );
}

#[test]
fn what_was_done_and_what_was_added_tell_statements_apart() {
    check(
        &[
            "[instance: b9000564-fe1a] Took 19.84 seconds to spawn the instance on the hypervisor.",
            "[instance: 96abccce-8d1f] Took 1.0 seconds to destroy the instance on the hypervisor.",
        ],
        &[
            ("[instance: <*>] Took <*> seconds to spawn the instance on the hypervisor.", 1),
            ("[instance: <*>] Took <*> seconds to destroy the instance on the hypervisor.", 1),
        ],
    );
    check(
        &["task_1 TaskAttempt Transitioned from NEW to OLD", "task_2 Transitioned from NEW to OLD"],
        &[("task_1 TaskAttempt Transitioned from NEW to OLD", 1), ("task_2 Transitioned from NEW to OLD", 1)],
    );
}

#[test]
fn text_without_spaces() {
    check(
        &[
            "用户5登录成功，来自10.0.0.5",
            "订单4支付失败",
            "用户6登录成功，来自10.0.0.6",
            "系统 用户 5 登录成功",
            "系统 用户 6 登录失败",
        ],
        &[
            ("用户<*>登录成功，来自<*>", 2),
            ("订单<*>支付失败", 1),
            ("系统 用户 <*> 登录成功", 1),
            ("系统 用户 <*> 登录失败", 1),
        ],
    );
    // Scripts with spaces name things as English does, and signs go with their number.
    masked("узел5 took 5µs at 30°C", "<*> took <*> at <*>");
}

#[test]
fn directions_and_readings_are_values() {
    check(
        &[
            "3 torus receiver x+ input pipe error(s) (dcr 0x02ed) corrected",
            "1 torus receiver z- input pipe error(s) (dcr 0x02ed) corrected",
            "PSU status ( on off )",
            "PSU status ( off off )",
            "PSU status ( on on )",
            "link eth0 is back (up)",
            "link eth0 is back (down)",
        ],
        &[
            ("<*> torus receiver <*> input pipe error(s) (dcr <*>) corrected", 2),
            ("PSU status ( <*> )", 3),
            ("link eth0 is back (up)", 1),
            ("link eth0 is back (down)", 1),
        ],
    );
}
