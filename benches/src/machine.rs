//! What the measurements were made on, and how what was measured was compiled.

use std::fs;
use std::process::Command;

/// The name of the CPU.
#[must_use]
pub fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    field(&text, "model name").unwrap_or_else(|| "an unknown CPU".to_owned())
}

/// What the CPU can, of what code for packets and tables may use.
#[must_use]
pub fn cpu_flags() -> String {
    const MATTER: [&str; 9] =
        ["sse4_2", "popcnt", "aes", "bmi2", "avx2", "avx512f", "avx512bw", "avx512vl", "pdpe1gb"];
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = field(&text, "flags").unwrap_or_default();
    let has: Vec<&str> = has.split(' ').filter(|flag| MATTER.contains(flag)).collect();
    has.join(" ")
}

/// The kernel's version.
#[must_use]
pub fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// How the director was compiled, in the same build as this program.
#[must_use]
pub fn director_build() -> String {
    let flags = match env!("BENCH_RUSTFLAGS") {
        "" => "no RUSTFLAGS".to_owned(),
        flags => format!("RUSTFLAGS {flags}"),
    };
    let (rustc, profile, features) =
        (env!("BENCH_RUSTC"), env!("BENCH_PROFILE"), env!("BENCH_TARGET_FEATURES"));
    format!("{rustc}, profile {profile}, {flags}, CPU features {features}")
}

/// How `dpdk-testpmd` was compiled, as far as its package says.
#[must_use]
pub fn testpmd_build() -> String {
    let version =
        output("of unknown version", "dpkg-query", &["--show", "--showformat", "${Version}", "dpdk"]);
    let flags = output("", "pkg-config", &["--cflags-only-other", "libdpdk"]);
    let march = flags.split_whitespace().find(|flag| flag.starts_with("-march=")).unwrap_or("-march unknown");
    format!("Debian's dpdk {version}, {march}")
}

fn output(otherwise: &str, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => otherwise.to_owned(),
    }
}

/// The first value of a key of /proc/cpuinfo.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_field_of_cpuinfo() {
        let text = "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Some CPU @ 2.30GHz\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU @ 2.30GHz"));
        assert_eq!(field(text, "flags"), None);
    }
}
