use super::*;

fn check(text: &str, expected: expect_test::Expect) {
    expected.assert_eq(&redact(text));
}

#[test]
fn every_format_compiles() {
    assert_eq!(formats::broken(), Vec::<&str>::new());
}

#[test]
fn secrets_are_replaced_and_their_names_kept() {
    check("Authorization: Bearer abc.def-123456", expect_test::expect!["Authorization: Bearer [credential redacted]"]);
    check("key AKIAIOSFODNN7EXAMPLE used", expect_test::expect!["key [AWS key id redacted] used"]);
    check("DB_PASSWORD=hunter22 retry=3", expect_test::expect!["DB_PASSWORD=[secret redacted] retry=3"]);
    check(r#"{"api_key": "s3cr3t!!", "n": 1}"#, expect_test::expect![[r#"{"api_key": "[secret redacted]", "n": 1}"#]]);
    check("aws_secret_access_key = wJalrXUtnFEMI", expect_test::expect!["aws_secret_access_key = [secret redacted]"]);
    check(
        "postgres://app:p4ss:w/rd@db:5432/cart failed",
        expect_test::expect!["postgres://app:[password redacted]@db:5432/cart failed"],
    );
    check(
        "got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl and xoxb-1234567890-abcdef",
        expect_test::expect!["got [JWT redacted] and [Slack token redacted]"],
    );
    check(
        "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb",
        expect_test::expect![[r#"
            a
            [private key redacted]
            b"#]],
    );
    check("env/DB_PASSWORD/value: old1 -> new1", expect_test::expect!["env/DB_PASSWORD/value: [secret redacted]"]);
    check(
        "+  - name: API_TOKEN\n+    value: abc\n   - name: POOL\n     value: '2'",
        expect_test::expect![[r#"
            +  - name: API_TOKEN
            +    value: [secret redacted]
               - name: POOL
                 value: '2'"#]],
    );
    check("sk-proj-abcdefghijklmnopqrstuvwx", expect_test::expect!["[API key redacted]"]);
}

#[test]
fn assignments_in_any_syntax() {
    check(
        r##"DB_PASSWORD=kestrel42 RETRY=3
export PGPASSWORD="two words 7"
password = 'tiger!9', n = 1
{"user": "bob", "password": "pa,ss}9", "n": 1}
msg="{\"db_password\":\"s3a\\\"w0rd\",\"n\":1}"
{&quot;password&quot;:&quot;gannet77&quot;}
<db:Password type="x">gannet77</db:Password>
<add key="Password" value="gannet77" />
<property name="mail.password">gannet77</property>
POST /login?user=bob&password=gannet77&next=%2F
next=%2Fx%3Fpassword%3Dgannet77%26n%3D1
Server=db;User ID=app;Password=C2!Or#Lan;Encrypt=True
config.set("password", "gannet")
tool --db-password gannet77 --verbose
| password | gannet77 |
user: bob pass: gannet77
{user: bob, pass: gannet}
CREATE USER bob IDENTIFIED BY 'gannet77';
ALTER ROLE app WITH ENCRYPTED PASSWORD 'gannet77' VALID UNTIL 'infinity'
ENV={PATH:/bin,ADMIN_TOKEN:gannet77,PORT:8080}
STRIPE_PASSWORD: old7old -> new7new"##,
        expect_test::expect![[r#"
            DB_PASSWORD=[secret redacted] RETRY=3
            export PGPASSWORD="[secret redacted]"
            password = '[secret redacted]', n = 1
            {"user": "bob", "password": "[secret redacted]", "n": 1}
            msg="{\"db_password\":\"[secret redacted]\",\"n\":1}"
            {&quot;password&quot;:&quot;[secret redacted]&quot;}
            <db:Password type="x">[secret redacted]</db:Password>
            <add key="Password" value="[secret redacted]" />
            <property name="mail.password">[secret redacted]</property>
            POST /login?user=bob&password=[secret redacted]&next=%2F
            next=%2Fx%3Fpassword%3D[secret redacted]%26n%3D1
            Server=db;User ID=app;Password=[secret redacted];Encrypt=True
            config.set("password", "[secret redacted]")
            tool --db-password [secret redacted] --verbose
            | password | [secret redacted] |
            user: bob pass: [secret redacted]
            {user: bob, pass: [secret redacted]}
            CREATE USER bob IDENTIFIED BY '[secret redacted]';
            ALTER ROLE app WITH ENCRYPTED PASSWORD '[secret redacted]' VALID UNTIL 'infinity'
            ENV={PATH:/bin,ADMIN_TOKEN:[secret redacted],PORT:8080}
            STRIPE_PASSWORD: [secret redacted] -> [secret redacted]"#]],
    );
}

#[test]
fn values_on_other_lines() {
    check(
        r##"password:
  gannet77
user: bob
---
password: |
  gannet
  77
user: bob
---
DB_PASSWORD
= gannet77
DB_PASSWORD=\
gannet77
- name: DB_PASSWORD
  value: gannet77
- name: POOL
  value: "20"
---
kind: Secret
stringData:
  anything: gannet
metadata:
  name: cart"##,
        expect_test::expect![[r#"
            password:
              [secret redacted]
            user: bob
            ---
            password: |
              [secret redacted]
            user: bob
            ---
            DB_PASSWORD
            = [secret redacted]
            DB_PASSWORD=\
            [secret redacted]
            - name: DB_PASSWORD
              value: [secret redacted]
            - name: POOL
              value: "20"
            ---
            kind: Secret
            stringData:
              anything: [secret redacted]
            metadata:
              name: cart"#]],
    );
}

/// A mapping below a key: its keys stay, and so do the names that an engineer follows.
#[test]
fn members_of_a_key() {
    let named = r##"volumes:
- name: tls
  secret:
    secretName: checkout-tls
imagePullSecrets:
  - name: regcred
env:
  DB_PASSWORD:
    valueFrom:
      secretKeyRef:
        name: checkout-db
        key: password
credentials:
  provider: vault
  path: kv/checkout
token:
  audience: checkout
{"secret": {"secretName": "checkout-tls", "optional": false}}
secret: {secretName: checkout-tls}
"credentials": {
  "provider": "vault"
}"##;
    assert_eq!(redact(named), named);
    check(
        r##"password:
  value: hunter22
user: bob
password:
  description: of the database
  value: "two words 7"
value: 5
secret:
  stringValue: hunter
token:
  value: |
    gannet77gannet
  other: 1
{"password": {"value": "hunter22", "type": "plain"}}
{"password":{"description":"db","value":"hunter22"}}
admin_password: {value: hunter22, n: 1}
credentials:
  username: bob
  password: hunter22"##,
        expect_test::expect![[r#"
            password:
              value: [secret redacted]
            user: bob
            password:
              description: of the database
              value: "[secret redacted]"
            value: 5
            secret:
              stringValue: [secret redacted]
            token:
              value: |
                [secret redacted]
              other: 1
            {"password": {"value": "[secret redacted]", "type": "plain"}}
            {"password":{"description":"db","value":"[secret redacted]"}}
            admin_password: {value: [secret redacted], n: 1}
            credentials:
              username: bob
              password: [secret redacted]"#]],
    );
}

#[test]
fn headers_and_cookies() {
    check(
        r##"Authorization: Token token=u+gannet77
> Authorization: Basic Ym9iOmdhbm5ldDc3
{"authorization":["Bearer gannet77gannet77"]}
Authorization: AWS4-HMAC-SHA256 Credential=x/20261126/eu, SignedHeaders=host, Signature=5eaf00d
Proxy-Authorization: 0123456789abcdef0123456789abcdef
X-Api-Key: 0123456789abcdef0123456789abcdef
Cookie: theme=dark; sid=0ddba11c0ffee123; lang=de
Set-Cookie: session=gannet77gannet; Path=/; HttpOnly
docker login -u bob -p gannet77 reg.example
curl -u bob:gannet77 https://x.example
sshpass -p 'gannet77' ssh node-3
redis://:gannet77@cache:6379/0
app:gannet77@tcp(db:3306)/orders"##,
        expect_test::expect![[r#"
            Authorization: Token [credential redacted]
            > Authorization: Basic [credential redacted]
            {"authorization":["Bearer [credential redacted]"]}
            Authorization: AWS4-HMAC-SHA256 [credential redacted]
            Proxy-Authorization: [credential redacted]
            X-Api-Key: [secret redacted]
            Cookie: theme=dark; sid=[cookie redacted]; lang=de
            Set-Cookie: session=[cookie redacted]; Path=/; HttpOnly
            docker login -u bob -p [secret redacted] reg.example
            curl -u bob:[secret redacted] https://x.example
            sshpass -p '[secret redacted]' ssh node-3
            redis://:[password redacted]@cache:6379/0
            app:[password redacted]@tcp(db:3306)/orders"#]],
    );
}

#[test]
fn prose_in_many_languages() {
    check(
        r##"the password for the admin is Gannet77
use the bot token Gannet77Gannet77, please
the leaked key was 5eaf00d0bac0ffee722ca11ab1ef8eba
Das Passwort lautet Gannet77
la contraseña es Gannet77
Mot de passe : gannet77
пароль: gannet77
数据库连接失败 用户名=root 密码=gannet77 主机=db
パスワードはgannet77です
비밀번호: gannet77"##,
        expect_test::expect![[r#"
            the password for the admin is [secret redacted]
            use the bot token [secret redacted], please
            the leaked key was [secret redacted]
            Das Passwort lautet [secret redacted]
            la contraseña es [secret redacted]
            Mot de passe : [secret redacted]
            пароль: [secret redacted]
            数据库连接失败 用户名=root 密码=[secret redacted] 主机=db
            パスワードは[secret redacted]です
            비밀번호: [secret redacted]"#]],
    );
}

#[test]
fn keys_in_disguise() {
    check(
        "рassword=gannet77\n\
         ｐａｓｓｗｏｒｄ＝gannet77\n\
         𝗽𝗮𝘀𝘀𝘄𝗼𝗿𝗱: gannet77\n\
         p\u{336}a\u{336}s\u{336}s\u{336}word: gannet77\n\
         pa\u{200B}ss\u{200D}word: gannet77\n\
         p4ssw0rd: gannet77\n\
         password=gännet77 n=1",
        expect_test::expect![[r#"
            рassword=[secret redacted]
            ｐａｓｓｗｏｒｄ＝[secret redacted]
            𝗽𝗮𝘀𝘀𝘄𝗼𝗿𝗱: [secret redacted]
            p̶a̶s̶s̶word: [secret redacted]
            password: [secret redacted]
            p4ssw0rd: [secret redacted]
            password=[secret redacted] n=1"#]],
    );
}

#[test]
fn forms_of_vendors() {
    check(
        r##"AIzaSyJib71Ratline61Ballast81Capstan44
ya29.a0ALantern37Davit44Lantern87
GOCSPX-Lantern37Davit44Lantern
glrt-Windlass11Mizzen82Cl, gldt-Cleat88Corsa87Topsai
dckr_pat_Kelp23Mooring60Sample55
hf_Jib91Nautil20Galley55Pintle32
SG.Yardarm40Keel67.Rudder60Leeward58Tarn34
AC5eaf00d6d8ca11ab1ef800ddba119d6e
glsa_Ballast90Sample27Leeward13_effacedc
NRAK-MARLIN74MIZZEN65BINNACLE96T
dt0c01.MIZZEN2RSAVORAT4.DAVIT45HALYARD47DAVIT46
hvs.Fathom24Not4Real6Corsa89Mizzen78
Davit92Mizzen6.atlasv1.Yardarm38Jib83Leeward18
AGE-SECRET-KEY-1NAUTIL19WINDLASS62PINTLE24
4274381610:AAFake74Bilge95Topsail18Quay45
dapi5eaf00d0bac0ffee722ca11ab1ef8eba
https://x.example/a?sv=1&sig=Exa61Orlo%2FThwart27%3D&se=2
AccountKey=q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=;EndpointSuffix=x
https://5eaf00d0bac0ffee722ca11ab1ef8eba@o1.ingest.example/2
$2b$12$Lantern37Davit44Lantern87Savora16Not4Real88"##,
        expect_test::expect![[r#"
            [Google key redacted]
            [Google token redacted]
            [Google key redacted]
            [GitLab token redacted], [GitLab token redacted]
            [registry token redacted]
            [Hugging Face token redacted]
            [SendGrid key redacted]
            [Twilio id redacted]
            [Grafana token redacted]
            [New Relic key redacted]
            [Dynatrace token redacted]
            [Vault token redacted]
            [Terraform token redacted]
            [age key redacted]
            [Telegram token redacted]
            [Databricks token redacted]
            https://x.example/a?sv=1&sig=[secret redacted]&se=2
            AccountKey=[secret redacted];EndpointSuffix=x
            https://[token redacted]@o1.ingest.example/2
            [password hash redacted]"#]],
    );
}

#[test]
fn keys_in_pem_however_broken() {
    check(
        r##"x="-----BEGIN PRIVATE KEY-----\nMIIBallast27Davit72\nMooring38Bosun3D\n-----END PRIVATE KEY-----" y=1
key: |
  -----BEGIN PGP PRIVATE KEY BLOCK-----
  MIIBallast27Davit72Sample
  -----END PGP PRIVATE KEY BLOCK-----
cut at the end, -----BEGIN RSA PRIVATE KEY-----
MIIBallast27Davit72Sample
this line is no body"##,
        expect_test::expect![[r#"
            x="[private key redacted]" y=1
            key: |
              [private key redacted]
            cut at the end, [private key redacted]
            this line is no body"#]],
    );
}

#[test]
fn long_tokens_of_chance() {
    check(
        r##"got q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ back
blob eyJwYXNzd29yZCI6Imdhbm5ldDc3In0=
claims eyJzdWIiOiJzdmMtYmFsbGFzdDU1IiwiaXNzIjoic3NvIn0 alone"##,
        expect_test::expect![[r#"
            got [high-entropy token redacted] back
            blob [high-entropy token redacted]
            claims [high-entropy token redacted] alone"#]],
    );
}

#[test]
fn ordinary_text_is_left_alone() {
    let text = "GET https://cart:8080/pay 500 in 350ms, token bucket empty, pool 20/20 (sk-1)\n\tat Cart.pay";
    assert_eq!(redact(text), text);
}

#[test]
fn what_lies_to_the_eye_is_dropped() {
    check(
        "a\u{202E}b\u{200B}c\x1b[31md\x07\r\n\te\u{E0041}",
        expect_test::expect![[r#"
        abcd
        	e"#]],
    );
}

#[test]
fn redaction_is_stable() {
    let once = redact("password: hunter22, Bearer abcdefghijklmnop");
    assert_eq!(redact(&once), once);
}

/// What an on-call engineer reads a log for.
#[test]
fn identifiers_of_an_estate_are_left_alone() {
    let text = r#"pod shop/checkout-7d9f8b6c5-x2k4p restarted 3 times (OOMKilled), ReplicaSet auth-service-84bb7cd4d9
image: registry.example.com:5000/shop/cart:v1.4.0@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12: fix token refresh, from 9aeba04 to b510cdf
trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7 status=500
traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
requestID=0b9f0b6e-8b5a-4f0e-9d55-3c6f1c0a7a11 user=system:serviceaccount:shop:cart verb=get resource=secrets
MountVolume.SetUp failed for volume "cart-token-x2k4p" : secret "cart-credentials" not found
    valueFrom: {secretKeyRef: {name: cart-db, key: password}}
imagePullSecrets:
- name: regcred
automountServiceAccountToken: false
https://grafana.example.com/d/abc123XYZ/cart?orgId=1&from=1764115200000&var-ns=shop
FATAL:  password authentication failed for user "cart"
Error: token expired at 2026-11-26T09:41:44Z (exp=1764115200); password: must not be empty
at com.acme.auth.TokenStoreImpl$RefreshTask.run(TokenStoreImpl.java:214)
consumer group cart, memberId=consumer-cart-1-0b9f0b6e-8b5a-4f0e-9d55-3c6f1c0a7a11, topic id rXqW0hQnTrGfKJ3jG3hvLg
PASSWORD=$DB_PASSWORD ./migrate --token-file /run/secrets/token --password-file=/etc/cart/pw
docker run -p 8080:80 cart:1.2.3 && mkdir -p /var/lib/cart && kubectl logs cart-7d9f8b6c5-x2k4p -p
max_tokens: 4096, tokens_used=512, token bucket empty, key=orders-42, code: 503, session cart-17 closed
config: cG9vbF9zaXplPTIwIHJlZ2lvbj1ldS1jZW50cmFsLTEgc2VydmljZT1jYXJ0IGxvZ19sZXZlbD1pbmZv
checksum/config: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
rate(oauth2_token_requests_total{job="auth",code=~"5.."}[5m]) > 0.05
image shop/pay:v1.0-20261126-1f3c9ab, index pk_order_line_items_archive, pod sk-recommendation-7d9f8b6c5-x2k4p
rate(live_sessions_by_region_5m[5m]) / ops_requests_total_rate5m, rk_line_items_by_region_2026
helm upgrade cart --set secret_name=checkout-credentials-v2, re_index_orders_2026_11_26_done
AUTH checkout-7d9f8b6c5-x2k4p accepted
check: PASS checkout-api
--- PASS: TestCheckout (0.02s)
token-gateway: checkout-db timeouts
token-svc: v2.3.1 -> v2.4.0
secret-rotator: cart-7d9f8b6c5, credential-broker: orders-eu-1, token-issuer: pool-20 full
smoke tests pass: checkout, cart"#;
    assert_eq!(redact(text), text);
}

/// A forged first line of a key must not blind the reader to what follows.
#[test]
fn a_key_without_an_end_hides_only_what_can_be_its_body() {
    let text = redact("-----BEGIN PRIVATE KEY-----\nERROR cart: pool exhausted\nERROR cart: 500");
    assert!(text.ends_with("ERROR cart: pool exhausted\nERROR cart: 500"), "{text}");
}

#[test]
fn nobody_hides_a_secret_in_a_mark_of_his_own() {
    check("password=[gannet77 redacted]", expect_test::expect!["password=[[secret redacted] redacted]"]);
}

struct Poison {
    id: String,
    text: String,
    secrets: Vec<String>,
}

fn poison() -> Vec<Poison> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("evals/poison");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let lines = files.iter().flat_map(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    let texts = |value: &serde_json::Value| {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    lines
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(&line).unwrap();
            let text = |field: &str| record[field].as_str().unwrap().to_owned();
            Poison { id: text("id"), text: text("text"), secrets: texts(&record["secrets"]) }
        })
        .collect()
}

/// Odd numbers were tuned on, even ones only counted.
#[test]
fn no_secret_of_the_poison_is_left() {
    let (mut played, mut missed) = ([0, 0], [0, 0]);
    for record in poison() {
        let number: usize = record.id.rsplit('-').next().unwrap().parse().unwrap();
        let safe = redact(&record.text);
        played[number % 2] += record.secrets.len();
        missed[number % 2] += record.secrets.iter().filter(|secret| safe.contains(secret.as_str())).count();
    }
    assert!(played[0] > 100 && played[1] > 100, "{played:?}");
    assert_eq!(missed, [0, 0], "even and odd, of {played:?}");
}

/// Also cut anywhere, with lines joined, and with odd characters put in: nothing panics, and a second
/// reading changes nothing.
#[test]
fn what_was_redacted_stays_as_it_is() {
    const ODD: [&str; 8] = ["\u{1}", "ß", "\u{336}", "密", "\\", "\"", "🔑", "[secret redacted]"];
    for (number, record) in poison().iter().enumerate().filter(|(_, record)| record.text.len() < 2_000) {
        let text = &record.text;
        let cut = (number * 7 % (text.len() + 1)..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap();
        let odd = ODD[number % ODD.len()];
        let variants = [
            text.clone(),
            text[..cut].to_owned(),
            text[cut..].to_owned(),
            text.replace('\n', " "),
            format!("{}{odd}{}", &text[..cut], &text[cut..]),
        ];
        for variant in variants {
            let once = redact(&variant);
            assert_eq!(redact(&once), once, "{}", record.id);
        }
    }
}

/// Text made to be slow costs what its length costs: every search from a key has a limit.
#[test]
fn hostile_text_takes_no_time_squared() {
    const BYTES: usize = 150_000;
    let hostile = [
        "<password><![CDATA[\n",
        "<password value=\"\n",
        "<a password ",
        "password=$(",
        "name: password value: <",
        "key/value: ",
        "key=",
        "key=$(",
        "Cookie: ",
        "Cookie: a=1; ",
        "Authorization: ",
        "Authorization: digest a ",
        "password ",
        "password:\n",
        "password:\n a: b\n",
        "key: |\n ",
        "| key ",
        "密码",
        "mysql -u ",
        "-----BEGIN PRIVATE KEY-----\n",
        "http://a:",
        "eyJ.",
    ];
    for unit in hostile {
        let text = unit.repeat(BYTES / unit.len());
        let begun = std::time::Instant::now();
        redact(&text);
        let took = begun.elapsed();
        // Squared, the first take minutes.
        assert!(took.as_secs() < 20, "{unit:?}: {took:?}");
    }
}

#[test]
fn a_value_longer_than_is_judged_is_hidden_whole() {
    let long = "Gannet77Kestrel42".repeat(1_000);
    assert_eq!(redact(&format!("password={long} n=1")), "password=[secret redacted] n=1");
    assert_eq!(
        redact(&format!("<password><![CDATA[{long}]]></password>")),
        "<password><![CDATA[[secret redacted]]]></password>"
    );
}
