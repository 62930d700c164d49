//! The ports that stand for clients (`hairpin_snat`) must not be among those that the kernel gives to its own
//! connections.

use anyhow::{Context, Result, ensure};
use director_config::Config;
use director_engine::HAIRPIN_PORTS;

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Checks that the kernel does not use them, if a service needs them.
pub(crate) fn check(config: &Config) -> Result<()> {
    if !config.services.iter().any(|service| service.hairpin_snat) {
        return Ok(());
    }
    let read = |path| std::fs::read_to_string(path).with_context(|| format!("reading {path}"));
    let (range, reserved) = (read(RANGE)?, read(RESERVED)?);
    let (first, last) = (HAIRPIN_PORTS.start(), HAIRPIN_PORTS.end());
    ensure!(
        are_free(&range, &reserved),
        "`hairpin_snat` needs the ports {first} to {last} of the director's addresses, and the kernel gives some \
         of them to its own connections (net.ipv4.ip_local_port_range is {}): sysctl -w \
         net.ipv4.ip_local_reserved_ports={first}-{last}",
        range.trim().replace('\t', " to ")
    );
    Ok(())
}

/// By the contents of the two sysctls.
fn are_free(range: &str, reserved: &str) -> bool {
    let mut given = range.split_whitespace().map(str::parse);
    let (Some(Ok(low)), Some(Ok(high))) = (given.next(), given.next()) else { return false };
    let reserved: Vec<(u16, u16)> = reserved
        .trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.parse().ok()?, last.parse().ok()?))
        })
        .collect();
    let is_given = |port: &u16| (low..=high).contains(port);
    let is_reserved = |port: u16| reserved.iter().any(|(first, last)| (*first..=*last).contains(&port));
    HAIRPIN_PORTS.filter(is_given).all(is_reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_gives_and_keeps_back() {
        assert!(are_free("32768\t60999\n", "\n"));
        assert!(!are_free("32768\t61000\n", "\n"));
        assert!(!are_free("1024\t65535\n", "8080,61000-65534\n"));
        assert!(are_free("1024\t65535\n", "8080,61000-61999,62000-65535\n"));
        assert!(are_free("1024\t61000\n", "61000\n"));
        assert!(!are_free("", ""));
    }
}
