//! Where requests may go whose address a model has a part in (S11).
//!
//! Invariants: every address that a name resolves to is judged, and the request goes to one of those
//! very addresses, so that a second look-up cannot answer otherwise (DNS rebinding); IPv4 within
//! IPv6 is judged as the IPv4 that it reaches; redirects and proxies are not followed; the addresses
//! of cloud metadata are never reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::redirect;
use url::{Host, Url};

/// Metadata of the large clouds: AWS, Azure and Google; Alibaba; AWS over IPv6.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];
/// Not on the public internet (IANA's special-purpose registries, RFC 6890 and later).
const SPECIAL: [&str; 27] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "64:ff9b:1::/48",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

#[derive(Debug, Clone, Default)]
pub struct Egress {
    /// Private networks that may be reached all the same.
    allowed: Vec<IpNet>,
}

/// A host with the addresses that it was found to have.
#[derive(Debug, Clone)]
pub struct Pinned {
    pub url: Url,
    addresses: Vec<SocketAddr>,
}

impl Egress {
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Looks the host up once and judges what it finds.
    pub async fn pin(&self, url: Url) -> Result<Pinned, String> {
        let port = url.port_or_known_default().ok_or("the address names no port")?;
        let addresses: Vec<SocketAddr> = match url.host() {
            None => return Err("the address names no host".to_owned()),
            Some(Host::Ipv4(address)) => vec![(address, port).into()],
            Some(Host::Ipv6(address)) => vec![(address, port).into()],
            Some(Host::Domain(name)) => tokio::net::lookup_host((name, port))
                .await
                .map_err(|why| format!("{name} cannot be found: {why}"))?
                .collect(),
        };
        self.judge(&addresses)?;
        Ok(Pinned { url, addresses })
    }

    /// One bad address refuses all: which of them is used is not ours to choose.
    fn judge(&self, addresses: &[SocketAddr]) -> Result<(), String> {
        if addresses.is_empty() {
            return Err("the host has no address".to_owned());
        }
        match addresses.iter().find(|address| !self.permits(address.ip())) {
            None => Ok(()),
            Some(bad) => Err(format!("{} is not a public address and in none of the allowed `networks`", bad.ip())),
        }
    }

    fn permits(&self, address: IpAddr) -> bool {
        let reached = reached(address);
        if METADATA.contains(&reached) {
            return false;
        }
        let special = SPECIAL.iter().filter_map(|net| net.parse::<IpNet>().ok()).any(|net| net.contains(&reached));
        !special || self.allowed.iter().any(|net| net.contains(&reached))
    }
}

impl Pinned {
    /// A client that can reach nothing else.
    pub fn client(&self, timeout: Duration) -> Result<reqwest::Client, String> {
        reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout.min(Duration::from_secs(5)))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .tls_info(true)
            .resolve_to_addrs(self.url.host_str().unwrap_or_default(), &self.addresses)
            .build()
            .map_err(|why| format!("no HTTP client: {why}"))
    }
}

/// The IPv4 address that an IPv6 one stands for: mapped and compatible (RFC 4291), NAT64 (RFC 6052),
/// 6to4 (RFC 3056).
fn reached(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let words = six.segments();
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match words {
        [0, 0, 0, 0, 0, 0xffff, high, low] => inner(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => inner(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        [0x2002, high, low, ..] => inner(high, low),
        _ => address,
    }
}

/// The answer up to `most` bytes, and whether there was more.
pub async fn read(mut response: reqwest::Response, most: usize) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = most - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok((body, true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, false))
}

/// The deepest reason that a failed request names, without the address that was asked.
pub fn why(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut deepest: &(dyn std::error::Error + 'static) = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let what = if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "no connection"
    } else {
        "failed"
    };
    format!("{what}: {deepest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(url: &str, allowed: &[&str]) -> bool {
        let egress = Egress::new(allowed.iter().map(|net| net.parse().unwrap()).collect());
        egress.pin(url.parse().unwrap()).await.is_ok()
    }

    #[test]
    fn every_special_network_is_one() {
        assert!(SPECIAL.iter().all(|net| net.parse::<IpNet>().is_ok()));
    }

    #[tokio::test]
    async fn private_addresses_are_refused_however_they_are_written() {
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0/",
            "http://localhost/",
            "http://10.1.2.3/",
            "http://192.168.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[::7f00:1]/",
            "http://[fe80::1]/",
            "http://[fd12::1]/",
            "http://100.64.0.1/",
            "http://[2001:0:4136:e378::1]/",
        ] {
            assert!(!check(url, &[]).await, "{url}");
        }
        assert!(check("http://8.8.8.8/", &[]).await);
        assert!(check("http://[2606:4700::1111]/", &[]).await);
    }

    #[tokio::test]
    async fn what_is_allowed_is_reached_and_metadata_never() {
        assert!(check("http://10.1.2.3/", &["10.1.0.0/16"]).await);
        assert!(check("http://[::ffff:10.1.2.3]/", &["10.1.0.0/16"]).await);
        assert!(!check("http://10.2.2.3/", &["10.1.0.0/16"]).await);
        assert!(!check("http://169.254.169.254/", &["0.0.0.0/0"]).await);
        assert!(!check("http://[::ffff:169.254.169.254]/", &["0.0.0.0/0", "::/0"]).await);
    }

    #[test]
    fn one_private_address_among_public_ones_refuses_the_host() {
        let judged = Egress::default().judge(&["8.8.8.8:80".parse().unwrap(), "127.0.0.1:80".parse().unwrap()]);
        assert!(judged.unwrap_err().starts_with("127.0.0.1 is not a public address"));
    }

    #[tokio::test]
    async fn a_name_that_answers_otherwise_later_is_not_asked_again() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = axum::Router::new().route("/", axum::routing::get(|| async { "pinned" }));
        tokio::spawn(async move { axum::serve(listener, app).await });
        // No resolver knows the name: only the pinned address can answer.
        let url: Url = format!("http://rebinding.invalid:{port}/").parse().unwrap();
        let pinned = Pinned { url: url.clone(), addresses: vec![([127, 0, 0, 1], port).into()] };
        let response = pinned.client(Duration::from_secs(5)).unwrap().get(url).send().await.unwrap();
        assert_eq!(read(response, 3).await.unwrap(), (b"pin".to_vec(), true));
    }
}
